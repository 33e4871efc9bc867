"""The callbacks that restore a run from its checkpoint and write new ones.

Lightning's own checkpoints are not used: a run that they restart in the middle of an epoch trains on other batches, and even at the end of
one its bits differ. Here the order of images is a function of (seed, epoch) and the randomness of a step one of (seed, step), so that the
weights, the optimizer, the schedule and the place in the epoch are all that a process needs to go on with the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Timer

from bakeoff.errors import FolderError
from bakeoff.run_files import checkpoints
from bakeoff.training.callbacks.weight_averaging import has_eval_mode
from bakeoff.training.lightning_module import ClassificationModule

State = dict[str, Any]
"""What a checkpoint file holds: tensors and plain types alone."""


def capture_state(trainer: pl.Trainer, module: ClassificationModule, *, epoch: int, skip: int) -> State:
    """Return what a process needs to go on from here. Every rank must call it.

    Args:
        trainer: The Trainer that fits `module`.
        module: The run's module.
        epoch: The epoch in which training goes on.
        skip: The micro-batches of that epoch that were trained on before.
    """
    optimizer, scaler = trainer.optimizers[0], getattr(trainer.precision_plugin, "scaler", None)
    return {
        "net": module.trained_weights(),
        **({"training": module.net.state_dict()} if has_eval_mode(optimizer) else {}),
        "optimizer": optimizer.state_dict(),
        "schedule": module.schedule.state_dict(),
        "scaler": scaler.state_dict() if scaler is not None else None,
        "epoch": epoch,
        "skip": skip,
        "step": module.step,
        "micro": 0,  # a checkpoint lies between two steps
        "window": module.train_window_meter.global_sums().cpu(),
        "sums": module.train_epoch_meter.global_sums().cpu(),
        "metrics": module.latest_metrics,
        "best": module.best_metrics,
        "diverged": module.diverged,
        "seconds": module.earlier_seconds + training_seconds(trainer),
    }


def training_seconds(trainer: pl.Trainer) -> float:
    """Return how long this process has trained, by the Trainer's timer; 0 where there is none."""
    return next((callback.time_elapsed("train") for callback in trainer.callbacks if isinstance(callback, Timer)), 0.0)  # type: ignore[attr-defined]  # a list


class RestoreCheckpoint(pl.Callback):
    """Puts a run where its checkpoint was taken, at the start of the fit."""

    def __init__(self, state: State) -> None:
        """Take the checkpoint's content."""
        self.state = state

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore module, optimizer, schedule, and the place in the data; a run that has diverged is not trained on."""
        try:
            self._restore(trainer, pl_module)
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise FolderError(f"the run's checkpoint does not fit its config, and it cannot go on ({reason})") from error

    def _restore(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, ClassificationModule)
        self._restore_module(trainer, pl_module)
        trainer.optimizers[0].load_state_dict(self.state["optimizer"])
        pl_module.schedule.load_state_dict(self.state["schedule"])
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        if scaler is not None and self.state.get("scaler"):
            scaler.load_state_dict(self.state["scaler"])
        datamodule: pl.LightningDataModule = trainer.datamodule  # type: ignore[attr-defined]  # set by `fit`, but not declared
        datamodule.load_state_dict({"epoch": self.state["epoch"], "skip": self.state["skip"]})
        # A fresh Trainer at this epoch: Lightning's own restart would repeat batches.
        for counter in ("ready", "started", "processed", "completed"):
            setattr(trainer.fit_loop.epoch_progress.current, counter, self.state["epoch"])
        if self.state["diverged"]:
            trainer.fit_loop.max_epochs = self.state["epoch"]

    def _restore_module(self, trainer: pl.Trainer, module: ClassificationModule) -> None:
        state = self.state
        module.net.load_state_dict(state["training"] if "training" in state else state["net"])
        if "training" in state:
            module.averaged_weights = state["net"]
        module.step = int(state["step"])
        module.latest_metrics, module.best_metrics = dict(state["metrics"]), dict(state["best"])
        module.diverged = state["diverged"]
        module.earlier_seconds = float(state.get("seconds", 0.0))
        if trainer.is_global_zero:  # the sums are those of all ranks
            module.train_window_meter.sums += state["window"].to(module.train_window_meter.sums.device)
            module.train_epoch_meter.sums += state["sums"].to(module.train_epoch_meter.sums.device)


class SaveCheckpoints(pl.Callback):
    """Writes `last` after every epoch's validation and every so many steps, and `best` where validation is best so far.

    Every rank captures the state; rank 0 writes it. It belongs behind all callbacks that change the state.
    """

    def __init__(self, directory: Path, *, every: int | None, before: Callable[[], None]) -> None:
        """Write into `directory`, within an epoch every `every` steps (None: at the ends of epochs alone).

        `before` flushes the journal: a checkpoint that outlives a power cut alone would leave its steps without their values for good.
        """
        self.directory, self.every, self.before = directory, every, before

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Write a checkpoint within an epoch."""
        assert isinstance(pl_module, ClassificationModule)
        if self.every is None or not pl_module.ends_step(batch_idx) or pl_module.step % self.every:
            return
        steps_done = pl_module.step - trainer.current_epoch * pl_module.steps_per_epoch
        # Not after the epoch's last step: what is left then is its validation, which a resumed fit would leave out.
        if 0 < steps_done < pl_module.steps_per_epoch and pl_module.step < pl_module.total_steps:
            self._save(trainer, pl_module, epoch=trainer.current_epoch, skip=steps_done * pl_module.run.trainer.accumulate)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the checkpoint of a finished epoch."""
        assert isinstance(pl_module, ClassificationModule)
        self._save(trainer, pl_module, epoch=trainer.current_epoch + 1, skip=0)
        if trainer.is_global_zero and pl_module.best_metrics.get("step") == pl_module.step:
            best = {"net": pl_module.trained_weights(), "metrics": pl_module.best_metrics}
            checkpoints.save_checkpoint(self.directory, best, name="best")

    def _save(self, trainer: pl.Trainer, module: ClassificationModule, *, epoch: int, skip: int) -> None:
        state = capture_state(trainer, module, epoch=epoch, skip=skip)
        if trainer.is_global_zero:
            self.before()
            checkpoints.save_checkpoint(self.directory, state)
