"""The callback that ends a run whose loss explodes."""

from __future__ import annotations

import math
from typing import Any

import pytorch_lightning as pl
import torch

from bakeoff.training.lightning_module import ClassificationModule


class DivergenceDetection(pl.Callback):
    """Ends the training where the training loss is not finite.

    At the end of an epoch also where the validation loss or a weight is not finite, or the training loss far above the chance loss.
    """

    def __init__(self, *, limit: float) -> None:
        """Allow a training loss of `limit` times the chance loss."""
        self.limit = limit

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Look at the training loss last logged."""
        assert isinstance(pl_module, ClassificationModule)
        loss = pl_module.latest_metrics.get("train/loss", 0.0)
        if not math.isfinite(loss):
            self._stop(trainer, pl_module, f"train/loss is {loss} at step {pl_module.step}")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the validation loss and the weights, and compare the training loss at the epoch's end with the chance loss."""
        assert isinstance(pl_module, ClassificationModule)
        val_loss = pl_module.latest_metrics["val/loss"]
        if not math.isfinite(val_loss):
            self._stop(trainer, pl_module, f"val/loss is {val_loss} at step {pl_module.step}")
        elif not torch.stack([weight.detach().sum(dtype=torch.float64) for weight in pl_module.net.parameters()]).isfinite().all():
            self._stop(trainer, pl_module, f"a weight is not finite at step {pl_module.step}")
        loss, chance = pl_module.latest_metrics["train/loss"], pl_module.chance_loss
        if loss > self.limit * chance:
            bound = f"{self.limit:g} times the chance loss, {chance:.3g}"
            self._stop(trainer, pl_module, f"train/loss is {loss:.3g} at step {pl_module.step}, over {bound}")

    @staticmethod
    def _stop(trainer: pl.Trainer, module: ClassificationModule, reason: str) -> None:
        """End the fit; the first reason counts."""
        module.diverged = module.diverged or reason
        trainer.should_stop = True
