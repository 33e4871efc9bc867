"""What a sweep set out to do, read from its plan.json."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bakeoff.errors import StoreError
from bakeoff.report.statistics import Goal

#: A best value within this share of a space's ends is flagged: the true optimum may lie outside.
EDGE = 0.1


@dataclass(frozen=True)
class Range:
    """The space in which one key was tuned."""

    low: float
    high: float
    log: bool = False

    def place(self, value: float) -> float:
        """Where a value lies: 0 at the low end, 1 at the high end, on the space's own scale. NaN for a space without width."""
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        at = math.log(value) if self.log and value > 0 else value
        return (at - low) / (high - low) if high > low else math.nan

    def edge(self, value: float) -> str | None:
        """'low' or 'high' where a value lies within `EDGE` of that end; else None."""
        at = self.place(value)
        return "low" if at < EDGE else "high" if at > 1 - EDGE else None


@dataclass(frozen=True)
class Cell:
    """One arm in one block: what is tuned in it, in which space, with how many trials."""

    arm: str
    block: str
    spaces: Mapping[str, Range]
    trials: int


@dataclass(frozen=True)
class Design:
    """A sweep's declaration. `metric` is what tuning looked at; `seeds` are the confirm seeds of every cell."""

    name: str
    hash: str
    question: str
    metric: str
    goal: Goal
    margin: float
    arms: tuple[str, ...]
    blocks: tuple[str, ...]
    cells: tuple[Cell, ...]
    sampler: str
    seeds: int
    fixed: Mapping[str, Any]
    command: str

    @property
    def trials(self) -> int:
        """Planned tuning runs in all."""
        return sum(cell.trials for cell in self.cells)

    @property
    def confirms(self) -> int:
        """Planned confirm runs in all."""
        return self.seeds * len(self.cells)

    @property
    def tuned(self) -> tuple[str, ...]:
        """Every key that is tuned in some cell, in the order of the cells."""
        return tuple(dict.fromkeys(key for cell in self.cells for key in cell.spaces))

    def space(self, arm: str, block: str, key: str) -> Range | None:
        """The space of a key in one cell; None where it is not tuned there."""
        return next((cell.spaces.get(key) for cell in self.cells if (cell.arm, cell.block) == (arm, block)), None)


def design(plan: Mapping[str, Any]) -> Design:
    """The design that a plan.json declares. StoreError names the key that is missing or wrong."""
    try:
        cells = tuple(
            Cell(
                str(cell["arm"]),
                str(cell["block"]),
                {key: Range(float(s["low"]), float(s["high"]), bool(s.get("log", False))) for key, s in cell["spaces"].items()},
                len(cell["points"]),
            )
            for cell in plan["cells"]
        )
        return Design(
            name=str(plan["name"]),
            hash=str(plan["hash"]),
            question=str(plan["question"]),
            metric=str(plan["metric"]["name"]),
            goal=plan["metric"]["goal"],
            margin=float(plan["margin"]),
            arms=tuple(dict.fromkeys(cell.arm for cell in cells)),
            blocks=tuple(dict.fromkeys(cell.block for cell in cells)),
            cells=cells,
            sampler=str(plan["budget"]["sampler"]),
            seeds=len(plan["confirm"]["seeds"]),
            fixed=dict(plan["fixed"]),
            command=str(plan["command"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"plan.json of the sweep's summary run is not a plan of this version: {type(error).__name__}: {error}") from None
