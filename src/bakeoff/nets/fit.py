"""Sizes that the nets share: widths scaled, pictures pooled, and one-line errors where an argument does not fit."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from torch import nn

from bakeoff.errors import ChoiceError, listed, near_miss

HEADS = ("small", "imagenet")
Head = Literal["small", "imagenet"]
Activation = Callable[[], nn.Module]


def scaled(units: int, *, width: float) -> int:
    """`units` times `width`, rounded, at least 1 (channels or hidden units)."""
    return max(1, round(units * width))


def pooled(size: int, *, kernel: int, stride: int, padding: int = 0) -> int:
    """Side in pixels that a convolution or pooling makes of `size` pixels; below 1 where the kernel does not fit in."""
    return (size + 2 * padding - kernel) // stride + 1


def check_shape(net: str, *, num_classes: int, in_channels: int, width: float, dropout: float, head: str) -> None:
    """Raises ChoiceError in one line where an argument of `net` is out of its range."""
    if head not in HEADS:
        raise ChoiceError(f"model.head={head}: {net} has no such head{near_miss(str(head), HEADS)}; choices: {listed(HEADS)}")
    if num_classes < 1:
        raise ChoiceError(f"model.num_classes={num_classes}: {net} needs at least 1 class")
    if in_channels < 1:
        raise ChoiceError(f"model.in_channels={in_channels}: {net} needs at least 1 channel")
    if not (math.isfinite(width) and width > 0):
        raise ChoiceError(f"model.width={width}: must be a finite number above 0")
    if not 0 <= dropout < 1:
        raise ChoiceError(f"model.dropout={dropout}: must be at least 0 and below 1")


def check_size(net: str, *, size: int, least: int, head: str) -> None:
    """Raises ChoiceError where pictures of `size` pixels leave nothing after the last pooling of this head."""
    if size < least:
        hint = "; model.head=small takes smaller pictures" if head == "imagenet" else ""
        raise ChoiceError(f"data.size={size}: {net} with model.head={head} needs pictures of at least {least}x{least} pixels{hint}")
