"""The direct way into an SQLite store: the rows that MLflow's client would write, many runs in one transaction, without MLflow.

Importing MLflow takes a second and 160 MB, and its client a transaction for each call.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from bakeoff.errors import StoreError
from bakeoff.run_files.journal import now
from bakeoff.tracking.client import ID_TAG, local_path
from bakeoff.tracking.db_reader import LARGEST
from bakeoff.tracking.run_store import LoggedDataset, Point, RunUpdate, StoredRun
from bakeoff.tracking.sqlite_schema import SCHEMA

BUSY = 20.0
"""Seconds that another program's transaction is waited for, as in MLflow's client."""
RUN_NAME, USER, CONTEXT = "mlflow.runName", "mlflow.user", "mlflow.data.context"
UNFINISHED = ".artifact.uploading."
"""How names of files begin that MLflow leaves out of its lists."""
NAME_LENGTH = 500
PENDING, READY = 1, 2
RUN_COLUMNS = "run_uuid, experiment_id, status, lifecycle_stage, artifact_uri"


def has_known_schema(file: Path) -> bool:
    """Return whether a store's file can be written directly."""
    with contextlib.closing(sqlite3.connect(f"{file.as_uri()}?mode=rw", uri=True, timeout=BUSY)) as database:
        return bool(database.execute("SELECT version_num FROM alembic_version").fetchone()[0] == SCHEMA)


def begin_writing(database: sqlite3.Connection) -> None:
    """Begin a transaction that may write, once no other one is at work."""
    database.execute("BEGIN IMMEDIATE")


class SqliteRunStore:
    """A `RunStore` on the file of an SQLite store whose schema is the known one."""

    points, runs = 50_000, 50

    def __init__(self, file: Path) -> None:
        """Open a store's file, which must be there."""
        self._db = sqlite3.connect(f"{file.as_uri()}?mode=rw", uri=True, timeout=BUSY, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA foreign_keys = ON")
        self._tagged: dict[str, list[str]] | None = None

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """See `RunStore`."""
        begin_writing(self._db)
        self._tagged = None
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def get_run(self, run: str) -> StoredRun | None:
        """See `RunStore`."""
        return self._stored_run("run_uuid = ?", run)

    def find_run(self, experiment: str, id: str) -> StoredRun | None:
        """See `RunStore`."""
        if self._tagged is None:  # no index leads to a tag by its value: all of them are read once for many runs
            self._tagged = {}
            for tag, run in self._db.execute("SELECT value, run_uuid FROM tags WHERE key = ?", (ID_TAG,)):
                self._tagged.setdefault(tag, []).append(run)
        matches = (self._stored_run("run_uuid = ?", run) for run in self._tagged.get(id, ()))
        return next((run for run in matches if run is not None and run.experiment == experiment), None)

    def _stored_run(self, condition: str, *values: object) -> StoredRun | None:
        row = self._db.execute(f"SELECT {RUN_COLUMNS} FROM runs WHERE {condition} LIMIT 1", values).fetchone()
        return None if row is None else StoredRun(row[0], str(row[1]), row[2], row[3] == "deleted", row[4])

    def get_points(self, run: str) -> set[tuple[str, int]]:
        """See `RunStore`."""
        return set(self._db.execute("SELECT key, step FROM metrics WHERE run_uuid = ?", (run,)))

    def get_tag(self, run: str, key: str) -> str | None:
        """See `RunStore`."""
        row = self._db.execute("SELECT value FROM tags WHERE run_uuid = ? AND key = ?", (run, key)).fetchone()
        return None if row is None else str(row[0])

    def find_experiment(self, name: str) -> tuple[str, bool] | None:
        """See `RunStore`."""
        query = "SELECT experiment_id, lifecycle_stage FROM experiments WHERE workspace = 'default' AND name = ?"
        row = self._db.execute(query, (name,)).fetchone()
        return None if row is None else (str(row[0]), row[1] == "deleted")

    def create_experiment(self, name: str, *, artifact_location: str | None, tags: dict[str, str]) -> str | None:
        """See `RunStore`."""
        if not 0 < len(name) <= NAME_LENGTH:
            raise StoreError(f"an experiment's name has 1 to {NAME_LENGTH} characters, not {len(name)}")
        columns = "name, artifact_location, lifecycle_stage, creation_time, last_update_time, workspace"
        row = (name, artifact_location, "active", created := now(), created, "default")
        cursor = self._db.execute(f"INSERT OR IGNORE INTO experiments ({columns}) VALUES (?, ?, ?, ?, ?, ?)", row)
        if not cursor.rowcount:
            return None
        for key, value in tags.items():
            self.set_experiment_tag(str(cursor.lastrowid), key, value)
        return str(cursor.lastrowid)

    def set_experiment_tag(self, experiment: str, key: str, value: str) -> None:
        """See `RunStore`."""
        statement = "INSERT OR REPLACE INTO experiment_tags (key, value, experiment_id) VALUES (?, ?, ?)"
        self._db.execute(statement, (key, value, int(experiment)))

    def create_run(self, experiment: str, *, start_time: int, name: str, tags: dict[str, str]) -> StoredRun:
        """See `RunStore`."""
        run = uuid.uuid4().hex
        address = self._artifacts_in(experiment, run)
        columns = {
            "run_uuid": run,
            "name": name,
            "source_type": "UNKNOWN",
            "source_name": "",
            "entry_point_name": "",
            "user_id": tags.get(USER, "unknown"),
            "status": "RUNNING",
            "start_time": start_time,
            "source_version": "",
            "lifecycle_stage": "active",
            "artifact_uri": address,
            "experiment_id": int(experiment),
        }
        self._insert("runs", columns)
        self._set_tags(run, {**tags, RUN_NAME: name})
        self._tagged = None
        return StoredRun(run, experiment, "RUNNING", False, address)

    def _artifacts_in(self, experiment: str, *path: str) -> str:
        """Return an address below that of an experiment's artifacts."""
        (address,) = self._db.execute("SELECT artifact_location FROM experiments WHERE experiment_id = ?", (int(experiment),)).fetchone()
        if local_path(address) is not None:
            return "/".join((address.rstrip("/"), *path, "artifacts"))
        from mlflow.utils.uri import append_to_uri_path

        return str(append_to_uri_path(address, *path, "artifacts"))  # type: ignore[no-untyped-call]

    def update_run(self, run: str, update: RunUpdate) -> list[str]:
        """See `RunStore`."""
        tags = dict(update.tags)
        if update.params:
            stored = dict(self._db.execute("SELECT key, value FROM params WHERE run_uuid = ?", (run,)))
            fresh = [(key, value, run) for key, value in update.params.items() if key not in stored]
            self._db.executemany("INSERT INTO params (key, value, run_uuid) VALUES (?, ?, ?)", fresh)
            tags |= {f"resumed/{key}": value for key, value in update.params.items() if stored.get(key, value) != value}
        for dataset in update.datasets:
            self._log_dataset(run, dataset)
        self._log_points(run, update.points)
        self._set_tags(run, tags)
        if update.status:
            self._db.execute("UPDATE runs SET status = ? WHERE run_uuid = ?", (update.status, run))
        if update.end_time is not None:
            self._db.execute("UPDATE runs SET end_time = ? WHERE run_uuid = ?", (update.end_time, run))
        return []

    def _log_points(self, run: str, points: list[Point]) -> None:
        rows = [(key, *_stored_value(value), timestamp, step, run) for key, value, timestamp, step in points]
        columns = "(key, value, is_nan, timestamp, step, run_uuid) VALUES (?, ?, ?, ?, ?, ?)"
        self._db.executemany(f"INSERT OR IGNORE INTO metrics {columns}", rows)
        latest: dict[str, tuple[str, float, bool, int, int, str]] = {}
        for row in rows:
            before = latest.get(row[0])
            if before is None or (row[4], row[3], row[1]) > (before[4], before[3], before[1]):
                latest[row[0]] = row
        self._db.executemany(
            f"INSERT INTO latest_metrics {columns} ON CONFLICT (key, run_uuid) DO UPDATE "
            "SET value = excluded.value, is_nan = excluded.is_nan, timestamp = excluded.timestamp, step = excluded.step "
            "WHERE (excluded.step, excluded.timestamp, excluded.value) > (step, timestamp, value)",
            latest.values(),
        )

    def _set_tags(self, run: str, tags: dict[str, str]) -> None:
        statement = (
            "INSERT INTO tags (key, value, run_uuid) VALUES (?, ?, ?) ON CONFLICT (key, run_uuid) DO UPDATE SET value = excluded.value"
        )
        self._db.executemany(statement, [(key, value, run) for key, value in tags.items()])
        if RUN_NAME in tags:
            self._db.execute("UPDATE runs SET name = ? WHERE run_uuid = ?", (tags[RUN_NAME], run))

    def _log_dataset(self, run: str, dataset: LoggedDataset) -> None:
        (experiment,) = self._db.execute("SELECT experiment_id FROM runs WHERE run_uuid = ?", (run,)).fetchone()
        columns = {
            "dataset_uuid": uuid.uuid4().hex,
            "experiment_id": experiment,
            "name": dataset.name,
            "digest": dataset.digest,
            "dataset_source_type": "local",
            "dataset_source": dataset.source,
            "dataset_profile": dataset.profile,
        }
        self._insert("datasets", columns)
        query = "SELECT dataset_uuid FROM datasets WHERE experiment_id = ? AND name = ? AND digest = ?"
        (stored,) = self._db.execute(query, (experiment, dataset.name, dataset.digest)).fetchone()
        added = self._link("DATASET", stored, "RUN", run)
        if added:
            self._insert("input_tags", {"input_uuid": added, "name": CONTEXT, "value": dataset.context})

    def _link(self, source_type: str, source: str, destination_type: str, destination: str) -> str | None:
        """Link two things, and return the link's id; None where they were linked already."""
        columns = {"input_uuid": uuid.uuid4().hex, "source_type": source_type, "source_id": source}
        columns |= {"destination_type": destination_type, "destination_id": destination}
        return columns["input_uuid"] if self._insert("inputs", columns) else None

    def _insert(self, table: str, columns: dict[str, object] | dict[str, str]) -> int:
        """Insert a row, unless there is one with its key, and return how many were inserted."""
        statement = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))}) ON CONFLICT DO NOTHING"
        return self._db.execute(statement, tuple(columns.values())).rowcount

    def upload(self, run: StoredRun, source: Path, *, artifact_path: str) -> None:
        """See `RunStore`."""
        _upload(run.artifact_uri, source, artifact_path)

    def log_model(self, run: StoredRun, *, name: str, write: Callable[[str, str], Path]) -> str:
        """See `RunStore`."""
        model = f"m-{uuid.uuid4().hex}"
        address = self._artifacts_in(run.experiment, "models", model)
        columns = {
            "model_id": model,
            "experiment_id": int(run.experiment),
            "name": name,
            "artifact_location": address,
            "creation_timestamp_ms": now(),
            "last_updated_timestamp_ms": now(),
            "status": PENDING,
            "lifecycle_stage": "active",
            "source_run_id": run.id,
        }
        with self.transaction():
            delete = "UPDATE logged_models SET lifecycle_stage = 'deleted', last_updated_timestamp_ms = ? WHERE source_run_id = ?"
            self._db.execute(f"{delete} AND lifecycle_stage = 'active'", (now(), run.id))
            self._insert("logged_models", columns)
        _upload(address, write(model, address), "")
        with self.transaction():
            self._link("RUN_OUTPUT", run.id, "MODEL_OUTPUT", model)
            ready = "UPDATE logged_models SET status = ?, last_updated_timestamp_ms = ? WHERE model_id = ?"
            self._db.execute(ready, (READY, now(), model))
        return model


def _stored_value(value: float) -> tuple[float, bool]:
    """Return what MLflow's databases keep of a metric's value, and whether it is no number."""
    if math.isnan(value):
        return 0.0, True
    return (math.copysign(LARGEST, value) if math.isinf(value) else value), False


def _upload(address: str, source: Path, artifact_path: str) -> None:
    """Copy a file or a folder to artifacts on this machine; to those elsewhere MLflow has the ways."""
    folder = local_path(address)
    if folder is None:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        repository = get_artifact_repository(address)
        log: Callable[[str, str | None], object] = repository.log_artifacts if source.is_dir() else repository.log_artifact
        log(str(source), artifact_path or None)
        return
    target = folder / artifact_path
    files = [path for path in source.rglob("*") if path.is_file()] if source.is_dir() else [source]
    for file in files:
        copy = target / (file.relative_to(source) if source.is_dir() else file.name)
        copy.parent.mkdir(parents=True, exist_ok=True)
        draft = copy.with_name(f"{UNFINISHED}{uuid.uuid4().hex}")
        try:
            shutil.copyfile(file, draft)
            os.replace(draft, copy)
        finally:
            draft.unlink(missing_ok=True)
