"""Initializers that draw every weight of a layer from one distribution, which its fans and a gain scale."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bakeoff.components.initializers.base import ConstantBias, Fans, FixedStd, Gain, GainScaled, Initializer, Mode, check_whole, is_finite
from bakeoff.errors import check_argument


@dataclass(frozen=True, kw_only=True)
class HeScaled(GainScaled):
    """The base of initializers whose variance is gain^2 / fan, of the fan that `mode` names."""

    mode: Mode = "fan_in"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_argument("mode", self.mode, fits=self.mode in ("fan_in", "fan_out"), rule="choices: fan_in, fan_out")

    def std(self, fans: Fans, *, gain: float) -> float:
        """Return gain / sqrt(fan) of the chosen direction."""
        return gain / math.sqrt(fans.fan_in if self.mode == "fan_in" else fans.fan_out)


@dataclass(frozen=True, kw_only=True)
class Zeros(ConstantBias):
    """Every weight 0: the symmetry of the units is not broken, so the net cannot learn; a negative control."""

    def fill(self, weight: Tensor, *, fans: Fans, gain: float, generator: torch.Generator) -> None:
        """Set every weight to 0."""
        weight.zero_()


@dataclass(frozen=True, kw_only=True)
class Constant(GainScaled):
    """Every weight gain * value; the gain is 1 by default."""

    value: float = 0.01
    gain: Gain = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_argument("value", self.value, fits=is_finite(self.value), rule="must be a finite number")

    def fill(self, weight: Tensor, *, fans: Fans, gain: float, generator: torch.Generator) -> None:
        """Set every weight to gain * value."""
        weight.fill_(gain * self.value)


@dataclass(frozen=True, kw_only=True)
class Normal(FixedStd):
    """N(0, (gain * std)^2), the same in every layer; AlexNet's paper took 0.01, VGG's 0.1. The gain is 1 by default."""

    def fill(self, weight: Tensor, *, fans: Fans, gain: float, generator: torch.Generator) -> None:
        """Draw from N(0, (gain * std)^2)."""
        weight.normal_(0.0, gain * self.std, generator=generator)


@dataclass(frozen=True, kw_only=True)
class TruncNormal(FixedStd):
    """N(0, s^2) with s = gain * std, cut at two s and drawn again beyond: the standard deviation that results is 0.8796 s.

    torch's `trunc_normal_` cuts at absolute bounds, +-2 by default, which for small s is no cut at all.
    """

    def fill(self, weight: Tensor, *, fans: Fans, gain: float, generator: torch.Generator) -> None:
        """Draw from the truncated normal distribution."""
        scale = gain * self.std
        nn.init.trunc_normal_(weight, 0.0, scale, -2 * scale, 2 * scale, generator=generator)


@dataclass(frozen=True, kw_only=True)
class XavierUniform(GainScaled):
    """Uniform with std gain * sqrt(2 / (fan_in + fan_out)): Glorot, Bengio, "Understanding the difficulty of training deep nets" (2010)."""

    def fill(self, weight: Tensor, *, fans: Fans, gain: float, generator: torch.Generator) -> None:
        """Draw uniformly within gain * sqrt(6 / (fan_in + fan_out))."""
        bound = gain * math.sqrt(6 / (fans.fan_in + fans.fan_out))
        weight.uniform_(-bound, bound, generator=generator)


@dataclass(frozen=True, kw_only=True)
class XavierNormal(GainScaled):
    """Normal with std gain * sqrt(2 / (fan_in + fan_out)): Glorot, Bengio (2010)."""

    def fill(self, weight: Tensor, *, fans: Fans, gain: float, generator: torch.Generator) -> None:
        """Draw from a normal distribution with Glorot and Bengio's standard deviation."""
        weight.normal_(0.0, gain * math.sqrt(2 / (fans.fan_in + fans.fan_out)), generator=generator)


@dataclass(frozen=True, kw_only=True)
class HeUniform(HeScaled):
    """Uniform with std gain / sqrt(fan): He et al., "Delving deep into rectifiers" (arXiv:1502.01852)."""

    def fill(self, weight: Tensor, *, fans: Fans, gain: float, generator: torch.Generator) -> None:
        """Draw uniformly within sqrt(3) * std."""
        bound = math.sqrt(3) * self.std(fans, gain=gain)
        weight.uniform_(-bound, bound, generator=generator)


@dataclass(frozen=True, kw_only=True)
class HeNormal(HeScaled):
    """Normal with std gain / sqrt(fan): He et al. (arXiv:1502.01852)."""

    def fill(self, weight: Tensor, *, fans: Fans, gain: float, generator: torch.Generator) -> None:
        """Draw from N(0, std^2)."""
        weight.normal_(0.0, self.std(fans, gain=gain), generator=generator)


@dataclass(frozen=True, kw_only=True)
class Sparse(FixedStd):
    """Each unit gets `nonzero` weights from N(0, (gain * std)^2) at random positions; all others are 0.

    Martens, "Deep learning via Hessian-free optimization" (2010), took 15 and a standard deviation of 1. A convolution's unit is
    one output channel, whose kernel over all channels of its group counts as one row; a unit with no more inputs than `nonzero`
    gets all of them. torch's `sparse_` zeroes a share of each unit's outgoing weights instead, and takes only matrices.
    """

    nonzero: int = 15
    std: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("nonzero", self.nonzero, low=1)

    def fill(self, weight: Tensor, *, fans: Fans, gain: float, generator: torch.Generator) -> None:
        """Draw `nonzero` weights a row and their positions."""
        rows = weight.view(weight.shape[0], -1)
        count = min(self.nonzero, rows.shape[1])
        positions = torch.rand(rows.shape, generator=generator).topk(count, dim=1).indices
        rows.zero_().scatter_(1, positions, torch.randn(positions.shape, generator=generator) * (gain * self.std))


@dataclass(frozen=True)
class TorchDefault(Initializer):
    """What torch's constructors do: weights and biases uniform within +-1 / sqrt(fan_in) (LeCun's, since a = sqrt(5)), for any activation.

    With the same seed the numbers are those that a net built in torch gets, layer by layer.
    """

    def fill(self, weight: Tensor, *, fans: Fans, gain: float, generator: torch.Generator) -> None:
        """Draw as torch's constructors do."""
        # Its std is 1 / sqrt(3 fan_in); through torch's own function, so that the bits are torch's too.
        nn.init.kaiming_uniform_(weight, a=math.sqrt(5), generator=generator)

    def fill_bias(self, bias: Tensor, *, fans: Fans, generator: torch.Generator) -> None:
        """Draw uniformly within 1 / sqrt(fan_in)."""
        bound = 1 / math.sqrt(fans.fan_in)
        bias.uniform_(-bound, bound, generator=generator)
