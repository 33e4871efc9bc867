"""The callback that shows a run's worker that its step loop is alive."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl

from bakeoff.run_files.run_dir import RunDir

INTERVAL = 1.0
"""Seconds between two signs of life at least; each is one system call."""


class Heartbeat(pl.Callback):
    """Gives a sign of life after each batch of training, validation and test; only for rank 0, which a rank that hangs holds up."""

    def __init__(self, run_dir: RunDir) -> None:
        """Beat in `run_dir`."""
        self.run_dir, self.next_beat = run_dir, 0.0

    def _beat(self, *_: Any, **__: Any) -> None:
        if time.monotonic() >= self.next_beat:
            self.next_beat = time.monotonic() + INTERVAL
            self.run_dir.beat()

    on_train_batch_end = on_validation_batch_end = on_test_batch_end = _beat
