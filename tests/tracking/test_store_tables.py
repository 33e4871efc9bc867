"""A database read as tables gives what MLflow's client gives, run by run and value by value."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bakeoff.errors import NotFoundError, StoreError
from bakeoff.run_files.predictions import PREDICTIONS_FILE, write_predictions
from bakeoff.tracking import db_reader, store
from bakeoff.tracking.client import local_path

VALUES = {"plain": 0.25, "nan": math.nan, "inf": math.inf, "low": -math.inf, "tiny": 1e-300}


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with runs in two experiments, one run deleted, one with nothing in it, and one experiment without runs."""
    from mlflow import MlflowClient

    home = tmp_path_factory.mktemp("store")
    address = store.default_uri(home)
    store.ensure_schema(address)
    client = MlflowClient(address)
    for name in ("one", "two", "empty"):
        where = client.create_experiment(name, artifact_location=str(Path(home) / name))
        for i in range(3 if name != "empty" else 0):
            run = client.create_run(where, start_time=1000 + i, run_name=f"{name}{i}", tags={"kind": "trial", "bakeoff.id": f"{name}{i}"})
            client.log_param(run.info.run_id, f"only.{name}{i}", "it's ∞")
            for key, value in VALUES.items():
                for step in (3, 1, 2):
                    client.log_metric(run.info.run_id, key, value if i else step, timestamp=step, step=step)
            client.set_terminated(run.info.run_id, end_time=2000)
            if (name, i) == ("two", 1):
                client.delete_run(run.info.run_id)
        if name == "two":
            client.create_run(where, start_time=5)
    return address


@pytest.mark.parametrize("experiment", [None, "one", "two"])
def test_runs_are_those_of_the_client(uri: str, experiment: str | None) -> None:
    ours = store.runs_table(uri, experiment=experiment)
    theirs = store.runs_table(uri, "attributes.run_id != 'none'", experiment=experiment)
    assert len(ours) == {None: 6, "one": 3, "two": 3}[experiment]
    key = ["start", "mlflow_id"]
    told = [one.sort_values(key, ignore_index=True) for one in (ours, theirs)]
    pd.testing.assert_frame_equal(told[0], told[1], check_dtype=False)
    assert list(ours["start"]) == sorted(ours["start"], reverse=True)


def test_curves_are_those_of_the_client(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = list(store.runs_table(uri, experiment="one")["mlflow_id"])
    monkeypatch.setattr(db_reader, "CHUNK", 2)
    ours = store.metric_histories(uri, runs, [*VALUES, "nothing"])
    monkeypatch.setattr(db_reader, "is_database", lambda uri: False)
    theirs = store.metric_histories(uri, runs, [*VALUES, "nothing"])
    assert repr(ours) == repr(theirs) and ours[runs[0], "inf"] == [(1, math.inf, 1), (2, math.inf, 2), (3, math.inf, 3)]
    assert all(ours[run, "nothing"] == [] for run in runs)


def test_an_experiment_without_runs_is_an_empty_table_and_an_unknown_one_is_told(uri: str) -> None:
    found = store.runs_table(uri, experiment="empty")
    assert found.empty and "mlflow_id" in found.columns
    with pytest.raises(NotFoundError, match="did you mean one"):
        store.runs_table(uri, experiment="ome")


@pytest.mark.parametrize("database", [True, False])
@pytest.mark.parametrize("local", [True, False])
def test_predictions_are_read_for_the_runs_that_have_them(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: bool, local: bool
) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    first, second, third, *_ = store.runs_table(uri, experiment="one")["mlflow_id"]
    expected = {}
    for seed, run in enumerate((first, second)):
        predicted, target = np.random.default_rng(seed).integers(0, 10, (2, 50), dtype=np.uint8)
        write_predictions(tmp_path / PREDICTIONS_FILE, predicted=predicted, target=target)
        client.log_artifact(run, str(tmp_path / PREDICTIONS_FILE))
        expected[run] = (predicted.tolist(), target.tolist())
    monkeypatch.setattr(db_reader, "CHUNK", 2)
    monkeypatch.setattr(db_reader, "is_database", lambda uri: database)
    if not local:
        monkeypatch.setattr(store, "local_path", lambda address: None)
    stored = store.test_predictions(uri, [third, second, first, "0" * 32])
    assert {run: (predicted.tolist(), target.tolist()) for run, (predicted, target) in stored.items()} == expected
    assert list(stored) == [second, first]
    (tmp_path / PREDICTIONS_FILE).write_bytes(b"PK no archive")
    client.log_artifact(first, str(tmp_path / PREDICTIONS_FILE))
    with pytest.raises(StoreError, match=rf"^run {first}: .*{PREDICTIONS_FILE}: the predictions are damaged: [^\n]*$"):
        store.test_predictions(uri, [second, first])


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("/a b/c#d/0", "/a b/c#d/0"),
        (Path("/a b/c#d%/0").as_uri(), "/a b/c#d%/0"),
        ("mlflow-artifacts:/0/run/artifacts", None),
        ("s3://bucket/0", None),
    ],
)
def test_artifacts_on_this_machine_are_told_from_those_elsewhere(address: str, path: str | None) -> None:
    assert local_path(address) == (None if path is None else Path(path))
