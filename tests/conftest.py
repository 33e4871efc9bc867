"""A fresh SQLite store per test (copied, since MLflow's migrations take seconds) and run folders with journals written by hand."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bakeoff.run_files.journal import Journal
from bakeoff.run_files.run_dir import RunDir, RunManifest, new_run_id
from bakeoff.tracking.client import default_uri, ensure_schema


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template")
    ensure_schema(default_uri(folder))
    return folder / "mlflow.db"


@pytest.fixture
def uri(tmp_path: Path, template: Path) -> str:
    shutil.copy(template, tmp_path / "mlflow.db")
    return default_uri(tmp_path)


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., RunDir]:
    def make(**job: Any) -> RunDir:
        values: dict[str, Any] = {"id": new_run_id(), "name": "vgg11 adam", "experiment": "quickstart", **job}
        return RunDir.create(tmp_path / "runs", config_text="seed: 1\n", job=RunManifest(**values))

    return make


@pytest.fixture
def written(make_folder: Callable[..., RunDir]) -> Callable[..., RunDir]:
    """A folder whose journal holds `steps` points of train/loss = 1 / (step + 1)."""

    def write(*, steps: int = 10, end: bool = True, **job: Any) -> RunDir:
        folder = make_folder(**job)
        with Journal(folder.journal) as journal:
            journal.start(folder.read_job())
            journal.params({"optimizer": "adam", "optimizer.lr": 0.1})
            for step in range(steps):
                journal.metrics({"train/loss": 1 / (step + 1)}, step=step)
            if end:
                journal.end("FINISHED", reason="max_epochs reached")
        return folder

    return write
