"""What a plan will cost, found out before anything is started: sizes, numbers of steps, and the time of a few real steps."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

import pytorch_lightning as pl
import torch

from bakeoff import builders
from bakeoff.config.schema import RunConfig
from bakeoff.errors import BakeoffError
from bakeoff.training.lightning_module import ClassificationModule
from bakeoff.training.run_training import make_trainer, set_determinism, silence_lightning

STEPS = 8
"""Steps of a probe at most; the first one, which warms up, is not timed where there is another."""
SECONDS = 4.0
"""When a probe stops, at the end of the step that it is in."""
FORWARD = 1 / 3
"""What scoring an image costs of what training on it does: one pass of three alike."""


def count_parameters(run: RunConfig) -> int:
    """Numbers that the run's net learns, counted without making them."""
    with torch.device("meta"):
        return sum(p.numel() for p in builders.make_uninitialized_model(run).parameters())


def count_steps(run: RunConfig, *, steps_per_epoch: int) -> int:
    """Optimizer steps of the whole run."""
    whole = run.trainer.max_epochs * steps_per_epoch
    return whole if run.trainer.max_steps is None else min(whole, run.trainer.max_steps)


class StepTimer(pl.Callback):
    """Notes when each optimizer step ends, and ends the fit when it has seen enough."""

    def __init__(self, *, seconds: float) -> None:
        self.seconds, self.times = seconds, [time.perf_counter()]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The first step begins."""
        self.times = [time.perf_counter()]

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """A step ends, once the device has done it."""
        assert isinstance(pl_module, ClassificationModule)
        if pl_module.step >= len(self.times):
            if pl_module.device.type == "cuda":
                torch.cuda.synchronize()
            self.times.append(time.perf_counter())
        trainer.should_stop = trainer.should_stop or self.times[-1] - self.times[0] > self.seconds

    @property
    def rate(self) -> float:
        """Seconds a step."""
        first = 1 if len(self.times) > 2 else 0
        return (self.times[-1] - self.times[first]) / (len(self.times) - 1 - first)


class NullCheckpointer:
    """Keeps no checkpoint."""

    def step(self, task: ClassificationModule) -> None:
        """Nothing."""

    def epoch(self, task: ClassificationModule) -> None:
        """Nothing."""


def measure_cost(run: RunConfig, *, seconds: float = SECONDS) -> tuple[float, float]:
    """(seconds a step, seconds of the whole run) of a few real steps on one device, with the run's data, net, loss and optimizer.

    Validation after every epoch is reckoned at a third of training. Start-up and the test set are not in it.
    """
    silence_lightning()
    set_determinism(run)
    devices = run.trainer.devices
    one = {"trainer.devices": 1, "trainer.strategy": "auto", "trainer.progress": False, "data.batch_size": run.data.batch_size // devices}
    whole = builders.make_data(run.replace(**{key: value for key, value in one.items() if key != "data.batch_size"}))
    whole.setup("fit")
    total = whole.total_steps(run.trainer.max_epochs)
    run = run.replace(**one, **{"trainer.max_steps": min(STEPS, whole.steps_per_epoch)})
    trainer, data = make_trainer(run), builders.make_data(run)
    data.trainer = trainer
    data.setup("fit")
    clock = StepTimer(seconds=seconds)
    trainer.callbacks.append(clock)  # type: ignore[attr-defined]
    trainer.limit_val_batches = 0
    trainer.fit_loop.max_epochs = 1
    task = ClassificationModule(
        run, total_steps=total, steps_per_epoch=data.steps_per_epoch, report=lambda values, step: None, keep=NullCheckpointer()
    )
    trainer.fit(task, datamodule=data)
    epochs = math.ceil(total / whole.steps_per_epoch)
    return clock.rate, clock.rate * (total + FORWARD * epochs * whole.n_val / whole.batch_size)


def probe_main(runs: Sequence[RunConfig], wire: Connection) -> None:
    """The life of a probe's process: sends `cost` of every run, or the first complaint."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        wire.send([measure_cost(run) for run in runs])
    except BakeoffError as error:
        wire.send(str(error))
    finally:
        wire.close()
