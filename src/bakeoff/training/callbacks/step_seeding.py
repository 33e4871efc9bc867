"""The callback that seeds every micro-batch."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from bakeoff.config.schema import RunConfig
from bakeoff.training.lightning_module import ClassificationModule, seed_step


class StepSeeding(pl.Callback):
    """Seeds dropout, mixup and all other randomness on the device from the step's place in the run."""

    def __init__(self, run: RunConfig) -> None:
        """Take the seed and the number of micro-batches a step from `run`."""
        self.seed, self.accumulate = run.seed, run.trainer.accumulate

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        """Seed the pass over one micro-batch."""
        assert isinstance(pl_module, ClassificationModule)
        seed_step(self.seed, step=pl_module.step, micro_batch=batch_idx % self.accumulate, rank=trainer.global_rank)
