"""Initializers that a paper writes out layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bakeoff.components.initializers.base import Biased, Fans, finite, require, weighted

RAISED = (1, 3, 4)
"""conv2, conv4 and conv5, counted from 0."""


@dataclass(frozen=True, kw_only=True)
class AlexNetPaper(Biased):
    """N(0, std^2) in every layer; biases `bias` in conv2, conv4, conv5 and the hidden fully connected layers, 0 in the others, "to
    provide the ReLUs with positive inputs": Krizhevsky, Sutskever, Hinton (2012), section 5, with 0.01 and 1.

    The widely copied reading of Caffe's reference net has bias 0.1 and `hidden_std` 0.005 in the hidden fully connected layers. In a
    net of another shape the same places count: its second, fourth and fifth convolution, and every linear layer but the last.
    """

    std: float = 0.01
    hidden_std: float = 0.01
    bias: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("std", "hidden_std"):
            value = getattr(self, key)
            require(key, value, fits=finite(value) and value > 0, rule="must be a finite number above 0")

    def fill(self, weight: Tensor, *, fans: Fans, gain: float, generator: torch.Generator) -> None:
        weight.normal_(0.0, gain * self.std, generator=generator)

    @torch.no_grad()
    def __call__(self, net: nn.Module, *, activation_gain: float, generator: torch.Generator) -> Mapping[str, str] | None:
        """As `Initializer.__call__`."""
        layers = list(weighted(net))
        hidden = [layer for layer in layers if isinstance(layer, nn.Linear)][:-1]
        convolutions = [layer for layer in layers if not isinstance(layer, nn.Linear)]
        raised = [*hidden, *(convolutions[place] for place in RAISED if place < len(convolutions))]
        for layer in layers:
            self.set(layer, gain=self.hidden_std / self.std if layer in hidden else 1.0, generator=generator)
            if layer not in raised and isinstance(layer.bias, Tensor):
                layer.bias.zero_()
        return None
