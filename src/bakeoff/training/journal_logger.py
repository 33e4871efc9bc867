"""The Lightning logger of every run: it writes to the run's journal, which any tracking store is replayed from."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from pytorch_lightning.loggers import Logger

from bakeoff.run_files.journal import Journal, read_journal


class JournalLogger(Logger):
    """Logs to a journal, and keeps the curves of the run for whoever diagnoses it.

    The journal begins before the fit and ends after the test, so that `finalize` has nothing to do.

    Attributes:
        curves: Metric -> optimizer step -> value, of training and validation: what this process has logged, and what an earlier one had
            logged at the step of its checkpoint.
    """

    def __init__(self, journal: Journal, *, resumed_at: int = 0) -> None:
        """Log to `journal`; `resumed_at` is the step of the checkpoint from which the run goes on."""
        super().__init__()
        self.journal = journal
        self.curves: dict[str, dict[int, float]] = {}
        for line in read_journal(journal.path) if resumed_at else ():
            if line["kind"] == "metrics" and line["step"] <= resumed_at:
                self._remember({name: float(value) for name, value in line["values"].items()}, line["step"])

    @property
    def name(self) -> str:
        """What Lightning calls this logger."""
        return "journal"

    @property
    def version(self) -> str:
        """A run's journal has one version."""
        return ""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Log metrics at an optimizer step; a point that an earlier process of this run has written is not written again."""
        assert step is not None, "a point of a curve has a step"
        self._remember(metrics, step)
        self.journal.metrics(metrics, step=step)

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Log names and values that stay the same for the whole run."""
        self.journal.params(params if isinstance(params, dict) else vars(params))

    def _remember(self, metrics: dict[str, float], step: int) -> None:
        for name, value in metrics.items():
            if name.startswith(("train/", "val/")):
                self.curves.setdefault(name, {})[step] = value
