"""The callback that holds the processes of one run to one config."""

from __future__ import annotations

import pytorch_lightning as pl
import torch.distributed as dist

from bakeoff.config.schema import RunConfig


class RankAgreement(pl.Callback):
    """Stops a run on several devices whose ranks were started with different configs."""

    def __init__(self, run: RunConfig) -> None:
        """Take this rank's config."""
        self.config_text = run.model_dump_json()

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare the configs of all ranks."""
        config_texts: list[str | None] = [None] * trainer.world_size
        dist.all_gather_object(config_texts, self.config_text)
        if len(set(config_texts)) != 1:
            raise RuntimeError("the ranks were started with different configs")
