"""How far a sweep is, and how its arms stand, as numbers for tables."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

from bakeoff.sweep.candidates import Point


@dataclass
class ArmProgress:
    """How far one arm is in one block.

    `scores` are the confirming runs' last values of the metric, `seconds` the training time of every run, `reasons` why runs failed.
    Of the `pruned` trials, `audits` are to be run to their end; `wrong` of the `audited` would have been chosen. With several studies,
    `best` and `setting` are of the best one, `settings` of each.
    """

    arm: str
    block: str
    planned: int
    seeds: int
    done: int = 0
    failed: int = 0
    diverged: int = 0
    running: int = 0
    best: float | None = None
    setting: Point = field(default_factory=dict)
    confirmed: int = 0
    confirm_failed: int = 0
    confirm_diverged: int = 0
    scores: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    pruned: int = 0
    audits: int = 0
    audited: int = 0
    wrong: int = 0
    settings: list[Point] = field(default_factory=list)

    @property
    def left(self) -> int:
        """Runs that are still to come, as far as is known."""
        return self.planned - self.done + self.seeds - self.confirmed + self.audits - self.audited

    @property
    def mean(self) -> float | None:
        """Over the confirming runs."""
        return fmean(self.scores) if self.scores else None

    def tree(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "mean": self.mean}


def seconds_left(arms_progress: list[ArmProgress], *, workers: int) -> float | None:
    """A guess from the mean time of the runs so far, arm by arm; None before the first."""
    known = [second for arm_progress in arms_progress for second in arm_progress.seconds]
    if not known:
        return None
    overall = fmean(known)
    return sum(
        arm_progress.left * (fmean(arm_progress.seconds) if arm_progress.seconds else overall) for arm_progress in arms_progress
    ) / max(1, workers)
