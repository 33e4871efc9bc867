"""A net as a table: its convolutions, what follows each of them, and its fully connected layers, made into modules."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal

from torch import nn

from bakeoff.errors import ChoiceError
from bakeoff.nets.argument_checks import Activation, pooled, scaled

NormPlace = Literal["before", "after"]
DropoutKind = Literal["auto", "plain", "alpha"]
DropoutPlace = Literal["inputs", "outputs"]
Lrn = Literal["none", "paper", "caffe"]
Pool = Literal["max", "overlapping", "average"]

# Krizhevsky, Sutskever, Hinton (2012), section 3.3: b = a / (2 + 1e-4 * sum of a^2 over 5 channels)^0.75. torch divides its alpha by the
# size of the neighbourhood, so that the paper's 1e-4 is written 5e-4. Caffe divides as torch does, and its k is 1: the widely replicated
# file of settings, which repeats the paper's 1e-4, has in truth an alpha of 2e-5.
LRN = {
    "paper": {"size": 5, "alpha": 5e-4, "beta": 0.75, "k": 2.0},
    "caffe": {"size": 5, "alpha": 1e-4, "beta": 0.75, "k": 1.0},
}


@dataclass(frozen=True, kw_only=True)
class Conv:
    """One convolution of a table; `lrn` and `pool` say where a net that has them puts them, behind the activation."""

    channels: int
    kernel: int = 3
    stride: int = 1
    padding: int = 1
    groups: int = 1
    lrn: bool = False
    pool: bool = False


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Everything that decides a net's modules.

    `expansion` is how many channels the activation takes for each that it gives; layers before it are as many times as wide.
    `overlap` is the padding of the overlapping pooling; `squeeze` the side in pixels that the features are averaged to, None for as
    they come.
    """

    convs: tuple[Conv, ...]
    hidden: tuple[int, ...]
    in_channels: int
    num_classes: int
    size: int
    width: float
    activation: Activation
    expansion: int
    dropout: float
    alpha: bool
    dropout_place: DropoutPlace
    batch_norm: bool
    norm_place: NormPlace
    lrn: Lrn
    pool: Pool
    overlap: int
    squeeze: int | None

    @property
    def side(self) -> int:
        """Pixels a side that reach the first fully connected layer."""
        return self.squeeze or self.after(self.size)

    def after(self, size: int) -> int:
        """Pixels a side that the features make of pictures of `size` pixels; 0 where nothing is left."""
        for conv in self.convs:
            size = pooled(size, kernel=conv.kernel, stride=conv.stride, padding=conv.padding)
            if conv.pool and size:
                kernel, padding = self.window
                size = pooled(size, kernel=kernel, stride=2, padding=padding)
            if not size:
                return 0
        return size

    @property
    def window(self) -> tuple[int, int]:
        """(kernel, padding) of the pooling."""
        return (3, self.overlap) if self.pool == "overlapping" else (2, 0)

    def check_size(self, net: str, *, head: str, native: int) -> None:
        """Raises ChoiceError where the pictures leave nothing after the last pooling, or the first convolution does not tile them."""
        small = ", or model.head=small, which takes smaller pictures" if head == "imagenet" else ""
        if not self.after(self.size):
            least = next(size for size in itertools.count(1) if self.after(size))
            raise ChoiceError(
                f"data.size={self.size}: {net} with model.head={head} needs pictures of at least {least}x{least} pixels; "
                f"set data.size={native}{small}"
            )
        for conv in self.convs[:1]:
            if conv.padding == 0 and (self.size - conv.kernel) % conv.stride:
                raise ChoiceError(
                    f"data.size={self.size}: {net} with model.head={head} needs a size that its first convolution tiles without a rest, "
                    f"{conv.kernel} plus a multiple of {conv.stride}; set data.size={native}{small}"
                )

    def features(self) -> nn.Sequential:
        """The convolutions with all that follows each of them."""
        layers: list[nn.Module] = []
        before, groups = self.in_channels, math.lcm(*(conv.groups for conv in self.convs))
        for conv in self.convs:
            after = scaled(conv.channels, width=self.width, multiple=groups)
            wide = after * self.expansion
            layers.append(nn.Conv2d(before, wide, conv.kernel, conv.stride, conv.padding, groups=conv.groups))
            if self.batch_norm and self.norm_place == "before":
                layers.append(nn.BatchNorm2d(wide))
            layers.append(self.activation())
            if self.batch_norm and self.norm_place == "after":
                layers.append(nn.BatchNorm2d(after))
            if conv.lrn and self.lrn != "none":
                settings = LRN[self.lrn]
                layers.append(nn.LocalResponseNorm(int(settings["size"]), settings["alpha"], settings["beta"], settings["k"]))
            if conv.pool:
                layers.append(self.pooling())
            before = after
        return nn.Sequential(*layers)

    def pooling(self) -> nn.Module:
        """One pooling: 2x2/2 of the maximum or the mean, or the overlapping 3x3/2 of the maximum."""
        kernel, padding = self.window
        return nn.AvgPool2d(kernel, 2) if self.pool == "average" else nn.MaxPool2d(kernel, 2, padding)

    def classifier(self) -> nn.Sequential:
        """The fully connected layers, on features flattened; with no hidden layer, dropout acts at the input of the only one."""
        layers: list[nn.Module] = []
        groups = math.lcm(*(conv.groups for conv in self.convs))
        before = scaled(self.convs[-1].channels, width=self.width, multiple=groups) * self.side**2
        for units in self.hidden:
            after = scaled(units, width=self.width)
            layer = [nn.Linear(before, after * self.expansion), self.activation()]
            layers += [self.dropping(), *layer] if self.dropout_place == "inputs" else [*layer, self.dropping()]
            before = after
        if not self.hidden:
            layers.append(self.dropping())
        return nn.Sequential(*layers, nn.Linear(before, self.num_classes))

    def dropping(self) -> nn.Module:
        """One dropout, plain or the kind that keeps mean and variance behind SELU (Klambauer et al., arXiv:1706.02515)."""
        return nn.AlphaDropout(self.dropout) if self.alpha else nn.Dropout(self.dropout)
