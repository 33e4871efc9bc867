"""The store is thrown away, put back to an earlier state, or loses runs that a report knew: it is asked, and never believed to be whole."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from bakeoff.run_files.journal import Journal
from bakeoff.run_files.run_dir import EXPORTED_WEIGHTS, RunDir, iter_run_dirs
from bakeoff.tracking.client import sqlite_path
from bakeoff.training.writer import JournalFollower, catch_up, run_writer, sync_runs

TABLES = ("runs", "metrics", "latest_metrics", "params", "tags", "experiments", "inputs", "datasets")


def counts(uri: str) -> dict[str, int]:
    file = sqlite_path(uri)
    assert file is not None
    with closing(sqlite3.connect(file)) as database:
        tables = {table: database.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] for table in TABLES}
        artifacts = [Path(uri.removeprefix("file://")) for (uri,) in database.execute("SELECT artifact_uri FROM runs")]
    return tables | {"artifacts": sum(1 for folder in artifacts for path in folder.rglob("*") if path.is_file())}


@pytest.fixture
def folders(written: Callable[..., RunDir]) -> list[RunDir]:
    """Three runs with an artifact and a dataset each."""
    made = [written(steps=40, end=False, tags={"arm": arm}) for arm in ("sgd", "adam", "lion")]
    for folder in made:
        with Journal(folder.journal) as journal:
            journal.artifact("config.yaml")
            journal.dataset("digits", digest="f" * 36, source="scikit-learn", context="training", profile={"images": 1797})
            journal.end("FINISHED")
    return made


@pytest.mark.parametrize("how", ["sync", "writer", "report"])
def test_deleted_store_is_rebuilt_to_the_same_counts(folders: list[RunDir], uri: str, tmp_path: Path, how: str) -> None:
    sync_runs(tmp_path / "runs", uri=uri)
    whole = counts(uri)
    assert whole["runs"] == 3 and whole["metrics"] == 120 and whole["artifacts"] == 3
    for path in tmp_path.glob("mlflow.db*"):
        path.unlink()
    if how == "sync":
        assert len(sync_runs(tmp_path / "runs", uri=uri)) == 3
    elif how == "writer":
        assert run_writer(JournalFollower(tmp_path / "runs", uri), lambda seconds: True) is False
    else:
        assert catch_up(tmp_path / "runs", uri=uri) is False
    assert counts(uri) == whole
    assert sync_runs(tmp_path / "runs", uri=uri) == []


def test_store_put_back_to_an_earlier_state_catches_up(folders: list[RunDir], uri: str, tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    sync_runs(tmp_path / "runs", uri=uri)
    shutil.copy(file, tmp_path / "backup.db")
    whole = counts(uri)
    with closing(sqlite3.connect(tmp_path / "backup.db")) as database:
        database.execute("UPDATE runs SET status = 'RUNNING', end_time = NULL")
        for table in ("metrics", "latest_metrics"):
            database.execute(f"DELETE FROM {table} WHERE step > 9")
        database.commit()
    shutil.copy(tmp_path / "backup.db", file)
    assert len(sync_runs(tmp_path / "runs", uri=uri)) == 3 and counts(uri) == whole


@pytest.mark.slow
def test_net_of_a_deleted_store_is_written_again_from_the_checkpoint(tmp_path: Path, finish: Callable[..., tuple[int, str, str]]) -> None:
    code, _, said = finish("train", "data=digits", "model.width=0.125", "trainer.max_steps=3", "data.subset=200")
    assert code == 0, said
    (folder,) = iter_run_dirs(tmp_path / "runs")
    assert not folder.export.exists(), "the store has the net"

    def weights() -> bytes:
        (file,) = (tmp_path / "mlartifacts").rglob(EXPORTED_WEIGHTS)
        return file.read_bytes()

    before = weights()
    (tmp_path / "mlflow.db").unlink()
    shutil.rmtree(tmp_path / "mlartifacts")
    code, _, said = finish("sync")
    assert (code, said) == (0, "") and weights() == before and len(list((tmp_path / "mlartifacts").rglob("model.pt2"))) == 1
