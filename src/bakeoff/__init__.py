"""bakeoff: fair comparisons of initializers, activations, optimizers and losses on AlexNet and VGG.

    import bakeoff

    run = bakeoff.compose(["model=vgg11", "optimizer=adam", "optimizer.lr=3e-4"])
    result = bakeoff.train(run)
    bakeoff.runs("params.model = 'vgg11'")

Importing this package is light: torch, Lightning and MLflow are imported by the functions that need them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from torch import nn

    from bakeoff.config.schema import RunConfig
    from bakeoff.training.run_training import RunResult

__all__ = ["compose", "make_loss", "make_model", "make_optimizer", "runs", "train"]


def compose(overrides: Sequence[str] = (), *, config_dir: str | Path | None = None) -> RunConfig:
    """Compose the run that `bakeoff train OVERRIDES` describes. Raises `bakeoff.errors.ConfigError` for the first thing that is wrong."""
    from bakeoff.config import compose as composition

    return composition.compose(overrides, config_dir=config_dir)


def make_model(run: RunConfig) -> nn.Module:
    """Build the run's net on the CPU, initialized from the run's seed; takes images (N, C, S, S), gives scores (N, classes)."""
    from bakeoff import builders

    return builders.make_model(run)


def make_optimizer(run: RunConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Build the run's optimizer over the parameters of `model`."""
    from bakeoff import builders

    return builders.make_optimizer(run, model)


def make_loss(run: RunConfig) -> nn.Module:
    """Build the run's loss, called as loss(scores (N, classes), targets (N,) int64) -> mean over the batch."""
    from bakeoff import builders

    return builders.make_loss(run)


def train(run: RunConfig, *, progress: bool = False) -> RunResult:
    """Train `run`, tracked in its store: the result has the run's `id`, `status` and final `metrics`.

    Raises `bakeoff.errors.BakeoffError` before anything is written where the run cannot be built; an error of the training is raised on.
    """
    from bakeoff.training.run_lifecycle import train_run

    return train_run(run, progress=progress).result


def runs(query: str | None = None, *, uri: str | None = None) -> pd.DataFrame:
    """Return the runs that an MLflow filter selects (`params.model = 'vgg11'`; None: all), newest first, one row each.

    Columns: id, mlflow_id, name, experiment, kind, status, start, end, params.*, metrics.* (last values) and tags.*. `uri` is the
    store's address; by default the SQLite file of the working folder.
    """
    from bakeoff.tracking.store import default_uri, runs_table

    return runs_table(uri or default_uri(Path.cwd()), query)
