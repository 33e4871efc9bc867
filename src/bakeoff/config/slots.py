"""The slots of a run, and the folders of their choices. Imports only light modules: `bakeoff list` and completion need no others."""

from __future__ import annotations

from pathlib import Path

SLOTS = ("model", "activation", "initializer", "optimizer", "scheduler", "loss", "data")
GROUPS = (*SLOTS, "trainer", "tracking", "experiment")
METRICS = ("train/loss", "train/accuracy", "val/loss", "val/accuracy", "test/loss", "test/accuracy")


def package_data_dir(name: str) -> Path:
    """Return the folder `conf` or `sweeps`, in an installed package or at the top of a checkout."""
    package = Path(__file__).resolve().parents[1]
    return package / name if (package / name).is_dir() else package.parents[1] / name
