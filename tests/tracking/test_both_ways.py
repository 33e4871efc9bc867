"""An SQLite store that is written directly holds the rows, table by table, and the artifacts that MLflow's own client writes."""

from __future__ import annotations

import json
import math
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bakeoff.run_files.run_dir import RunDir, iter_run_dirs
from bakeoff.tracking import replay, sqlite_store
from bakeoff.tracking.client import default_uri, sqlite_path
from bakeoff.tracking.replay import replay_run, replay_runs
from bakeoff.training.model_files import write_model_files

TIMES = {"creation_time", "last_update_time", "creation_timestamp_ms", "last_updated_timestamp_ms"}
"""Columns of the moment of writing."""


def rows(uri: str) -> dict[str, list[str]]:
    """The rows of every table but those of the empty store, with names in place of random ids; and the artifacts."""
    file = sqlite_path(uri)
    assert file is not None
    with closing(sqlite3.connect(file)) as database:
        names = {str(file.parent): "PLACE"}
        names |= {run: id for id, run in database.execute("SELECT value, run_uuid FROM tags WHERE key = 'bakeoff.id'")}
        names |= dict(database.execute("SELECT dataset_uuid, experiment_id || name || digest FROM datasets"))
        models = database.execute("SELECT model_id, source_run_id FROM logged_models ORDER BY creation_timestamp_ms, rowid").fetchall()
        names |= {model: f"model {number} of {run}" for number, (model, run) in enumerate(models)}
        names |= dict(database.execute("SELECT input_uuid, source_id || ' to ' || destination_id FROM inputs"))

        def put_names(text: str) -> str:
            for _ in range(3):  # a name may hold others
                for id, name in names.items():
                    text = text.replace(id, name)
            return text

        tables = {}
        for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            cursor = database.execute(f"SELECT * FROM {table}")
            columns = [column[0] for column in cursor.description]
            stored = ({k: v for k, v in zip(columns, row, strict=True) if k not in TIMES} for row in cursor)
            tables[table] = sorted(put_names(repr(row)) for row in stored)
        artifacts = [path for path in (file.parent / "mlartifacts").rglob("*") if path.is_file() and path.suffix != ".pt2"]
        tables["artifacts"] = sorted(put_names(f"{path} {_text_of(path)}") for path in artifacts)
    return tables


def _text_of(path: Path) -> str:
    """The content of an artifact; of an MLmodel all but what names the moment and the number of bytes."""
    lines = path.read_bytes().decode(errors="replace").splitlines()
    return "\n".join(line for line in lines if not line.startswith(("utc_time_created", "model_size_bytes")))


def append(folder: RunDir, *lines: dict[str, Any]) -> None:
    with open(folder.journal, "a", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def point(step: int, ts: int, **values: float | str) -> dict[str, Any]:
    return {"kind": "metrics", "step": step, "ts": ts, "values": {name.replace("__", "/"): value for name, value in values.items()}}


@pytest.fixture
def both(
    tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], tuple[dict[str, list[str]], dict[str, list[str]]]]:
    """Replays what the journals hold by now into both stores, and returns the rows of both."""
    uris = []
    for name in ("direct", "client"):
        (tmp_path / name).mkdir()
        shutil.copy(template, tmp_path / name / "mlflow.db")
        uris.append(default_uri(tmp_path / name))

    def replay_both() -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        folders = list(iter_run_dirs(tmp_path / "runs"))
        exported = {folder.path: shutil.copytree(folder.export, folder.path / "kept") for folder in folders if folder.export.exists()}
        for uri, known in zip(uris, (True, False), strict=True):
            monkeypatch.setattr(replay, "has_known_schema", lambda file, known=known: known)
            for folder in folders:
                if folder.path in exported and not folder.export.exists():
                    shutil.copytree(folder.path / "kept", folder.export)
            left = folders
            while left:
                done = replay_runs(left, uri=uri, write_model=lambda path: pytest.fail("nothing is missing"))
                assert all(isinstance(outcome, replay.ReplayProgress) for outcome in done.values())
                left = [folder for folder in left if folder.path not in done]
        direct, client = (rows(uri) for uri in uris)
        assert direct.keys() == client.keys() and direct["runs"]
        return direct, client

    return replay_both


def test_every_kind_of_line(make_folder: Callable[..., RunDir], both: Callable[[], tuple[Any, Any]]) -> None:
    folder = make_folder(experiment="a/b: c?", name="lr=3e-4, adam", tags={"sweep": "s", "odd[0]": "x" * 9000})
    other = make_folder(experiment="a/b: c?", kind="summary", tags={"mlflow.note.content": "Which?", "sweep.tuned": "optimizer.lr"})
    (folder.path / "folder").mkdir()
    (folder.path / "folder" / "a.txt").write_text("a")
    dataset = {"kind": "dataset", "name": "digits", "digest": "f" * 64, "source": "x", "context": "training", "profile": {"n": 3}}
    start = {"kind": "start", "tags": {"sweep": "s", "kind": "single"}, "ts": 1000}
    for written in (folder, other):
        append(
            written,
            {**start, "tags": written.read_job().tags},
            {"kind": "params", "values": {"a": "1", "b[0]": "2", "long": "x" * 9000, **{f"p{i}": str(i) for i in range(150)}}},
            {"kind": "tags", "values": {"t": "1", "mlflow.runName": "renamed", **{f"t{i}": str(i) for i in range(150)}}},
            {"kind": "tags", "values": {"t": "2"}},
            dataset,
            dataset,
            {**dataset, "context": "test", "digest": "e" * 64},
            point(0, 5, a=1.0, nan="nan", inf="inf", low="-inf", tiny=5e-324, late=3.0),
            point(3, 4, a=2.0, nan=0.0, late=1.0),
            point(3, 4, a=2.0, nan="nan", late=2.0),
            point(1, 9, a=7.0, late=9.0),
            {"kind": "artifact", "path": "config.yaml", "artifact_path": "x/y"},
        )
    append(folder, {"kind": "artifact", "path": "folder", "artifact_path": ""}, {"kind": "end", "status": "KILLED", "reason": "x", "ts": 7})
    direct, client = both()
    assert direct == client
    append(folder, start, {"kind": "params", "values": {"a": "3", "new": "1"}}, point(3, 8, a=1.0), point(3, 4, a=2.0, late="inf"), dataset)
    direct, client = both()
    assert direct == client and "RUNNING" in "".join(direct["runs"])
    append(folder, {"kind": "end", "status": "FINISHED", "reason": "done", "ts": 9})
    direct, client = both()
    assert direct == client
    folder.cursor.unlink()
    again = both()
    for way, before in zip(again, (direct, client), strict=True):
        assert way == before, "a second replay changed something"


def test_exported_model(make_folder: Callable[..., RunDir], both: Callable[[], tuple[Any, Any]]) -> None:
    from torch import nn

    folder = make_folder()
    write_model_files(folder, nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval(), input_shape=(1, 4, 4))
    model = {"kind": "model", "name": "model", "input_shape": [1, 4, 4], "classes": 3, "requirements": ["torch==2.0", "evil==1"], "ts": 2}
    append(folder, {"kind": "start", "tags": {}, "ts": 1}, model, {"kind": "end", "status": "FINISHED", "reason": "", "ts": 2})
    direct, client = both()
    assert direct == client and len(direct["logged_models"]) == 1 and len(direct["artifacts"]) == 7
    assert not folder.export.exists(), "the files of a net that the store has are removed"


@pytest.mark.parametrize("seed", range(3))
def test_random_journals(seed: int, make_folder: Callable[..., RunDir], both: Callable[[], tuple[Any, Any]]) -> None:
    rng = random.Random(seed)
    folders = [make_folder(experiment=rng.choice("ab"), name=f"run {i}") for i in range(4)]
    values: list[float | str] = [0.0, -0.0, 1.5, -3.0, "nan", "inf", "-inf"]
    for _ in range(3):
        for folder in folders:
            lines: list[dict[str, Any]] = [{"kind": "start", "tags": {"seed": str(seed)}, "ts": rng.randrange(1, 9)}]
            for _ in range(rng.randrange(30)):
                names = rng.sample(["a", "b", "c/d"], rng.randrange(1, 4))
                lines.append(point(rng.randrange(5), rng.randrange(5), **{name: rng.choice(values) for name in names}))
                lines.append({"kind": "tags", "values": {rng.choice("xyz"): str(rng.randrange(9))}})
                lines.append({"kind": "params", "values": {rng.choice("pqr"): str(rng.randrange(2))}})
            if rng.random() < 0.7:
                lines.append(
                    {"kind": "end", "status": rng.choice(["FINISHED", "FAILED", "KILLED"]), "reason": "r", "ts": rng.randrange(1, 9)}
                )
            append(folder, *lines)
        direct, client = both()
        assert direct == client


def test_a_value_beyond_all_bounds_is_kept_as_mlflow_keeps_it() -> None:
    assert [sqlite_store._stored_value(value) for value in (math.nan, math.inf, -math.inf, 1e-300)] == [
        (0.0, True),
        (1.7976931348623157e308, False),
        (-1.7976931348623157e308, False),
        (1e-300, False),
    ]


def test_unknown_schema_is_left_to_mlflows_client(make_folder: Callable[..., RunDir], uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_folder()
    append(folder, {"kind": "start", "tags": {}, "ts": 1}, point(0, 1, a=1.0))
    monkeypatch.setattr(sqlite_store, "SCHEMA", "none")
    monkeypatch.setattr(replay, "SqliteRunStore", None)  # is not to be used
    assert replay_run(folder, uri=uri).status == "RUNNING" and any("'a'" in row for row in rows(uri)["metrics"])
