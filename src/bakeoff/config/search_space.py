"""The range in which an argument is tuned."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bakeoff.errors import ConfigError


@dataclass(frozen=True)
class SearchSpace:
    """The search range of an argument, declared by its choice or by a sweep.

    With `choices`, low and high are the first and last index of these values. With `complement`, 1 - x is uniform on a logarithmic
    scale, as for momenta near 1.
    """

    low: float
    high: float
    log: bool = False
    integer: bool = False
    choices: tuple[str | int | float | bool, ...] = ()
    complement: bool = False

    def position(self, value: str | int | float | bool) -> float:
        """Where a value lies: 0 at the low end, 1 at the high end, on the space's own scale; a choice is at its number."""
        if self.choices:
            return float(self.choices.index(value))
        low, high, at = self.low, self.high, float(value)
        if self.log:
            low, high, at = math.log(low), math.log(high), math.log(at)
        elif self.complement:
            low, high, at = -math.log(1 - low), -math.log(1 - high), -math.log(1 - at)
        return (at - low) / (high - low)


def parse_search_space(key: str, value: Any) -> SearchSpace:
    """Parse the search space `{low: 1e-4, high: 1, log: true}` or `{choices: [a, b]}` of a dotted key.

    Raises:
        ConfigError: The value has another form.
    """
    if isinstance(value, Mapping) and "choices" in value:
        return _parse_choices(key, value)
    if not isinstance(value, Mapping) or not {"low", "high"} <= set(value) or not set(value) <= {"low", "high", "log", "complement"}:
        raise ConfigError(f"{key}={value}: must be {{low: 1e-4, high: 1, log: true}}, or with complement: true for 1 - x on a log scale")
    low, high, log, complement = value["low"], value["high"], value.get("log", False), value.get("complement", False)
    are_numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in (low, high))
    if not are_numbers or not low < high or not isinstance(log, bool) or (log and low <= 0):
        raise ConfigError(f"{key}={value}: must have numbers low < high, and low > 0 where log is true")
    if not isinstance(complement, bool) or (complement and (log or high >= 1)):
        raise ConfigError(f"{key}={value}: with complement: true (1 - x on a log scale) high must be below 1, and log must be omitted")
    is_integer = isinstance(low, int) and isinstance(high, int) and not (log or complement)
    return SearchSpace(low=float(low), high=float(high), log=log, integer=is_integer, complement=complement)


def _parse_choices(key: str, value: Mapping[str, Any]) -> SearchSpace:
    """Read `{choices: [a, b]}`."""
    items = value["choices"]
    are_plain = isinstance(items, list) and all(isinstance(item, str | int | float) for item in items)
    if len(value) > 1 or not are_plain or len({repr(item) for item in items}) < max(2, len(items)):
        raise ConfigError(f"{key}={value}: must be {{choices: [a, b]}} with two or more distinct plain values")
    return SearchSpace(low=0.0, high=len(items) - 1.0, integer=True, choices=tuple(items))
