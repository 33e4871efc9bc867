"""The callback that reads the module's meters and logs the metrics of a run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl

from bakeoff.training.lightning_module import ClassificationModule


def log_metrics(trainer: pl.Trainer, values: Mapping[str, float], *, step: int) -> None:
    """Log metrics to every logger of the Trainer.

    `self.log` would cost 1 ms or more a metric, and would count in batches instead of optimizer steps.
    """
    for logger in trainer.loggers:
        logger.log_metrics(dict(values), step)


class MetricLogging(pl.Callback):
    """Logs the training metrics every so many steps, and those of every validation and test.

    `train/loss` is the data's loss alone, of mixed images where they are mixed; `train/penalty` stands beside it. Images per second leave
    validation out.
    """

    def __init__(self, *, every: int) -> None:
        """Log the training metrics every `every` optimizer steps, and at the end of each epoch."""
        self.every = every
        self._window_start, self._window_images = 0.0, 0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restart the clock."""
        self._window_start, self._window_images = time.perf_counter(), 0

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log the window that ends with this step, if one does."""
        assert isinstance(pl_module, ClassificationModule)
        self._window_images += len(batch[1]) * trainer.world_size
        step = pl_module.step
        if pl_module.ends_step(batch_idx) and (
            step % self.every == 0 or step % pl_module.steps_per_epoch == 0 or step == pl_module.total_steps
        ):
            self._log_window(trainer, pl_module)

    def _log_window(self, trainer: pl.Trainer, module: ClassificationModule) -> None:
        values = module.train_window_meter.compute().named("train") | {"lr": float(trainer.optimizers[0].param_groups[0]["lr"])}
        module.train_epoch_meter.sums += module.train_window_meter.sums
        module.train_window_meter.reset()
        if module.penalties is not None:
            values["train/penalty"] = float(module.penalties().detach())
        module.latest_metrics |= values
        now = time.perf_counter()
        module.images_per_second = self._window_images / (now - self._window_start)
        self._window_start, self._window_images = now, 0
        log_metrics(trainer, values | {"images_per_second": module.images_per_second}, step=module.step)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the validation, and the means over the epoch's training steps."""
        assert isinstance(pl_module, ClassificationModule)
        val, train = pl_module.eval_meter.compute(), pl_module.train_epoch_meter.compute()
        pl_module.train_epoch_meter.reset()
        epoch_values = {"train/epoch_loss": train.loss, "train/epoch_accuracy": train.accuracy, "epoch": float(trainer.current_epoch + 1)}
        values = val.named("val") | epoch_values
        pl_module.latest_metrics |= values
        if not pl_module.best_metrics or val.accuracy > pl_module.best_metrics["val/accuracy"]:
            pl_module.best_metrics = {"val/loss": val.loss, "val/accuracy": val.accuracy, "step": float(pl_module.step)}
        log_metrics(trainer, values, step=pl_module.step)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the test: one number a run and no curve. At step 0, MLflow's chart page compares the runs by bars."""
        assert isinstance(pl_module, ClassificationModule)
        values = pl_module.eval_meter.compute().named(pl_module.test_prefix)
        pl_module.latest_metrics |= values
        log_metrics(trainer, values, step=0)
