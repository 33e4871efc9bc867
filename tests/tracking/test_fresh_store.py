from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bakeoff.errors import NotFoundError, StoreError, redact
from bakeoff.run_files.run_dir import RunDir
from bakeoff.tracking import store
from bakeoff.tracking.client import default_uri, ensure_schema
from bakeoff.tracking.replay import replay_run


def test_six_processes_on_a_fresh_store(written: Callable[..., RunDir], tmp_path: Path) -> None:
    paths = [written(steps=3, experiment="one for all").path for _ in range(6)]
    uri = default_uri(tmp_path)
    code = "import sys; from pathlib import Path; from bakeoff.run_files.run_dir import RunDir; from bakeoff.tracking import replay\n"
    code += "replay.replay_run(RunDir(Path(sys.argv[1])), uri=sys.argv[2])"
    children = [subprocess.Popen([sys.executable, "-c", code, str(path), uri]) for path in paths]
    assert [child.wait(200) for child in children] == [0] * 6
    table = store.runs_table(uri, experiment="one for all")
    assert len(table) == 6 and set(table["status"]) == {"FINISHED"} and set(table["metrics.train/loss"]) == {1 / 3}
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".mlflow.db.") and path.name != ".mlflow.db.lock"]


def test_reading_makes_no_store(tmp_path: Path) -> None:
    uri = default_uri(tmp_path)
    for read in (store.runs_table, store.analyze_database, store.experiment_id):
        with pytest.raises(StoreError, match="there is no such file"):
            read(uri)
    with pytest.raises(StoreError):
        store.resolve_run(uri, "abcdef012345")
    assert list(tmp_path.iterdir()) == []


def test_half_made_or_foreign_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = default_uri(tmp_path)
    (tmp_path / "mlflow.db").write_text("this is no database, and long enough to be looked at as one" * 20)
    with pytest.raises(StoreError, match="no complete MLflow store"):
        store.runs_table(uri)
    (tmp_path / "mlflow.db").unlink()
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("CREATE TABLE experiments (id INTEGER)")
    monkeypatch.setattr("bakeoff.tracking.client.COMPLETION", 0.0)
    with pytest.raises(StoreError, match="move it away"):
        ensure_schema(uri)


def test_unwritable_place_for_a_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be made"):
        ensure_schema(default_uri(tmp_path / "file"))


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://u:p@w@host:5432/db", "postgresql://***@host:5432/db"),
        ("http://token@host/x", "http://***@host/x"),
        ("mssql://host/db?password=abc&x=1", "mssql://host/db?password=***&x=1"),
        ("sqlite:////a/mlflow.db", "sqlite:////a/mlflow.db"),
    ],
)
def test_redact(uri: str, shown: str) -> None:
    assert redact(uri) == shown


@pytest.mark.parametrize("uri", ["./mlruns", "file:///tmp/mlruns", "databricks", "htp://host"])
def test_address_that_is_none(uri: str) -> None:
    with pytest.raises(StoreError, match="expected sqlite:///FILE"):
        store.runs_table(uri)


def test_resolve_by_our_id_a_prefix_and_mlflows(written: Callable[..., RunDir], uri: str) -> None:
    one, two = written(id="abcdef012345"), written(id="abcdef999999")
    ids = [replay_run(folder, uri=uri).mlflow_id for folder in (one, two)]
    for given, found in [("abcdef012345", 0), ("abcdef9", 1), (ids[0], 0), (ids[1], 1)]:
        assert store.resolve_run(uri, given).info.run_id == ids[found]
    with pytest.raises(NotFoundError, match="2 runs"):
        store.resolve_run(uri, "abcdef")
    with pytest.raises(NotFoundError, match="did you mean abcdef999999"):
        store.resolve_run(uri, "abcdef999998")
    for wrong in ("abcde", "' OR 1=1", "", "%" * 8):
        with pytest.raises(NotFoundError, match="no such run"):
            store.resolve_run(uri, wrong)


def test_table_of_an_experiment_and_a_query(written: Callable[..., RunDir], uri: str) -> None:
    for seed, experiment in enumerate(["a", "a", "b"]):
        replay_run(written(experiment=experiment, tags={"seed": str(seed)}), uri=uri)
    assert len(store.runs_table(uri)) == 3 and set(store.runs_table(uri, experiment="b")["tags.seed"]) == {"2"}
    assert list(store.runs_table(uri, "tags.seed = '1'")["experiment"]) == ["a"]
    nothing = store.runs_table(uri, "tags.seed = '9'")
    assert len(nothing) == 0 and list(nothing.columns)[:2] == ["id", "mlflow_id"]
    with pytest.raises(NotFoundError, match="did you mean"):
        store.runs_table(uri, experiment="defalt")
    with pytest.raises(StoreError):
        store.runs_table(uri, "no filter at all")
    newest = store.resolve_run(uri, store.runs_table(uri).iloc[0]["id"]).info.experiment_id
    assert store.experiment_id(uri) == newest and store.experiment_id(uri, name="nope") is None
    store.analyze_database(uri)


def test_pages_are_read_to_the_end(written: Callable[..., RunDir], uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "PAGE", 2)
    made = {replay_run(written(steps=1, experiment=f"e{i}"), uri=uri).mlflow_id for i in range(5)}
    assert set(store.runs_table(uri)["mlflow_id"]) == made


def test_artifacts_by_path(written: Callable[..., RunDir], uri: str, tmp_path: Path) -> None:
    from bakeoff.run_files.journal import Journal

    folder = written(end=False)
    (folder.checkpoints / "last.ckpt").write_text("weights")
    with Journal(folder.journal) as journal:
        journal.artifact("checkpoints", artifact_path="checkpoints")
    run = replay_run(folder, uri=uri).mlflow_id
    (tmp_path / "here").mkdir()
    assert store.download_artifact(uri, run, "checkpoints/last.ckpt").read_text() == "weights"
    assert (store.download_artifact(uri, run, "checkpoints", into=tmp_path / "here") / "last.ckpt").is_relative_to(tmp_path / "here")
    with pytest.raises(NotFoundError, match=r"did you mean checkpoints/last\.ckpt"):
        store.download_artifact(uri, run, "checkpoints/lost.ckpt")
