"""The callback that keeps what the trained net predicts on the test set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import Tensor

from bakeoff.run_files.journal import Journal
from bakeoff.run_files.predictions import PREDICTIONS_FILE, write_predictions
from bakeoff.run_files.run_dir import RunDir
from bakeoff.training.lightning_module import ClassificationModule


class PredictionWriting(pl.Callback):
    """Writes the predicted and the true class of each test image, in the order of the test set, for the test of the last weights."""

    def __init__(self, run_dir: RunDir, journal: Journal, *, classes: int) -> None:
        """Write into a run's folder, and log the file as an artifact; `classes` decides the type of the arrays."""
        self.path, self.journal = run_dir.path / PREDICTIONS_FILE, journal
        self.dtype = np.min_scalar_type(classes - 1)
        self._batches: list[Tensor] = []

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start anew."""
        self._batches = []

    def on_test_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *_: Any) -> None:
        """Keep the classes of one batch on the device; `outputs` are those that the module predicts."""
        self._batches.append(torch.stack([outputs, batch[1]]))

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Collect the classes from all ranks and write them."""
        assert isinstance(pl_module, ClassificationModule)
        if pl_module.test_prefix != "test":
            return
        own = torch.cat(self._batches, 1).cpu().numpy() if self._batches else np.empty((2, 0))
        shards = gather_shards(own.astype(self.dtype))
        if trainer.is_global_zero:
            predicted, target = interleave_shards(shards)
            write_predictions(self.path, predicted=predicted, target=target)
            self.journal.artifact(PREDICTIONS_FILE)


def gather_shards(own: np.ndarray) -> list[np.ndarray]:
    """Return the arrays of all ranks, by rank. Every rank must call it."""
    if not (dist.is_available() and dist.is_initialized()):
        return [own]
    shards: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(shards, own)
    return shards


def interleave_shards(shards: Sequence[np.ndarray]) -> np.ndarray:
    """Put the shares of `bakeoff.data.epoch_sampler.Shard` together again: (rows, images) from (rows, images of a rank), by rank."""
    images = np.empty((len(shards[0]), sum(shard.shape[1] for shard in shards)), dtype=shards[0].dtype)
    for rank, shard in enumerate(shards):
        images[:, rank :: len(shards)] = shard
    return images
