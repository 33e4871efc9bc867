"""Activations that torch lacks: a scaled tanh, and units of several inputs, which need a wider layer before them.

A unit of several inputs has an attribute `expansion`, the number of input channels (dim 1) per output channel:
(N, C * expansion, ...) -> (N, C, ...). The inputs of a unit are adjacent channels, so that each group of a grouped convolution keeps
its own units. `match` says what the net holds fixed: with `width`, every layer has as many output channels as written and `expansion`
times the weights; with `parameters`, the net is narrowed to the parameter count that it has with a plain activation.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from bakeoff.errors import check_argument

# The names that a config may use as a target.
__all__ = ["Maxout", "ReGLU", "ScaledTanh", "SwiGLU"]

Match = Literal["parameters", "width"]
Norm = Literal["none", "rms"]


class ScaledTanh(nn.Module):
    """amplitude * tanh(slope * z): LeCun, Bottou, Orr, Mueller, "Efficient BackProp" (1998), section 4.4, with 1.7159 and 2/3.

    With these numbers f(1) = 1, f(-1) = -1, and the second derivative is largest at 1.
    """

    def __init__(self, *, amplitude: float = 1.7159, slope: float = 2 / 3) -> None:
        """Set the function's two scales, both finite and above 0."""
        super().__init__()
        for name, value in (("amplitude", amplitude), ("slope", slope)):
            check_argument(name, value, fits=math.isfinite(value) and value > 0, rule="must be a finite number above 0")
        self.amplitude, self.slope = amplitude, slope

    def forward(self, z: Tensor) -> Tensor:
        """Return f(z), elementwise."""
        return self.amplitude * (self.slope * z).tanh()

    def extra_repr(self) -> str:
        """Return amplitude and slope, as print shows them."""
        return f"amplitude={self.amplitude}, slope={self.slope}"


class _MultiInput(nn.Module):
    """A unit of `expansion` inputs."""

    def __init__(self, *, expansion: int, match: Match) -> None:
        super().__init__()
        check_argument("match", match, fits=match in ("parameters", "width"), rule="choices: parameters, width")
        self.expansion, self.match = expansion, match

    def split_inputs(self, z: Tensor) -> Tensor:
        """Return (N, C * expansion, ...) as (N, C, expansion, ...)."""
        fits = z.shape[1] % self.expansion == 0
        rule = f"{type(self).__name__} takes {self.expansion} channels per unit, which do not divide {z.shape[1]} channels"
        check_argument("expansion", self.expansion, fits=fits, rule=rule)
        return z.view(z.shape[0], -1, self.expansion, *z.shape[2:])

    def extra_repr(self) -> str:
        """Return the number of inputs and what is held fixed, as print shows them."""
        return f"expansion={self.expansion}, match={self.match}"


class Maxout(_MultiInput):
    """The largest of `pieces` inputs: Goodfellow, Warde-Farley, Mirza, Courville, Bengio, "Maxout networks" (arXiv:1302.4389)."""

    def __init__(self, *, pieces: int = 2, match: Match = "parameters") -> None:
        """Set the number of inputs (2 or more) and what a net holds fixed."""
        check_argument("pieces", pieces, fits=pieces >= 2, rule="must be at least 2")
        super().__init__(expansion=pieces, match=match)

    def forward(self, z: Tensor) -> Tensor:
        """Map (N, C * pieces, ...) to (N, C, ...)."""
        return self.split_inputs(z).amax(2)


class _Gated(_MultiInput):
    """A unit of a gate and a value."""

    def __init__(self, *, match: Match = "parameters", norm: Norm = "none") -> None:
        super().__init__(expansion=2, match=match)
        check_argument("norm", norm, fits=norm in ("none", "rms"), rule="choices: none, rms")
        self.norm = norm

    def gate_and_value(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return gate and value (N, C, ...) of (N, 2 C, ...), which `norm="rms"` first divides by the root mean square of the 2 C."""
        if self.norm == "rms":
            z = z * torch.rsqrt(z.square().mean(1, keepdim=True) + torch.finfo(z.dtype).eps)
        gate, value = self.split_inputs(z).unbind(2)
        return gate, value

    def pointwise(self) -> nn.Module:
        """Return the function of a single unit, without the norm, which divides by 1 in a wide layer with inputs of mean square 1."""
        return type(self)(match=self.match)

    def extra_repr(self) -> str:
        """Return what is held fixed and how inputs are normalized, as print shows them."""
        return f"match={self.match}, norm={self.norm}"


class ReGLU(_Gated):
    """max(0, a) * b of two inputs a, b: Shazeer, "GLU variants improve transformer" (arXiv:2002.05202), equation 5.

    The product squares the scale of a signal in every layer, so that L layers multiply the logarithm of any error of scale by 2^L:
    deep nets overflow or vanish, whatever the gain, and batch norm, with one scale for all images, does not prevent it. In the
    paper's net each gated layer follows a root-mean-square norm; norm="rms" normalizes the unit's inputs, over all channels of one
    image and position (Zhang, Sennrich, arXiv:1910.07467, without a learned scale).
    """

    def forward(self, z: Tensor) -> Tensor:
        """Map (N, 2 C, ...) to (N, C, ...)."""
        gate, value = self.gate_and_value(z)
        return gate.relu() * value


class SwiGLU(_Gated):
    """a * sigmoid(a) * b of two inputs a, b: Shazeer (arXiv:2002.05202), equation 5, with swish's beta at 1; `norm` as for ReGLU."""

    def forward(self, z: Tensor) -> Tensor:
        """Map (N, 2 C, ...) to (N, C, ...)."""
        gate, value = self.gate_and_value(z)
        return nn.functional.silu(gate) * value
