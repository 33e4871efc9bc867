"""What the tracking room uses of MLflow without a promise: each test fails when a release drops or changes it."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from pathlib import Path

import mlflow
import pytest
import sqlalchemy

from bakeoff.tracking import client, db_reader, sqlite_schema, sqlite_store
from bakeoff.tracking.client import ARTIFACTS, default_uri, ensure_schema

COLUMNS = {
    "SqlExperiment": {"experiment_id", "name", "lifecycle_stage"},
    "SqlRun": {"run_uuid", "name", "status", "start_time", "end_time", "lifecycle_stage", "experiment_id", "artifact_uri"},
    "SqlMetric": {"run_uuid", "key", "value", "timestamp", "step", "is_nan"},
    "SqlLatestMetric": {"run_uuid", "key", "value", "is_nan"},
    "SqlParam": {"run_uuid", "key", "value"},
    "SqlTag": {"run_uuid", "key", "value"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a fresh store, which was made from another working folder."""
    folder = tmp_path_factory.mktemp("store")
    with contextlib.chdir(tmp_path_factory.mktemp("elsewhere")):
        ensure_schema(default_uri(folder))
        assert list(Path.cwd().iterdir()) == [], "nothing goes to the working folder"
    return folder


def test_a_store_is_made_with_its_artifacts_beside_the_file(folder: Path) -> None:
    """MLflow's own client finds its default experiment there."""
    experiment = mlflow.MlflowClient(default_uri(folder)).get_experiment("0")
    assert experiment.artifact_location == f"{folder / ARTIFACTS}/0"


def test_the_engines_of_stores_are_found_by_their_address(folder: Path) -> None:
    """`client.open_client` lets MLflow forget connections to a file that was deleted."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    mlflow.MlflowClient(default_uri(folder)).get_experiment("0")
    assert isinstance(SqlAlchemyStore._engine_map[default_uri(folder)], sqlalchemy.Engine)


def test_the_models_of_the_tables_name_what_is_in_the_database(folder: Path) -> None:
    """`db_reader` uses the models that MLflow makes its tables from."""
    with db_reader.connect(default_uri(folder)) as connection:
        for name, columns in COLUMNS.items():
            model = getattr(db_reader.table_models(), name)
            stored = {column["name"] for column in sqlalchemy.inspect(connection).get_columns(model.__tablename__)}
            assert columns <= stored and all(hasattr(model, column) for column in columns), name


def test_a_fresh_store_is_written_directly(folder: Path) -> None:
    """`sqlite_schema.SCHEMA` names the schema that the installed MLflow makes."""
    assert sqlite_store.has_known_schema(folder / "mlflow.db") and sqlite_schema.installed_schemas() == {sqlite_schema.SCHEMA}


def test_a_fresh_store_is_as_mlflow_makes_it(folder: Path, tmp_path: Path) -> None:
    """`mlflow_schema.sql` holds the tables; a new one is what `iterdump` gives of a store that MLflow has made."""
    sqlite_schema.make_store(tmp_path / "ours.db", artifact_root=folder / ARTIFACTS)
    client._make_by_mlflow(tmp_path / "theirs.db", artifact_root=folder / ARTIFACTS)
    stores = []
    for name in ("ours.db", "theirs.db"):
        with contextlib.closing(sqlite3.connect(tmp_path / name)) as database:
            statements = [re.sub(r"\b\d{13}\b", "TIME", statement) for statement in database.iterdump()]
            # MLflow makes constraints and indices in an order that changes with the seed of Python's hashes.
            stores.append(sorted(sorted(part.strip(", \t") for part in statement.splitlines()) for statement in statements))
    assert stores[0] == stores[1] and len(stores[0]) > 100


def test_a_fresh_store_of_an_unknown_schema_is_made_by_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`client._make_by_mlflow` uses MLflow's `SqlAlchemyStore`."""
    monkeypatch.setattr(sqlite_schema, "SCHEMA", "none")
    ensure_schema(default_uri(tmp_path))
    experiment = mlflow.MlflowClient(default_uri(tmp_path)).get_experiment("0")
    assert experiment.artifact_location == f"{tmp_path / ARTIFACTS}/0"


def test_drafts_of_artifacts_are_hidden(folder: Path) -> None:
    """`sqlite_store.UNFINISHED` begins a name that MLflow leaves out of its lists."""
    (folder / "artifacts").mkdir()
    (folder / "artifacts" / f"{sqlite_store.UNFINISHED}0").touch()
    assert mlflow.artifacts.list_artifacts(artifact_uri=str(folder / "artifacts")) == []
