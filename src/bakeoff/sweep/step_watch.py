"""Whether a trial still makes steps, seen from its worker."""

from __future__ import annotations

import time

from bakeoff.config.schema import RunConfig
from bakeoff.run_files.run_dir import RunDir

POLL = 1.0
"""Seconds between two looks."""
FACTOR = 50.0
"""How many times the longest step so far a step may take."""
FLOOR = 120.0
"""Seconds that every step may take."""
START_UP = 600.0
"""Seconds until the first step, for data and compilation; any step may take as long where a run compiles or measures everything."""


class StepWatch:
    """Measures the time between a run's signs of life; time in which the worker itself stood still does not count."""

    def __init__(self, run_dir: RunDir, run: RunConfig) -> None:
        """Begin to watch a run that is about to start."""
        self.run_dir = run_dir
        self.floor = START_UP if run.trainer.compile or run.diagnostics == "full" else FLOOR
        self.beat, self.beats = run_dir.last_beat(), 0
        self.silence = self.longest = 0.0
        self.looked = time.monotonic()

    def overdue(self) -> float | None:
        """Look; return the seconds without a step where they are too many, else None."""
        now, beat = time.monotonic(), self.run_dir.last_beat()
        self.silence += min(now - self.looked, 2 * POLL)
        self.looked = now
        if beat != self.beat:
            # The first sign of life is the run's start, the second one its first step.
            self.longest = max(self.longest, self.silence) if self.beats > 1 else 0.0
            self.beat, self.silence = beat, 0.0
            self.beats += 1
        limit = max(self.floor, FACTOR * self.longest) if self.beats > 1 else START_UP
        return self.silence if self.silence > limit else None
