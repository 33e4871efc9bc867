"""Activations that torch lacks: a scaled tanh, and units of several inputs, which ask for a wider layer before them.

A unit of several inputs has an attribute `expansion`, the number of channels (dim 1) that it takes for each one that it gives:
[batch, C * expansion, ...] -> [batch, C, ...]. The inputs of one unit lie beside each other, so that each group of a grouped
convolution keeps its own units. Its `match` tells the net what to hold fixed: with `width` every layer gives as many channels as written
and has `expansion` times the weights; with `parameters` the net is made narrower, to as many parameters as with a plain activation.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from bakeoff.errors import ChoiceError

# The names that a config may use as a target.
__all__ = ["Maxout", "ReGLU", "ScaledTanh", "SwiGLU"]

Match = Literal["parameters", "width"]
Norm = Literal["none", "rms"]


class ScaledTanh(nn.Module):
    """amplitude * tanh(slope * z): LeCun, Bottou, Orr, Mueller, "Efficient BackProp" (1998), section 4.4, with 1.7159 and 2/3.

    With these numbers f(1) = 1, f(-1) = -1, and the second derivative is largest at 1. Any shape; the same comes back.
    """

    def __init__(self, *, amplitude: float = 1.7159, slope: float = 2 / 3) -> None:
        super().__init__()
        for key, value in (("amplitude", amplitude), ("slope", slope)):
            if not (math.isfinite(value) and value > 0):
                raise ChoiceError(f"activation.{key}={value}: must be a finite number above 0")
        self.amplitude, self.slope = amplitude, slope

    def forward(self, z: Tensor) -> Tensor:
        """f(z), elementwise."""
        return self.amplitude * (self.slope * z).tanh()

    def extra_repr(self) -> str:
        """Amplitude and slope, as print shows them."""
        return f"amplitude={self.amplitude}, slope={self.slope}"


class _Several(nn.Module):
    def __init__(self, *, expansion: int, match: Match) -> None:
        super().__init__()
        if match not in ("parameters", "width"):
            raise ChoiceError(f"activation.match={match}: choices: parameters, width")
        self.expansion, self.match = expansion, match

    def inputs(self, z: Tensor) -> Tensor:
        """[batch, C * expansion, ...] as [batch, C, expansion, ...]."""
        if z.shape[1] % self.expansion:
            raise ChoiceError(f"activation: {type(self).__name__} takes {self.expansion} channels a unit; {z.shape[1]} do not divide")
        return z.view(z.shape[0], -1, self.expansion, *z.shape[2:])

    def extra_repr(self) -> str:
        """Inputs of a unit and what is held fixed, as print shows them."""
        return f"expansion={self.expansion}, match={self.match}"


class Maxout(_Several):
    """The largest of `pieces` inputs: Goodfellow, Warde-Farley, Mirza, Courville, Bengio, "Maxout networks" (arXiv:1302.4389)."""

    def __init__(self, *, pieces: int = 2, match: Match = "parameters") -> None:
        if pieces < 2:
            raise ChoiceError(f"activation.pieces={pieces}: must be at least 2")
        super().__init__(expansion=pieces, match=match)

    def forward(self, z: Tensor) -> Tensor:
        """[batch, C * pieces, ...] -> [batch, C, ...]."""
        return self.inputs(z).amax(2)


class _Gated(_Several):
    def __init__(self, *, match: Match = "parameters", norm: Norm = "none") -> None:
        super().__init__(expansion=2, match=match)
        if norm not in ("none", "rms"):
            raise ChoiceError(f"activation.norm={norm}: choices: none, rms")
        self.norm = norm

    def halves(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Gate and value [batch, C, ...] of [batch, 2 C, ...], divided by the root mean square of the 2 C where `norm` is rms."""
        if self.norm == "rms":
            z = z * torch.rsqrt(z.square().mean(1, keepdim=True) + torch.finfo(z.dtype).eps)
        gate, value = self.inputs(z).unbind(2)
        return gate, value

    def pointwise(self) -> nn.Module:
        """The same function of one unit alone: in a wide layer with inputs of mean square 1 the norm divides by 1."""
        return type(self)(match=self.match)

    def extra_repr(self) -> str:
        """What is held fixed and how inputs are normalized, as print shows them."""
        return f"match={self.match}, norm={self.norm}"


class ReGLU(_Gated):
    """max(0, a) * b of two inputs a, b: Shazeer, "GLU variants improve transformer" (arXiv:2002.05202), equation 5.

    The product squares the scale of a signal in every layer, so that after L layers any error of scale has its logarithm times 2^L:
    deep nets overflow or vanish, whatever the gain, and batch norm, which is one scale for all images, does not hold it. In the
    paper's net each gated layer stands behind a root-mean-square norm of its own; norm="rms" does that at the unit's inputs, over all
    channels of one image and place (Zhang, Sennrich, arXiv:1910.07467, without a learned scale).
    """

    def forward(self, z: Tensor) -> Tensor:
        """[batch, 2 C, ...] -> [batch, C, ...]."""
        gate, value = self.halves(z)
        return gate.relu() * value


class SwiGLU(_Gated):
    """a * sigmoid(a) * b of two inputs a, b: Shazeer (arXiv:2002.05202), equation 5, with swish's beta at 1; `norm` as for ReGLU."""

    def forward(self, z: Tensor) -> Tensor:
        """[batch, 2 C, ...] -> [batch, C, ...]."""
        gate, value = self.halves(z)
        return nn.functional.silu(gate) * value
