"""The properties of a net as text, read from its modules, to compare it with the published net."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import torch
from torch import nn

from bakeoff.nets.convnet import ConvNet

CLASSES, CHANNELS = 1000, 3


def published_net(net: ConvNet) -> ConvNet:
    """Return the published net from which `net` derives, for 1000 classes and colour images of its native size, on the meta device."""
    kind = type(net).published_variant()
    with torch.device("meta"):
        return kind(num_classes=CLASSES, in_channels=CHANNELS, activation=nn.ReLU, head="imagenet", size=kind.native_sizes["imagenet"])


def summarize_architecture(net: ConvNet) -> dict[str, str]:
    """Return the properties that determine a net's function and size; lists are in the order of the layers."""
    convs = [layer for layer in net.features if isinstance(layer, nn.Conv2d)]
    linears = [layer for layer in net.classifier if isinstance(layer, nn.Linear)]
    lrn_places = _places_by_setting(net, nn.LocalResponseNorm)
    features = f"{linears[0].in_features // net.feature_size**2}x{net.feature_size}x{net.feature_size}"
    return {
        "input": f"{net.size}x{net.size}",
        "channels": _run_lengths(str(conv.out_channels) for conv in convs),
        "kernels": _join_or_all(f"{conv.kernel_size[0]}/{conv.stride[0]}".removesuffix("/1") for conv in convs),
        "padding": _join_or_all(str(conv.padding[0]) for conv in convs),
        "groups": _join_or_all(str(conv.groups) for conv in convs),
        "batch norm": _settings_and_places(net, nn.BatchNorm2d),
        "LRN": ", ".join(lrn_places.values()) or "none",
        "LRN settings": ", ".join(lrn_places) or "none",
        "pooling": _settings_and_places(net, nn.MaxPool2d, nn.AvgPool2d),
        "features": features if net.adaptive_pool_size is None else f"averaged to {features}",
        "dropout": _dropout(net),
        "fully connected": " ".join(str(layer.out_features) for layer in linears),
        "parameters": f"{sum(weight.numel() for weight in net.parameters()):,}",
    }


def _run_lengths(words: Iterable[str]) -> str:
    """Return the words with repeated neighbours as one: `2x64 2x128`."""
    groups = ((len(list(group)), word) for word, group in itertools.groupby(words))
    return " ".join(word if length == 1 else f"{length}x{word}" for length, word in groups)


def _join_or_all(words: Iterable[str]) -> str:
    """Return all words, or `3 in all` where they are the same."""
    listed = list(words)
    return f"{listed[0]} in all" if len(set(listed)) == 1 else " ".join(listed)


def _places_by_setting(net: ConvNet, *kinds: type[nn.Module]) -> dict[str, str]:
    """Return settings of the modules of these kinds -> the convolutions that they follow."""
    places: dict[str, list[str]] = {}
    layers = list(net.features)
    number = 0
    for index, layer in enumerate(layers):
        number += isinstance(layer, nn.Conv2d)
        if isinstance(layer, kinds):
            places.setdefault(_describe_layer(layer, layers[index - 1]), []).append(f"conv{number}")
    return {setting: "all" if len(convs) == number else " ".join(convs) for setting, convs in places.items()}


def _settings_and_places(net: ConvNet, *kinds: type[nn.Module]) -> str:
    """Return `_places_by_setting` in one line, or `none`."""
    return "; ".join(f"{setting}: {convs}" for setting, convs in _places_by_setting(net, *kinds).items()) or "none"


def _describe_layer(layer: nn.Module, previous: nn.Module) -> str:
    """Return the settings of a normalization or pooling; `previous` is the module before it."""
    if isinstance(layer, nn.BatchNorm2d):
        return "before the activation" if isinstance(previous, nn.Conv2d) else "after the activation"
    if isinstance(layer, nn.LocalResponseNorm):
        # The formula's alpha multiplies the sum; torch's the mean.
        return f"k={layer.k:g} n={layer.size} alpha={layer.alpha / layer.size:.0e} beta={layer.beta:g}".replace("e-0", "e-")
    assert isinstance(layer, nn.MaxPool2d | nn.AvgPool2d)
    padding = f" pad {layer.padding}" if layer.padding else ""
    return f"{'max' if isinstance(layer, nn.MaxPool2d) else 'mean'} {layer.kernel_size}x{layer.kernel_size}/{layer.stride}{padding}"


def _dropout(net: ConvNet) -> str:
    """Return rate, kind and place of dropout: `0.5 before fc2 fc3`."""
    places: dict[str, list[str]] = {}
    number = 1
    for layer in net.classifier:
        number += isinstance(layer, nn.Linear)
        if isinstance(layer, nn.Dropout | nn.AlphaDropout):
            kind = "alpha " if isinstance(layer, nn.AlphaDropout) else ""
            places.setdefault(f"{kind}{layer.p:g}", []).append(f"fc{number}")
    return "; ".join(f"{setting} before {' '.join(layers)}" for setting, layers in places.items()) or "none"
