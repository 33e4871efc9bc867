"""Lightning's Trainer of a run, and the list of its callbacks."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Timer
from pytorch_lightning.loggers import Logger
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy

from bakeoff.config.schema import RunConfig
from bakeoff.diagnostics.callback import DiagnosticsCallback
from bakeoff.run_files.journal import Journal
from bakeoff.run_files.run_dir import RunDir, RunManifest
from bakeoff.training.callbacks.checkpointing import RestoreCheckpoint, SaveCheckpoints
from bakeoff.training.callbacks.divergence import DivergenceDetection
from bakeoff.training.callbacks.heartbeat import Heartbeat
from bakeoff.training.callbacks.metric_logging import MetricLogging
from bakeoff.training.callbacks.prediction_writing import PredictionWriting
from bakeoff.training.callbacks.progress_bar import TrainingProgressBar
from bakeoff.training.callbacks.rank_agreement import RankAgreement
from bakeoff.training.callbacks.schedule_stepping import ScheduleStepping
from bakeoff.training.callbacks.weight_averaging import ScheduleFreeAveraging
from bakeoff.training.journal_logger import JournalLogger


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """What this process (a rank of the run) is given to train: the config and manifest of a run directory, and its journal.

    Attributes:
        progress: Show a progress bar.
        is_rank_zero: Whether this process writes what the run writes; the journal of the others keeps nothing.
    """

    run: RunConfig
    manifest: RunManifest
    run_dir: RunDir
    journal: Journal
    progress: bool
    is_rank_zero: bool


def make_callbacks(context: RunContext, logger: JournalLogger, state: dict[str, Any] | None) -> list[pl.Callback]:
    """Return the callbacks of a run, in the order in which Lightning calls them; the module's own hooks come after them.

    Args:
        context: The run.
        logger: The run's logger, whose curves the diagnostics read.
        state: The checkpoint from which the run goes on; None at its start.
    """
    run = context.run
    callbacks: list[pl.Callback] = []
    if run.trainer.is_distributed:
        callbacks.append(RankAgreement(run))
    if state is not None:
        callbacks.append(RestoreCheckpoint(state))
    callbacks += [ScheduleFreeAveraging(), ScheduleStepping()]
    if context.is_rank_zero and run.diagnostics != "none":
        title, run_dir = context.manifest.name, context.run_dir.path
        callbacks.append(DiagnosticsCallback(run, context.journal, run_dir=run_dir, title=title, curves=logger.curves))
    predictions = PredictionWriting(context.run_dir, context.journal, classes=run.data.num_classes)
    callbacks += [MetricLogging(every=run.trainer.log_every), predictions]
    if run.trainer.divergence is not None:
        callbacks.append(DivergenceDetection(limit=run.trainer.divergence))
    if context.is_rank_zero and context.progress:
        callbacks.append(TrainingProgressBar(title=context.manifest.name))
    if context.is_rank_zero:
        callbacks.append(Heartbeat(context.run_dir))
    callbacks.append(SaveCheckpoints(context.run_dir.checkpoints, every=run.trainer.checkpoint_every, before=context.journal.sync))
    return callbacks


def make_trainer(run: RunConfig, *, callbacks: Sequence[pl.Callback], logger: Logger | None = None, validate: bool = True) -> pl.Trainer:
    """Return Lightning's Trainer as `trainer.*` of the config says.

    Args:
        run: The run's config.
        callbacks: All callbacks of the fit and the test: checkpoints and the progress bar are among them, Lightning's own are off.
        logger: Where metrics go.
        validate: Validate after every epoch.
    """
    settings, gpu = run.trainer, resolve_accelerator(run) == "gpu"
    strategy: pl.strategies.Strategy
    if settings.is_distributed:
        strategy = DDPStrategy(process_group_backend="nccl" if gpu else "gloo", broadcast_buffers=True, gradient_as_bucket_view=True)
    else:
        strategy = SingleDeviceStrategy(device=torch.device("cuda:0" if gpu else "cpu"))
    return pl.Trainer(
        accelerator="gpu" if gpu else "cpu",
        devices=settings.devices,
        strategy=strategy,
        precision=settings.precision,
        max_epochs=settings.max_epochs,
        accumulate_grad_batches=settings.accumulate,
        gradient_clip_val=settings.clip,
        deterministic=settings.deterministic,
        sync_batchnorm=settings.is_distributed and gpu,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        callbacks=list(callbacks),
        logger=logger if logger is not None else False,
        limit_val_batches=None if validate else 0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def make_timer(run: RunConfig, *, earlier_seconds: float) -> Timer:
    """Return the timer that measures the training, and ends it at `trainer.max_time`.

    Args:
        run: The run's config.
        earlier_seconds: How long earlier processes of the run have trained.
    """
    limit = Timer(run.trainer.max_time).time_remaining()
    left = None if limit is None else timedelta(seconds=max(0.0, limit - earlier_seconds))
    return Timer(left, verbose=False)


def resolve_accelerator(run: RunConfig) -> str:
    """Return `cpu` or `gpu`; `auto` is decided by what this machine has."""
    if run.trainer.accelerator != "auto":
        return run.trainer.accelerator
    return "gpu" if torch.cuda.is_available() else "cpu"


def set_determinism(run: RunConfig) -> None:
    """Set the number of threads, and ask for deterministic algorithms: bits depend on both."""
    if run.trainer.threads is not None:
        torch.set_num_threads(run.trainer.threads)
    if run.trainer.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def silence_lightning() -> None:
    """Switch off Lightning's hints about defaults that this project sets on purpose."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"pytorch_lightning.*|lightning_fabric.*")
