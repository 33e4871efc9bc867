"""What a run has reached while it trains, read from its journal: rank 0 writes it there, the worker decides by it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from bakeoff.run_files.journal import is_well_formed, scan_journal

COUNT = re.compile(r"[1-9][0-9]{0,15}")


class MetricTail:
    """Follows one metric of a run's journal, which it may share with processes that come and go."""

    def __init__(self, path: Path, *, metric: str) -> None:
        """Begin before the first line of the journal at `path`."""
        self.path, self.metric = path, metric
        self.offset = 0
        self.steps: dict[str, int] = {}

    def news(self) -> Iterator[tuple[int, float, int]]:
        """(epoch, value, epochs in all) of every epoch's end that has come since; the run's own counts of steps say where epochs end."""
        for offset, line in scan_journal(self.path, offset=self.offset):
            self.offset = offset
            if line is None or not is_well_formed(line):
                continue
            if line["kind"] == "params":
                counts = {key: line["values"].get(key) for key in ("total_steps", "steps_per_epoch")}
                self.steps |= {key: int(value) for key, value in counts.items() if value is not None and COUNT.fullmatch(value)}
            elif line["kind"] == "metrics" and self.metric in line["values"] and len(self.steps) == 2:
                epoch, total = self.steps["steps_per_epoch"], self.steps["total_steps"]
                step = int(line["step"])
                # A run's last epoch may be cut short.
                if step and (step % epoch == 0 or step == total):
                    yield -(-step // epoch), float(line["values"][self.metric]), -(-total // epoch)
