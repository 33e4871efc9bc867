"""The base classes of initializers: which layers are initialized, in which order, and how biases and gains are set."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from bakeoff.errors import check_argument

WEIGHTED_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
Gain = float | Literal["auto"]
Mode = Literal["fan_in", "fan_out"]
Head = float | Literal["zero", "as_rest"]


class Fans(NamedTuple):
    """The number of weights per output unit and per input unit, within one group of a grouped convolution."""

    fan_in: int
    fan_out: int


def fans(layer: nn.Module) -> Fans:
    """Return the fans of a convolution or linear layer; torch's fan_out is `groups` times too high for a grouped convolution."""
    if isinstance(layer, nn.Linear):
        return Fans(layer.in_features, layer.out_features)
    assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    taps = math.prod(layer.kernel_size)
    return Fans(layer.in_channels // layer.groups * taps, layer.out_channels // layer.groups * taps)


def weighted_layers(net: nn.Module) -> Iterator[nn.Module]:
    """Return the convolutions and linear layers of a net, in the order of its modules."""
    return (layer for layer in net.modules() if isinstance(layer, WEIGHTED_LAYERS))


def check_head(head: object) -> None:
    """Raise an ArgumentError unless the scale of a head is a finite number above 0, `zero` or `as_rest`."""
    fits = head in ("zero", "as_rest") or (isinstance(head, int | float) and is_finite(head) and head > 0)
    check_argument("head", head, fits=fits, rule="must be a finite number above 0, zero or as_rest")


@torch.no_grad()
def scale_head(net: nn.Module, head: Head) -> None:
    """Give the layer of the scores, the last convolution or linear layer of a net, a scale of its own.

    Args:
        net: The net, initialized.
        head: The gain, by which its weights get a root mean square of head / sqrt(fan_in), whatever filled the net; "zero": its weights
            and biases become 0; "as_rest": it stays as it is. Weights that are all 0 stay 0.
    """
    *_, layer = weighted_layers(net)
    assert isinstance(layer, WEIGHTED_LAYERS)
    if head == "zero":
        layer.weight.zero_()
        if layer.bias is not None:
            layer.bias.zero_()
    elif not isinstance(head, str) and bool(layer.weight.any()):
        rms = float(layer.weight.double().square().mean().sqrt())
        layer.weight.mul_(head / (math.sqrt(fans(layer).fan_in) * rms))


def is_finite(value: object) -> bool:
    """Return whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def check_positive(name: str, value: float) -> None:
    """Raise an ArgumentError unless the argument is a finite number above 0."""
    check_argument(name, value, fits=is_finite(value) and value > 0, rule="must be a finite number above 0")


def check_whole(name: str, value: int, *, low: int) -> None:
    """Raise an ArgumentError unless the argument is a whole number of at least `low`."""
    fits = isinstance(value, int) and not isinstance(value, bool) and value >= low
    check_argument(name, value, fits=fits, rule=f"must be a whole number of at least {low}")


class Initializer(ABC):
    """Sets the weight and bias of each Conv and Linear module of a net, in their order; norm layers and PReLU slopes stay as they are.

    Every number is drawn on the CPU in float32 and in contiguous order, then copied, so that it does not depend on the net's device,
    dtype and memory format. torch's global generator is neither read nor advanced.

    A subclass with `needs_images = True` has an argument `images: int`, and its call gets a keyword `images`: that many training
    images of the run, normalized and not augmented, float32 (images, channels, size, size). One with `needs_source = True` has an
    argument `run: str`, and its call gets a keyword `source`: the trained net of that run.
    """

    needs_images: ClassVar[bool] = False
    needs_source: ClassVar[bool] = False

    @torch.no_grad()
    def __call__(self, net: nn.Module, *, activation_gain: float, generator: torch.Generator) -> Mapping[str, str] | None:
        """Fill `net` in place.

        Args:
            net: the net to initialize.
            activation_gain: the gain of `gain: auto`; see the function of that name.
            generator: the CPU generator of all random numbers.

        Returns:
            Tags of the run, or None.
        """
        gain = self.resolve_gain(activation_gain)
        for layer in weighted_layers(net):
            self.fill_layer(layer, gain=gain, generator=generator)
        return None

    def fill_layer(self, layer: nn.Module, *, gain: float, generator: torch.Generator) -> None:
        """Fill weight and bias of one layer of the kinds in `WEIGHTED_LAYERS`."""
        assert isinstance(layer, WEIGHTED_LAYERS)
        weight = torch.empty(layer.weight.shape, dtype=torch.float32)
        self.fill(weight, fans=fans(layer), gain=gain, generator=generator)
        layer.weight.copy_(weight)
        if layer.bias is not None:
            bias = torch.empty(layer.bias.shape, dtype=torch.float32)
            self.fill_bias(bias, fans=fans(layer), generator=generator)
            layer.bias.copy_(bias)

    @abstractmethod
    def fill(self, weight: Tensor, *, fans: Fans, gain: float, generator: torch.Generator) -> None:
        """Overwrite one weight (out, in / groups, *kernel), float32 on the CPU, drawing from `generator` alone."""

    @abstractmethod
    def fill_bias(self, bias: Tensor, *, fans: Fans, generator: torch.Generator) -> None:
        """Overwrite one bias (out,), float32 on the CPU."""

    def resolve_gain(self, activation_gain: float) -> float:
        """Return the gain for this activation; 1 where the initializer has none."""
        return 1.0


@dataclass(frozen=True, kw_only=True)
class ConstantBias(Initializer):
    """The base of initializers whose biases all take the value `bias`."""

    bias: float = 0.0

    def __post_init__(self) -> None:
        check_argument("bias", self.bias, fits=is_finite(self.bias), rule="must be a finite number")

    def fill_bias(self, bias: Tensor, *, fans: Fans, generator: torch.Generator) -> None:
        """Set every bias to `bias`."""
        bias.fill_(self.bias)


@dataclass(frozen=True, kw_only=True)
class GainScaled(ConstantBias):
    """The base of initializers whose scale is multiplied by a gain, which follows the activation where it is `auto`."""

    gain: Gain = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        fits = self.gain == "auto" or (not isinstance(self.gain, str) and is_finite(self.gain) and self.gain > 0)
        check_argument("gain", self.gain, fits=fits, rule="must be auto (follow the activation) or a finite number above 0")

    def resolve_gain(self, activation_gain: float) -> float:
        """Return the activation's gain where `gain` is `auto`, else `gain`."""
        return activation_gain if isinstance(self.gain, str) else float(self.gain)


@dataclass(frozen=True, kw_only=True)
class FixedStd(GainScaled):
    """The base of initializers with one standard deviation for all layers, whatever their fans."""

    std: float = 0.01
    gain: Gain = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("std", self.std)
