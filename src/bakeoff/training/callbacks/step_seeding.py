"""The callback that seeds every micro-batch."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from bakeoff.training.lightning_module import ClassificationModule


class StepSeeding(pl.Callback):
    """Seeds dropout, mixup and all other randomness on the device from the step's place in the run."""

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        """Seed the pass over one micro-batch."""
        assert isinstance(pl_module, ClassificationModule)
        pl_module.seed_step(micro_batch=batch_idx % pl_module.run.trainer.accumulate)
