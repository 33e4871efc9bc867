"""Initializers: each fills every convolution and linear layer of a net from one generator, in the order of the net's modules."""

from __future__ import annotations

from bakeoff.arms.initializers.basis import Fans as Fans
from bakeoff.arms.initializers.basis import Initializer as Initializer
from bakeoff.arms.initializers.basis import fans as fans
from bakeoff.arms.initializers.draws import (
    Constant,
    HeNormal,
    HeUniform,
    Normal,
    Sparse,
    TorchDefault,
    TruncNormal,
    XavierNormal,
    XavierUniform,
    Zeros,
)
from bakeoff.arms.initializers.gain import activation_gain as activation_gain
from bakeoff.arms.initializers.orthogonal import LSUV, DeltaOrthogonal, Orthogonal
from bakeoff.arms.initializers.papers import AlexNetPaper
from bakeoff.arms.initializers.transfer import FromRun

# The names that a config may use as a target.
__all__ = [
    "LSUV",
    "AlexNetPaper",
    "Constant",
    "DeltaOrthogonal",
    "FromRun",
    "HeNormal",
    "HeUniform",
    "Normal",
    "Orthogonal",
    "Sparse",
    "TorchDefault",
    "TruncNormal",
    "XavierNormal",
    "XavierUniform",
    "Zeros",
]
