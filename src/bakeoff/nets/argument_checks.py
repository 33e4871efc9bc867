"""Sizes that the nets share: widths scaled, pictures pooled, and one-line errors where an argument does not fit."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from torch import nn

from bakeoff.errors import ChoiceError, join_choices, near_miss

HEADS = ("small", "imagenet")
Head = Literal["small", "imagenet"]
Activation = Callable[[], nn.Module]


def scaled(units: int, *, width: float, multiple: int = 1) -> int:
    """`units` times `width`, rounded to a multiple of `multiple` and at least that (channels or hidden units)."""
    return multiple * max(1, round(units * width / multiple))


def pooled(size: int, *, kernel: int, stride: int, padding: int = 0) -> int:
    """Side in pixels that a convolution or pooling makes of `size` pixels; 0 where the kernel does not fit in."""
    return max(0, (size + 2 * padding - kernel) // stride + 1)


def check_shape(net: str, *, num_classes: int, in_channels: int, width: float, dropout: float, head: str) -> None:
    """Raises ChoiceError in one line where an argument of `net` is out of its range."""
    if head not in HEADS:
        raise ChoiceError(f"model.head={head}: {net} has no such head{near_miss(str(head), HEADS)}; choices: {join_choices(HEADS)}")
    if num_classes < 1:
        raise ChoiceError(f"model.num_classes={num_classes}: {net} needs at least 1 class")
    if in_channels < 1:
        raise ChoiceError(f"model.in_channels={in_channels}: {net} needs at least 1 channel")
    if not (math.isfinite(width) and width > 0):
        raise ChoiceError(f"model.width={width}: must be a finite number above 0")
    if not 0 <= dropout < 1:
        raise ChoiceError(f"model.dropout={dropout}: must be at least 0 and below 1")


def check_choice(key: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises ChoiceError in one line where `model.<key>` is none of the choices."""
    if value not in choices:
        raise ChoiceError(f"model.{key}={value}: no such choice{near_miss(str(value), choices)}; choices: {join_choices(choices)}")


def check_hidden(hidden: tuple[int, ...], *, head: str, own: tuple[int, ...]) -> None:
    """Raises ChoiceError where hidden layers are asked for that the head does not take, or that have no unit."""
    if any(units < 1 for units in hidden):
        raise ChoiceError(f"model.hidden={list(hidden)}: every hidden layer needs at least 1 unit")
    if head == "imagenet" and hidden:
        raise ChoiceError(
            f"model.hidden={list(hidden)}: the hidden layers of model.head=imagenet are {join_choices(map(str, own))}; leave it at []"
        )
