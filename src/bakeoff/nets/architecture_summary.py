"""What a built net is, read from its modules in words that can be compared, and the paper's net beside it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import torch
from torch import nn

from bakeoff.nets.convnet import ConvNet

CLASSES, CHANNELS = 1000, 3


def published_net(net: ConvNet) -> ConvNet:
    """The paper's net that `net` goes back to, for 1000 classes and coloured pictures of the paper's size, on the meta device."""
    kind = type(net).paper()
    with torch.device("meta"):
        return kind(num_classes=CLASSES, in_channels=CHANNELS, activation=nn.ReLU, head="imagenet", size=kind.native["imagenet"])


def summarize_architecture(net: ConvNet) -> dict[str, str]:
    """What decides a net's function and size, property by property; lists are in the order of the layers."""
    convs = [layer for layer in net.features if isinstance(layer, nn.Conv2d)]
    full = [layer for layer in net.classifier if isinstance(layer, nn.Linear)]
    norms = places(net, nn.LocalResponseNorm)
    features = f"{full[0].in_features // net.side**2}x{net.side}x{net.side}"
    return {
        "input": f"{net.size}x{net.size}",
        "channels": counted(str(conv.out_channels) for conv in convs),
        "kernels": listed_once(f"{conv.kernel_size[0]}/{conv.stride[0]}".removesuffix("/1") for conv in convs),
        "padding": listed_once(str(conv.padding[0]) for conv in convs),
        "groups": listed_once(str(conv.groups) for conv in convs),
        "batch norm": placed(net, nn.BatchNorm2d),
        "LRN": ", ".join(norms.values()) or "none",
        "LRN settings": ", ".join(norms) or "none",
        "pooling": placed(net, nn.MaxPool2d, nn.AvgPool2d),
        "features": features if net.squeeze is None else f"averaged to {features}",
        "dropout": dropped(net),
        "fully connected": " ".join(str(layer.out_features) for layer in full),
        "parameters": f"{sum(weight.numel() for weight in net.parameters()):,}",
    }


def counted(words: Iterable[str]) -> str:
    """Repeated neighbours told once: `2x64 2x128`."""
    groups = ((len(list(group)), word) for word, group in itertools.groupby(words))
    return " ".join(word if number == 1 else f"{number}x{word}" for number, word in groups)


def listed_once(words: Iterable[str]) -> str:
    """All words, or `3 in all` where there is but one."""
    found = list(words)
    return f"{found[0]} in all" if len(set(found)) == 1 else " ".join(found)


def places(net: ConvNet, *kinds: type[nn.Module]) -> dict[str, str]:
    """Settings of the modules of these kinds among the convolutions -> the convolutions that have them."""
    found: dict[str, list[str]] = {}
    layers = list(net.features)
    number = 0
    for place, layer in enumerate(layers):
        number += isinstance(layer, nn.Conv2d)
        if isinstance(layer, kinds):
            found.setdefault(told(layer, layers[place - 1]), []).append(f"conv{number}")
    return {words: "all" if len(where) == number else " ".join(where) for words, where in found.items()}


def placed(net: ConvNet, *kinds: type[nn.Module]) -> str:
    """`places` in one line, or `none`."""
    return "; ".join(f"{words}: {where}" for words, where in places(net, *kinds).items()) or "none"


def told(layer: nn.Module, before: nn.Module) -> str:
    """One norm or pooling in a few words; `before` is the module in front of it."""
    if isinstance(layer, nn.BatchNorm2d):
        return "before the activation" if isinstance(before, nn.Conv2d) else "after the activation"
    if isinstance(layer, nn.LocalResponseNorm):
        # The formula's alpha multiplies the sum; torch's the mean.
        return f"k={layer.k:g} n={layer.size} alpha={layer.alpha / layer.size:.0e} beta={layer.beta:g}".replace("e-0", "e-")
    assert isinstance(layer, nn.MaxPool2d | nn.AvgPool2d)
    padding = f" pad {layer.padding}" if layer.padding else ""
    return f"{'max' if isinstance(layer, nn.MaxPool2d) else 'mean'} {layer.kernel_size}x{layer.kernel_size}/{layer.stride}{padding}"


def dropped(net: ConvNet) -> str:
    """Rate, kind and place of dropout: `0.5 before fc2 fc3`."""
    found: dict[str, list[str]] = {}
    number = 1
    for layer in net.classifier:
        number += isinstance(layer, nn.Linear)
        if isinstance(layer, nn.Dropout | nn.AlphaDropout):
            kind = "alpha " if isinstance(layer, nn.AlphaDropout) else ""
            found.setdefault(f"{kind}{layer.p:g}", []).append(f"fc{number}")
    return "; ".join(f"{words} before {' '.join(where)}" for words, where in found.items()) or "none"
