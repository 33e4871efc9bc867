"""A convolutional net as data: its convolutions, what follows each of them, and its fully connected layers; and its modules."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import nn

from bakeoff.errors import ArgumentError

Activation = Callable[[], nn.Module]
Head = Literal["small", "imagenet"]
NormPlace = Literal["before", "after"]
DropoutKind = Literal["auto", "plain", "alpha"]
DropoutPlace = Literal["inputs", "outputs"]
Lrn = Literal["none", "paper", "caffe"]
Pool = Literal["max", "overlapping", "average"]

# Krizhevsky, Sutskever, Hinton (2012), section 3.3: b = a / (2 + 1e-4 * sum of a^2 over 5 channels)^0.75. torch divides alpha by the
# size of the neighbourhood, so that the paper's 1e-4 is 5e-4 here. Caffe also divides by it, and its k is 1: the widely replicated
# settings, which repeat the paper's 1e-4, mean an alpha of 2e-5.
LRN_SETTINGS = {
    "paper": {"size": 5, "alpha": 5e-4, "beta": 0.75, "k": 2.0},
    "caffe": {"size": 5, "alpha": 1e-4, "beta": 0.75, "k": 1.0},
}


def scale_units(units: int, *, width: float, multiple: int = 1) -> int:
    """Return `units` (channels or hidden units) times `width`, rounded to a multiple of `multiple` and at least that."""
    return multiple * max(1, round(units * width / multiple))


def conv_output_size(size: int, *, kernel: int, stride: int, padding: int = 0) -> int:
    """Return the side in pixels of the output of a convolution or pooling; 0 if the kernel does not fit."""
    return max(0, (size + 2 * padding - kernel) // stride + 1)


@dataclass(frozen=True, kw_only=True)
class ConvSpec:
    """One convolution; `lrn` and `pool` say whether local response normalization and pooling follow its activation."""

    channels: int
    kernel: int = 3
    stride: int = 1
    padding: int = 1
    groups: int = 1
    lrn: bool = False
    pool: bool = False


@dataclass(frozen=True, kw_only=True)
class NetSpec:
    """Everything that determines a net's modules.

    Attributes:
        expansion: input channels of the activation per output channel.
        alpha_dropout: whether dropout is nn.AlphaDropout.
        pool_padding: padding of the overlapping pooling.
        adaptive_pool_size: side in pixels to which the features are averaged; None: they are not.
    """

    convs: tuple[ConvSpec, ...]
    hidden: tuple[int, ...]
    in_channels: int
    num_classes: int
    size: int
    width: float
    activation: Activation
    expansion: int
    dropout: float
    alpha_dropout: bool
    dropout_place: DropoutPlace
    batch_norm: bool
    norm_place: NormPlace
    lrn: Lrn
    pool: Pool
    pool_padding: int
    adaptive_pool_size: int | None

    @property
    def feature_size(self) -> int:
        """Side in pixels of the features that reach the first fully connected layer."""
        return self.adaptive_pool_size or self.conv_feature_size(self.size)

    @property
    def pool_window(self) -> tuple[int, int]:
        """Kernel and padding of the pooling; its stride is 2."""
        return (3, self.pool_padding) if self.pool == "overlapping" else (2, 0)

    @property
    def channel_multiple(self) -> int:
        """The common divisor of all channel counts, so that every convolution can be grouped."""
        return math.lcm(*(conv.groups for conv in self.convs))

    def conv_feature_size(self, size: int) -> int:
        """Return the side in pixels of the convolutions' and poolings' output for images of `size` pixels; 0 if they are too small."""
        for conv in self.convs:
            size = conv_output_size(size, kernel=conv.kernel, stride=conv.stride, padding=conv.padding)
            if conv.pool and size:
                kernel, padding = self.pool_window
                size = conv_output_size(size, kernel=kernel, stride=2, padding=padding)
            if not size:
                return 0
        return size

    def check_size(self, net: str, *, head: Head, native_size: int) -> None:
        """Raise an ArgumentError, which recommends `native_size`, if images are too small or not tiled by an unpadded first convolution."""
        smaller = ", or head=small, which takes smaller images" if head == "imagenet" else ""
        if not self.conv_feature_size(self.size):
            least = next(size for size in itertools.count(1) if self.conv_feature_size(size))
            raise ArgumentError(
                f"size={self.size}: {net} with head={head} needs images of at least {least}x{least} pixels; set size={native_size}{smaller}"
            )
        first = self.convs[0]
        if first.padding == 0 and (self.size - first.kernel) % first.stride:
            raise ArgumentError(
                f"size={self.size}: {net} with head={head} needs a size of {first.kernel} plus a multiple of {first.stride}, "
                f"which its first convolution tiles without a remainder; set size={native_size}{smaller}"
            )

    def make_features(self) -> nn.Sequential:
        """Return the convolutions, each with its normalization, activation and pooling."""
        layers: list[nn.Module] = []
        in_channels = self.in_channels
        for conv in self.convs:
            channels = scale_units(conv.channels, width=self.width, multiple=self.channel_multiple)
            expanded = channels * self.expansion
            layers.append(nn.Conv2d(in_channels, expanded, conv.kernel, conv.stride, conv.padding, groups=conv.groups))
            if self.batch_norm and self.norm_place == "before":
                layers.append(nn.BatchNorm2d(expanded))
            layers.append(self.activation())
            if self.batch_norm and self.norm_place == "after":
                layers.append(nn.BatchNorm2d(channels))
            if conv.lrn and self.lrn != "none":
                settings = LRN_SETTINGS[self.lrn]
                layers.append(nn.LocalResponseNorm(int(settings["size"]), settings["alpha"], settings["beta"], settings["k"]))
            if conv.pool:
                kernel, padding = self.pool_window
                layers.append(nn.AvgPool2d(kernel, 2) if self.pool == "average" else nn.MaxPool2d(kernel, 2, padding))
            in_channels = channels
        return nn.Sequential(*layers)

    def make_classifier(self) -> nn.Sequential:
        """Return the fully connected layers for flattened features; without a hidden layer, dropout acts on their input."""
        # Alpha dropout keeps mean and variance after SELU (Klambauer et al., arXiv:1706.02515).
        dropout = nn.AlphaDropout if self.alpha_dropout else nn.Dropout
        layers: list[nn.Module] = []
        channels = scale_units(self.convs[-1].channels, width=self.width, multiple=self.channel_multiple)
        in_features = channels * self.feature_size**2
        for units in self.hidden:
            out_features = scale_units(units, width=self.width)
            layer = [nn.Linear(in_features, out_features * self.expansion), self.activation()]
            layers += [dropout(self.dropout), *layer] if self.dropout_place == "inputs" else [*layer, dropout(self.dropout)]
            in_features = out_features
        if not self.hidden:
            layers.append(dropout(self.dropout))
        return nn.Sequential(*layers, nn.Linear(in_features, self.num_classes))
