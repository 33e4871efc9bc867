"""An initializer that starts a net from the trained weights of another run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from bakeoff.components.initializers.base import WEIGHTED_LAYERS, Fans, Initializer
from bakeoff.components.initializers.distributions import HeNormal
from bakeoff.errors import ArgumentError, join_choices, near_miss

POOLINGS = (nn.MaxPool2d, nn.AvgPool2d, nn.LPPool2d)
RULES = ("vgg_paper", "matching")
PAPER_CONVOLUTIONS, PAPER_LINEARS = 4, 3
"""How many of the first convolutions and last linear layers VGG's paper copies."""


def layers_by_position(net: nn.Module) -> dict[str, nn.Module]:
    """Return the weighted layers of a net by position.

    Positions are conv1_1, conv1_2, ... (the stage, which a pooling ends, and the number in it), and fc1, fc2, ...
    """
    layers: dict[str, nn.Module] = {}
    stage, number, linear = 1, 0, 0
    for module in net.modules():
        if isinstance(module, POOLINGS):
            stage, number = stage + (number > 0), 0
        elif isinstance(module, nn.Linear):
            linear += 1
            layers[f"fc{linear}"] = module
        elif isinstance(module, WEIGHTED_LAYERS):
            number += 1
            layers[f"conv{stage}_{number}"] = module
    return layers


@dataclass(frozen=True, kw_only=True)
class FromRun(Initializer):
    """Copies layers (weights and biases) from the trained net of run `run`, and fills the others by the initializer `rest`.

    A layer is identified by its position: `conv2_1` is the first convolution after the first pooling, `fc1` the first linear layer.
    layers="vgg_paper": the first four convolutions of the trained net and its last three linear layers, each to the same position of
    this net: from net A (VGG-11) conv1_1, conv2_1, conv3_1, conv3_2 and fc1 to fc3, as Simonyan, Zisserman (arXiv:1409.1556), section
    3.1, started nets B to E. layers="matching": every position that both nets have with the same shape. layers=[conv1_1, fc3]: the
    listed positions.

    Batch norms and slopes of activations are not copied. ArgumentError is raised if a required layer is missing from either net or
    its shapes differ, if no layer matches, and for an unknown rule or position.
    """

    needs_source: ClassVar[bool] = True
    run: str | None = None
    layers: str | list[str] = "vgg_paper"
    rest: Initializer = field(default_factory=HeNormal)

    def __post_init__(self) -> None:
        """Check the rule and the initializer of the rest."""
        if isinstance(self.layers, str) and self.layers not in RULES:
            suggestion = near_miss(self.layers, RULES)
            raise ArgumentError(f"layers={self.layers}: no such rule{suggestion}; choices: {join_choices(RULES)}, or a list of positions")
        if self.rest.needs_source or self.rest.needs_images:
            raise ArgumentError(f"`rest`: {type(self.rest).__name__} also needs images or a trained net; choose another initializer")

    def resolve_gain(self, activation_gain: float) -> float:
        """Return the gain of `rest`."""
        return self.rest.resolve_gain(activation_gain)

    def fill(self, weight: Tensor, *, fans: Fans, gain: float, generator: torch.Generator) -> None:
        """Fill one weight by `rest`."""
        self.rest.fill(weight, fans=fans, gain=gain, generator=generator)

    def fill_bias(self, bias: Tensor, *, fans: Fans, generator: torch.Generator) -> None:
        """Fill one bias by `rest`."""
        self.rest.fill_bias(bias, fans=fans, generator=generator)

    def pair_layers(self, net: nn.Module, source: nn.Module) -> dict[str, tuple[nn.Module, nn.Module]]:
        """Return the layers to copy: position -> (layer of `net`, layer of `source`)."""
        targets, sources = layers_by_position(net), layers_by_position(source)
        if self.layers == "matching":
            positions = [at for at, layer in targets.items() if at in sources and parameter_shapes(layer) == parameter_shapes(sources[at])]
            if not positions:
                raise ArgumentError(f"layers=matching: run {self.run} has no layer of the same position and shape as this net")
        elif isinstance(self.layers, str):
            convolutions = [position for position in sources if position.startswith("conv")]
            linears = [position for position in sources if position.startswith("fc")]
            positions = convolutions[:PAPER_CONVOLUTIONS] + linears[-PAPER_LINEARS:]
        else:
            positions = list(self.layers)
        for layers, owner in ((sources, f"run {self.run}"), (targets, "this net")):
            for position in positions:
                if position not in layers:
                    suggestion = near_miss(position, layers)
                    raise ArgumentError(f"`layers`: {owner} has no layer {position}{suggestion}; it has {join_choices(layers)}")
        for position in positions:
            source_shapes, target_shapes = parameter_shapes(sources[position]), parameter_shapes(targets[position])
            if source_shapes != target_shapes:
                raise ArgumentError(
                    f"`layers`: {position} has shape {source_shapes[0]} in run {self.run} and {target_shapes[0]} in this net; "
                    "layers=matching leaves such layers out"
                )
        return {position: (targets[position], sources[position]) for position in positions}

    @torch.no_grad()
    def __call__(
        self, net: nn.Module, *, activation_gain: float, generator: torch.Generator, source: nn.Module | None = None
    ) -> Mapping[str, str] | None:
        """Fill `net` in place from the trained net `source`; see `Initializer.__call__`.

        The tags are the number of copied layers, their positions, and a digest of their values. `rest` first draws for the entire net,
        so that a layer that is not copied starts with the same numbers whichever layers are.
        """
        assert source is not None, "an initializer with needs_source gets it from its caller"
        self.rest(net, activation_gain=activation_gain, generator=generator)
        digest = hashlib.sha256()
        copied = self.pair_layers(net, source)
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


def parameter_shapes(layer: nn.Module) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of a layer's weight and, where it has one, its bias."""
    return tuple(tuple(parameter.shape) for parameter in layer.parameters(recurse=False))
