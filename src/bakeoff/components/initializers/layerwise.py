"""Initializers that a paper specifies layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bakeoff.components.initializers.base import ConstantBias, Fans, check_positive, weighted_layers

RAISED_CONVOLUTIONS = (1, 3, 4)
"""Those with a raised bias: conv2, conv4 and conv5, counted from 0."""


@dataclass(frozen=True, kw_only=True)
class AlexNetPaper(ConstantBias):
    """N(0, std^2) in every layer; biases `bias` in conv2, conv4, conv5 and the hidden fully connected layers, 0 in the others.

    Krizhevsky, Sutskever, Hinton (2012), section 5, with 0.01 and 1, "to provide the ReLUs with positive inputs".
    Caffe's widely copied reference net has bias 0.1 and, in the hidden fully connected layers, `hidden_std` 0.005. In a net of
    another shape, the same positions apply: its second, fourth and fifth convolution, and every linear layer but the last.
    """

    std: float = 0.01
    hidden_std: float = 0.01
    bias: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("std", "hidden_std"):
            check_positive(name, getattr(self, name))

    def fill(self, weight: Tensor, *, fans: Fans, gain: float, generator: torch.Generator) -> None:
        """Draw from N(0, (gain * std)^2)."""
        weight.normal_(0.0, gain * self.std, generator=generator)

    @torch.no_grad()
    def __call__(self, net: nn.Module, *, activation_gain: float, generator: torch.Generator) -> Mapping[str, str] | None:
        """Fill `net` in place; see `Initializer.__call__`."""
        layers = list(weighted_layers(net))
        hidden = [layer for layer in layers if isinstance(layer, nn.Linear)][:-1]
        convolutions = [layer for layer in layers if not isinstance(layer, nn.Linear)]
        raised = [*hidden, *(convolutions[index] for index in RAISED_CONVOLUTIONS if index < len(convolutions))]
        for layer in layers:
            self.fill_layer(layer, gain=self.hidden_std / self.std if layer in hidden else 1.0, generator=generator)
            if layer not in raised and isinstance(layer.bias, Tensor):
                layer.bias.zero_()
        return None
