"""Initializers: each fills every convolution and linear layer of a net from one generator, in the order of the net's modules."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from bakeoff.errors import ChoiceError

# The names that a config may use as a target.
__all__ = [
    "Constant",
    "HeNormal",
    "HeUniform",
    "Normal",
    "Orthogonal",
    "TorchDefault",
    "TruncNormal",
    "XavierNormal",
    "XavierUniform",
    "Zeros",
]

WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
Gain = float | Literal["auto"]
Mode = Literal["fan_in", "fan_out"]


class Fans(NamedTuple):
    """Weights that feed one output unit, and weights that one input unit feeds (of one group, where a convolution is grouped)."""

    fan_in: int
    fan_out: int


def fans(layer: nn.Module) -> Fans:
    """Fans of a convolution or linear layer; torch's own fan_out counts a grouped convolution `groups` times too high."""
    if isinstance(layer, nn.Linear):
        return Fans(layer.in_features, layer.out_features)
    assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    taps = math.prod(layer.kernel_size)
    return Fans(layer.in_channels // layer.groups * taps, layer.out_channels // layer.groups * taps)


def activation_gain(activation: nn.Module) -> float:
    """1 / sqrt(E[f(z)^2]) for z ~ N(0, 1): the gain that keeps the mean square of a signal through weights and `activation`.

    The integral is taken in float64 by the trapezoid rule on [-12, 12] in steps of 0.0005, with 0 (where activations have their
    kinks) on the grid; a random activation counts as in evaluation. ReLU gives sqrt(2) as He et al. (arXiv:1502.01852), SELU 1
    as Klambauer et al. (arXiv:1706.02515); torch's `calculate_gain` knows few activations and gives 3/4 for SELU.
    Errors: ChoiceError where the activation is zero everywhere or not finite.
    """
    step = 5e-4
    z = torch.arange(-24_000, 24_001, dtype=torch.float64) * step
    density = torch.exp(-0.5 * z.square()) / math.sqrt(2 * math.pi)
    with torch.no_grad():
        output: Tensor = copy.deepcopy(activation).cpu().double().eval()(z.clone())
    square = float((output.square() * density).sum() * step)
    if not (math.isfinite(square) and square > 0):
        raise ChoiceError(
            f"initializer.gain=auto: the activation {type(activation).__name__} has a mean square of {square} on N(0, 1); give a number"
        )
    return 1 / math.sqrt(square)


def require(key: str, value: object, *, fits: bool, rule: str) -> None:
    """Raises ChoiceError naming `initializer.<key>`, the value and the rule unless it fits."""
    if not fits:
        raise ChoiceError(f"initializer.{key}={value}: {rule}")


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


class Initializer(ABC):
    """Called on a net, sets the weight and bias of each Conv and Linear module; norm layers and PReLU slopes stay as they are.

    Every number is drawn on the CPU in float32 and in contiguous order, then copied: device, dtype and memory format of the net do
    not change it, and torch's global generator is neither read nor advanced.
    """

    @torch.no_grad()
    def __call__(self, net: nn.Module, *, activation_gain: float, generator: torch.Generator) -> None:
        """Fill `net` in place; `activation_gain` (as the function of that name gives it) is what `gain: auto` means, for every layer."""
        gain = self.resolve(activation_gain)
        for layer in net.modules():
            if isinstance(layer, WEIGHTED):
                weight = torch.empty(layer.weight.shape, dtype=torch.float32)
                self.fill(weight, fans=fans(layer), gain=gain, generator=generator)
                layer.weight.copy_(weight)
                if layer.bias is not None:
                    bias = torch.empty(layer.bias.shape, dtype=torch.float32)
                    self.fill_bias(bias, fans=fans(layer), generator=generator)
                    layer.bias.copy_(bias)

    @abstractmethod
    def fill(self, weight: Tensor, *, fans: Fans, gain: float, generator: torch.Generator) -> None:
        """Overwrite one weight [out, in / groups, *kernel], float32 on the CPU, drawing from `generator` alone."""

    @abstractmethod
    def fill_bias(self, bias: Tensor, *, fans: Fans, generator: torch.Generator) -> None:
        """Overwrite one bias [out], float32 on the CPU."""

    def resolve(self, activation_gain: float) -> float:
        """The gain for this activation; 1 where the initializer has none."""
        return 1.0


@dataclass(frozen=True, kw_only=True)
class _Biased(Initializer):
    bias: float = 0.0

    def __post_init__(self) -> None:
        require("bias", self.bias, fits=_finite(self.bias), rule="must be a finite number")

    def fill_bias(self, bias: Tensor, *, fans: Fans, generator: torch.Generator) -> None:
        bias.fill_(self.bias)


@dataclass(frozen=True, kw_only=True)
class _Scaled(_Biased):
    gain: Gain = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        fits = self.gain == "auto" or (not isinstance(self.gain, str) and _finite(self.gain) and self.gain > 0)
        require("gain", self.gain, fits=fits, rule="must be auto (follow the activation) or a finite number above 0")

    def resolve(self, activation_gain: float) -> float:
        return activation_gain if isinstance(self.gain, str) else float(self.gain)


@dataclass(frozen=True, kw_only=True)
class _Absolute(_Scaled):
    std: float = 0.01
    gain: Gain = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require("std", self.std, fits=_finite(self.std) and self.std > 0, rule="must be a finite number above 0")


@dataclass(frozen=True, kw_only=True)
class _He(_Scaled):
    mode: Mode = "fan_in"

    def __post_init__(self) -> None:
        super().__post_init__()
        require("mode", self.mode, fits=self.mode in ("fan_in", "fan_out"), rule="choices: fan_in, fan_out")

    def std(self, fans: Fans, *, gain: float) -> float:
        """gain / sqrt(fan) of the chosen direction."""
        return gain / math.sqrt(fans.fan_in if self.mode == "fan_in" else fans.fan_out)


@dataclass(frozen=True, kw_only=True)
class Zeros(_Biased):
    """Every weight 0: no symmetry is broken and nothing behind the first hidden layer learns, which is worth showing."""

    def fill(self, weight: Tensor, *, fans: Fans, gain: float, generator: torch.Generator) -> None:
        weight.zero_()


@dataclass(frozen=True, kw_only=True)
class Constant(_Scaled):
    """Every weight gain * value; the gain is 1 unless told otherwise."""

    value: float = 0.01
    gain: Gain = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require("value", self.value, fits=_finite(self.value), rule="must be a finite number")

    def fill(self, weight: Tensor, *, fans: Fans, gain: float, generator: torch.Generator) -> None:
        weight.fill_(gain * self.value)


@dataclass(frozen=True, kw_only=True)
class Normal(_Absolute):
    """N(0, (gain * std)^2), the same in every layer; AlexNet's paper took 0.01, VGG's 0.1. The gain is 1 unless told otherwise."""

    def fill(self, weight: Tensor, *, fans: Fans, gain: float, generator: torch.Generator) -> None:
        weight.normal_(0.0, gain * self.std, generator=generator)


@dataclass(frozen=True, kw_only=True)
class TruncNormal(_Absolute):
    """N(0, s^2) with s = gain * std, cut at two s and drawn again beyond: the standard deviation that results is 0.8796 s.

    torch's `trunc_normal_` cuts at absolute bounds, +-2 unless told otherwise, which for small s is no cut at all.
    """

    def fill(self, weight: Tensor, *, fans: Fans, gain: float, generator: torch.Generator) -> None:
        scale = gain * self.std
        nn.init.trunc_normal_(weight, 0.0, scale, -2 * scale, 2 * scale, generator=generator)


@dataclass(frozen=True, kw_only=True)
class XavierUniform(_Scaled):
    """Uniform with std gain * sqrt(2 / (fan_in + fan_out)): Glorot, Bengio, "Understanding the difficulty of training deep nets" (2010)."""

    def fill(self, weight: Tensor, *, fans: Fans, gain: float, generator: torch.Generator) -> None:
        bound = gain * math.sqrt(6 / (fans.fan_in + fans.fan_out))
        weight.uniform_(-bound, bound, generator=generator)


@dataclass(frozen=True, kw_only=True)
class XavierNormal(_Scaled):
    """Normal with std gain * sqrt(2 / (fan_in + fan_out)): Glorot, Bengio (2010)."""

    def fill(self, weight: Tensor, *, fans: Fans, gain: float, generator: torch.Generator) -> None:
        weight.normal_(0.0, gain * math.sqrt(2 / (fans.fan_in + fans.fan_out)), generator=generator)


@dataclass(frozen=True, kw_only=True)
class HeUniform(_He):
    """Uniform with std gain / sqrt(fan): He et al., "Delving deep into rectifiers" (arXiv:1502.01852)."""

    def fill(self, weight: Tensor, *, fans: Fans, gain: float, generator: torch.Generator) -> None:
        bound = math.sqrt(3) * self.std(fans, gain=gain)
        weight.uniform_(-bound, bound, generator=generator)


@dataclass(frozen=True, kw_only=True)
class HeNormal(_He):
    """Normal with std gain / sqrt(fan): He et al. (arXiv:1502.01852)."""

    def fill(self, weight: Tensor, *, fans: Fans, gain: float, generator: torch.Generator) -> None:
        weight.normal_(0.0, self.std(fans, gain=gain), generator=generator)


@dataclass(frozen=True, kw_only=True)
class Orthogonal(_Scaled):
    """gain times a random matrix [out, in * kernel] with orthonormal rows or columns: Saxe et al. (arXiv:1312.6120)."""

    def fill(self, weight: Tensor, *, fans: Fans, gain: float, generator: torch.Generator) -> None:
        nn.init.orthogonal_(weight, gain, generator=generator)


@dataclass(frozen=True)
class TorchDefault(Initializer):
    """What torch's constructors do: weights and biases uniform within +-1 / sqrt(fan_in) (LeCun's, since a = sqrt(5)), for any activation.

    With the same seed the numbers are those that a net built in torch gets, layer by layer.
    """

    def fill(self, weight: Tensor, *, fans: Fans, gain: float, generator: torch.Generator) -> None:
        # Its std is 1 / sqrt(3 fan_in); through torch's own function, so that the bits are torch's too.
        nn.init.kaiming_uniform_(weight, a=math.sqrt(5), generator=generator)

    def fill_bias(self, bias: Tensor, *, fans: Fans, generator: torch.Generator) -> None:
        bound = 1 / math.sqrt(fans.fan_in)
        bias.uniform_(-bound, bound, generator=generator)
