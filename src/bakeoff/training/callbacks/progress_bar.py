"""The progress of a run: a bar on a terminal, one line an epoch elsewhere; always on standard error."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from bakeoff.errors import echo, printable
from bakeoff.training.lightning_module import ClassificationModule


class ThreeLines(Progress):
    """A title, a bar and the metrics, each on a line of its own that is cut at the terminal's edge, so that none crowds out the bar."""

    def get_renderables(self) -> Iterator[RenderableType]:
        """Yield the lines."""
        for task in self.tasks:
            yield Text(printable(task.description), no_wrap=True, overflow="ellipsis")
            yield self.make_tasks_table([task])
            yield Text(printable(task.fields["metrics"]), no_wrap=True, overflow="ellipsis")


class TrainingProgressBar(pl.Callback):
    """Shows loss, accuracy, images per second and the time left of the whole run."""

    def __init__(self, *, title: str) -> None:
        """Show the run under `title`."""
        self.title = title
        self.console = Console(stderr=True)
        self.progress: Progress | None = None
        self.start_time, self.first_step, self.last_update = 0.0, 0, 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the bar."""
        assert isinstance(pl_module, ClassificationModule)
        self.start_time, self.first_step = time.perf_counter(), pl_module.step
        if not self.console.is_terminal:
            return
        self.progress = ThreeLines(
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            expand=True,
            refresh_per_second=4,
        )
        self.task_id = self.progress.add_task(printable(self.title), total=pl_module.total_steps, completed=pl_module.step, metrics="")
        self.progress.start()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Move the bar, ten times a second at most."""
        if self.progress is not None and time.perf_counter() - self.last_update > 0.1:
            assert isinstance(pl_module, ClassificationModule)
            self.last_update = time.perf_counter()
            self.progress.update(self.task_id, completed=pl_module.step, metrics=format_metrics(pl_module))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """One line where there is no terminal."""
        assert isinstance(pl_module, ClassificationModule)
        if self.progress is not None:
            self.progress.update(self.task_id, completed=pl_module.step, metrics=format_metrics(pl_module))
            return
        rate = (pl_module.step - self.first_step) / max(1e-9, time.perf_counter() - self.start_time)
        left = (pl_module.total_steps - pl_module.step) / max(rate, 1e-9)
        step = f"{self.title}: step {pl_module.step}/{pl_module.total_steps}"
        echo(f"{step}  {format_metrics(pl_module)}  {left:.0f} s left", err=True)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the bar on the screen."""
        self.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Give the terminal back."""
        self.close()

    def close(self) -> None:
        """Stop drawing."""
        if self.progress is not None:
            self.progress.stop()
            self.progress = None


def format_metrics(module: ClassificationModule) -> str:
    """Return the latest metrics in short."""
    names = {"train/loss": "loss", "train/accuracy": "acc", "val/loss": "val loss", "val/accuracy": "val acc"}
    texts = [f"{short} {module.latest_metrics[name]:.4g}" for name, short in names.items() if name in module.latest_metrics]
    return "  ".join([*texts, *([f"{module.images_per_second:,.0f} images/s"] if module.images_per_second else [])])
