"""Initializers: each fills every convolution and linear layer of a net from one generator, in the order of the net's modules."""

from __future__ import annotations

from bakeoff.components.initializers.base import Fans as Fans
from bakeoff.components.initializers.base import Initializer as Initializer
from bakeoff.components.initializers.base import check_head as check_head
from bakeoff.components.initializers.base import fans as fans
from bakeoff.components.initializers.base import scale_head as scale_head
from bakeoff.components.initializers.distributions import (
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
from bakeoff.components.initializers.gain import GAIN_COLUMNS as GAIN_COLUMNS
from bakeoff.components.initializers.gain import activation_gain as activation_gain
from bakeoff.components.initializers.gain import critical_gain as critical_gain
from bakeoff.components.initializers.gain import gain_by_rule as gain_by_rule
from bakeoff.components.initializers.gain import gain_row as gain_row
from bakeoff.components.initializers.gain import gradient_factor as gradient_factor
from bakeoff.components.initializers.layerwise import AlexNetPaper
from bakeoff.components.initializers.orthogonal import LSUV, DeltaOrthogonal, Orthogonal
from bakeoff.components.initializers.transfer import FromRun

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
