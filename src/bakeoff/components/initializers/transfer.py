"""An initializer that starts a net from the trained weights of another run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from bakeoff.components.initializers.base import WEIGHTED, Fans, Initializer
from bakeoff.components.initializers.distributions import HeNormal
from bakeoff.errors import ChoiceError, join_choices, near_miss

POOLINGS = (nn.MaxPool2d, nn.AvgPool2d, nn.LPPool2d)
RULES = ("vgg_paper", "matching")
FIRST = 4
"""Convolutions that the paper of VGG takes over."""


def places(net: nn.Module) -> dict[str, nn.Module]:
    """The weighted layers of a net by their place: conv1_1, conv1_2, ... (stage, which a pooling ends, and number in it), fc1, fc2, ..."""
    found: dict[str, nn.Module] = {}
    stage, number, linear = 1, 0, 0
    for module in net.modules():
        if isinstance(module, POOLINGS):
            stage, number = stage + (number > 0), 0
        elif isinstance(module, nn.Linear):
            linear += 1
            found[f"fc{linear}"] = module
        elif isinstance(module, WEIGHTED):
            number += 1
            found[f"conv{stage}_{number}"] = module
    return found


@dataclass(frozen=True, kw_only=True)
class FromRun(Initializer):
    """Copies layers (weights and biases) from the trained net of run `run`, and fills the others by the initializer `rest`.

    A layer is known by its place: `conv2_1` is the first convolution behind the first pooling, `fc1` the first linear layer.
    layers="vgg_paper": the first four convolutions of the trained net and its last three linear layers, each to the same place of
    this net: from net A (VGG-11) conv1_1, conv2_1, conv3_1, conv3_2 and fc1 to fc3, as Simonyan, Zisserman (arXiv:1409.1556), section
    3.1, started nets B to E. layers="matching": every place that both nets have with the same shape; others are left out. A list
    such as [conv1_1, fc3]: those.

    Errors: ChoiceError where a layer that is named (by the list or the paper's rule) is missing or of another shape in one of the two,
    where none matches, and for an unknown rule or place. Batch norms and slopes of activations stay as they are.
    """

    needs_source: ClassVar[bool] = True
    run: str | None = None
    layers: str | list[str] = "vgg_paper"
    rest: Initializer = field(default_factory=HeNormal)

    def __post_init__(self) -> None:
        if isinstance(self.layers, str) and self.layers not in RULES:
            missed = near_miss(self.layers, RULES)
            raise ChoiceError(
                f"initializer.layers={self.layers}: no such rule{missed}; choices: {join_choices(RULES)}, or a list of places"
            )
        if self.rest.needs_source or self.rest.needs_images:
            raise ChoiceError(f"initializer.rest: {type(self.rest).__name__} needs more than a generator; take another")

    def resolve(self, activation_gain: float) -> float:
        return self.rest.resolve(activation_gain)

    def fill(self, weight: Tensor, *, fans: Fans, gain: float, generator: torch.Generator) -> None:
        self.rest.fill(weight, fans=fans, gain=gain, generator=generator)

    def fill_bias(self, bias: Tensor, *, fans: Fans, generator: torch.Generator) -> None:
        self.rest.fill_bias(bias, fans=fans, generator=generator)

    def pairs(self, net: nn.Module, source: nn.Module) -> dict[str, tuple[nn.Module, nn.Module]]:
        """Place -> (layer of `net`, the layer of `source` that it copies)."""
        here, there = places(net), places(source)
        if self.layers == "matching":
            found = [place for place in here if place in there and shapes(here[place]) == shapes(there[place])]
            if not found:
                raise ChoiceError(f"initializer.layers=matching: run {self.run} has no layer of the same place and shape as this net")
            return {place: (here[place], there[place]) for place in found}
        if isinstance(self.layers, str):
            chosen = [place for place in there if place.startswith("conv")][:FIRST] + [place for place in there if place.startswith("fc")][
                -3:
            ]
        else:
            chosen = list(self.layers)
        for known, whose in ((there, f"run {self.run}"), (here, "this net")):
            for place in chosen:
                if place not in known:
                    raise ChoiceError(
                        f"initializer.layers: {whose} has no layer {place}{near_miss(place, known)}; it has {join_choices(known)}"
                    )
        for place in chosen:
            if shapes(here[place]) != shapes(there[place]):
                raise ChoiceError(
                    f"initializer.layers: {place} has shape {shapes(there[place])[0]} in run {self.run} and {shapes(here[place])[0]} here; "
                    "initializer.layers=matching leaves such layers out"
                )
        return {place: (here[place], there[place]) for place in chosen}

    @torch.no_grad()
    def __call__(
        self, net: nn.Module, *, activation_gain: float, generator: torch.Generator, source: nn.Module | None = None
    ) -> Mapping[str, str] | None:
        """As `Initializer.__call__`, with the trained net; the facts are how many layers were copied, which, and a digest of them.

        `rest` draws for the whole net first, so that a layer that is not copied starts with the same numbers whatever else is.
        """
        assert source is not None, "build hands the trained net on"
        self.rest(net, activation_gain=activation_gain, generator=generator)
        digest = hashlib.sha256()
        copied = self.pairs(net, source)
        for layer, trained in copied.values():
            for name, parameter in layer.named_parameters(recurse=False):
                value = trained.get_parameter(name).detach()
                parameter.copy_(value)
                digest.update(value.float().contiguous().cpu().numpy().tobytes())
        return {
            "initializer.copied": str(len(copied)),
            "initializer.copied_layers": join_choices(copied),
            "initializer.copied_digest": digest.hexdigest()[:16],
        }


def shapes(layer: nn.Module) -> tuple[tuple[int, ...], ...]:
    """The shapes of a layer's weight and, where it has one, its bias."""
    return tuple(tuple(parameter.shape) for parameter in layer.parameters(recurse=False))
