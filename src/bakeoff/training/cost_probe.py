"""What a run will cost, found out before anything is started: parameters, optimizer steps, and the time of a few real steps."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch

from bakeoff import builders
from bakeoff.config.schema import RunConfig
from bakeoff.errors import BakeoffError
from bakeoff.training.callbacks.metric_logging import MetricLogging
from bakeoff.training.callbacks.schedule_stepping import ScheduleStepping
from bakeoff.training.callbacks.weight_averaging import ScheduleFreeAveraging
from bakeoff.training.lightning_module import ClassificationModule
from bakeoff.training.trainer import make_trainer, set_determinism, silence_lightning

MAX_STEPS = 8
"""Steps of a probe at most; the first one, which warms up, is not timed where there is another."""
MAX_SECONDS = 4.0
"""When a probe stops, at the end of the step that it is in."""
EVAL_COST = 1 / 3
"""What scoring an image costs relative to training on it: the forward pass is one of three passes of equal cost."""


class RunCost(NamedTuple):
    """Seconds of one optimizer step and of the whole run."""

    seconds_per_step: float
    seconds: float


def count_parameters(run: RunConfig) -> int:
    """Return how many parameters the run's net learns, without allocating them."""
    with torch.device("meta"):
        return sum(p.numel() for p in builders.make_uninitialized_model(run).parameters())


def count_steps(run: RunConfig, *, steps_per_epoch: int) -> int:
    """Return the optimizer steps of the whole run."""
    steps = run.trainer.max_epochs * steps_per_epoch
    return steps if run.trainer.max_steps is None else min(steps, run.trainer.max_steps)


class StepTimer(pl.Callback):
    """Notes when each optimizer step ends, and ends the fit after `max_seconds`."""

    def __init__(self, *, max_seconds: float) -> None:
        """Start the clock; the start of the training restarts it."""
        self.max_seconds, self.times = max_seconds, [time.perf_counter()]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note the start of the first step."""
        self.times = [time.perf_counter()]

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Note the end of a step, once the device has done it."""
        assert isinstance(pl_module, ClassificationModule)
        if pl_module.step >= len(self.times):
            if pl_module.device.type == "cuda":
                torch.cuda.synchronize()
            self.times.append(time.perf_counter())
        trainer.should_stop = trainer.should_stop or self.times[-1] - self.times[0] > self.max_seconds

    @property
    def seconds_per_step(self) -> float:
        """The mean over the timed steps."""
        first = 1 if len(self.times) > 2 else 0
        return (self.times[-1] - self.times[first]) / (len(self.times) - 1 - first)


def measure_cost(run: RunConfig, *, max_seconds: float = MAX_SECONDS) -> RunCost:
    """Time a few real steps on one device, with the run's data, net, loss and optimizer.

    The validation after every epoch is estimated from the steps. Start-up and the test set are left out.

    Args:
        run: The run, which may be for several devices.
        max_seconds: When to stop.
    """
    silence_lightning()
    set_determinism(run)
    one_device = {"trainer.devices": 1, "trainer.strategy": "auto", "trainer.progress": False}
    full_data = builders.set_up_data(run.replace(**one_device))
    total_steps = full_data.total_steps(run.trainer.max_epochs)
    max_steps, batch_size = min(MAX_STEPS, full_data.steps_per_epoch), run.data.batch_size // run.trainer.devices
    short_run = run.replace(**one_device, **{"trainer.max_steps": max_steps, "trainer.max_epochs": 1, "data.batch_size": batch_size})
    timer = StepTimer(max_seconds=max_seconds)
    callbacks = [ScheduleFreeAveraging(), ScheduleStepping(), MetricLogging(every=run.trainer.log_every), timer]
    trainer = make_trainer(short_run, callbacks=callbacks, validate=False)
    data = builders.set_up_data(short_run, trainer=trainer)
    with builders.data_errors(short_run):
        trainer.fit(ClassificationModule(short_run, total_steps=total_steps, steps_per_epoch=data.steps_per_epoch), datamodule=data)
    epochs = math.ceil(total_steps / full_data.steps_per_epoch)
    steps_of_validation = EVAL_COST * epochs * full_data.n_val / full_data.batch_plan.batch_size
    return RunCost(timer.seconds_per_step, timer.seconds_per_step * (total_steps + steps_of_validation))


def probe_main(runs: Sequence[RunConfig], connection: Connection) -> None:
    """Run a probe in a process of its own: send the cost of every run, or the message of the first error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        connection.send([measure_cost(run) for run in runs])
    except BakeoffError as error:
        connection.send(str(error))
    finally:
        connection.close()
