"""A database read as tables gives what MLflow's client gives, run by run and value by value."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from bakeoff.errors import NotFoundError
from bakeoff.tracking import db_reader, store

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
