"""Reads the tracking store: runs by id, runs as a table, curves and artifacts. Nothing here makes a store or changes a run."""

from __future__ import annotations

import contextlib
import gc
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bakeoff.errors import NotFoundError, StoreError, near_miss, redact
from bakeoff.run_files.run_dir import ID_LENGTH, PREFIX_LENGTH
from bakeoff.tracking import db_reader
from bakeoff.tracking.client import (
    ID_TAG,
    check_artifact_address,
    check_reachable,
    default_uri,
    ensure_schema,
    local_path,
    open_client,
    sqlite_path,
    store_errors,
)
from bakeoff.tracking.db_reader import restore_value

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities import Run

__all__ = [
    "analyze_database",
    "default_uri",
    "download_artifact",
    "ensure_schema",
    "experiment_id",
    "metric_histories",
    "metric_history",
    "redact",
    "resolve_run",
    "run_statuses",
    "runs_table",
    "test_predictions",
]

PAGE = 1000


def resolve_run(uri: str, run_id: str) -> Run:
    """Find a run in the store.

    Args:
        uri: The store.
        run_id: The run's id, a unique beginning of it (6 digits or more), or MLflow's own id.

    Returns:
        MLflow's run.

    Raises:
        NotFoundError: There is no such run, or more than one; the message names the near miss.
        StoreError: The store is away.
    """
    client = open_client(uri)
    with store_errors(uri):
        if run_id.isalnum():
            query = f"tags.`{ID_TAG}` LIKE '{run_id}%'" if len(run_id) >= PREFIX_LENGTH else f"tags.`{ID_TAG}` = '{run_id}'"
            matches = list(_runs(client, query)) if len(run_id) <= ID_LENGTH else []
            exact = [run for run in matches if run.data.tags[ID_TAG] == run_id]
            if len(exact or matches) == 1:
                return (exact or matches)[0]
            if matches:
                ids = ", ".join(sorted(run.data.tags[ID_TAG] for run in matches)[:5])
                raise NotFoundError(f"run {run_id}: {len(matches)} runs in {redact(uri)} begin like this: {ids}")
            run = _by_mlflow_id(client, run_id)
            if run is not None:
                return run
        stored_ids = [i for run in _runs(client, None) for i in (run.data.tags.get(ID_TAG, ""), run.info.run_id) if i]
    raise NotFoundError(f"run {run_id}: no such run in tracking.uri={redact(uri)}{near_miss(run_id, stored_ids)}")


def run_statuses(uri: str) -> dict[str, str]:
    """Read MLflow's id and the status of every run in a store, the deleted ones included; a file that is not there has none."""
    file = sqlite_path(uri)
    if file is not None:
        if not file.exists():
            return {}
        check_reachable(uri)
        try:
            with contextlib.closing(sqlite3.connect(f"{file.as_uri()}?mode=rw", uri=True, timeout=10)) as database:
                return dict(database.execute("SELECT run_uuid, status FROM runs").fetchall())
        except sqlite3.Error as error:
            raise StoreError(f"tracking.uri={redact(uri)}: {error}") from error
    client = open_client(uri)
    with store_errors(uri):
        return {run.info.run_id: run.info.status for run in _runs(client, None, deleted=True)}


def runs_table(uri: str, query: str | None = None, *, experiment: str | None = None) -> pd.DataFrame:
    """Read runs as a table.

    Args:
        uri: The store.
        query: An MLflow filter; None: all runs.
        experiment: The name of one experiment; None: all.

    Returns:
        One row for each run, newest first. Columns: id, mlflow_id, name, experiment, kind, status, start, end (ms since 1970), then
        params.*, metrics.* (last values) and tags.* as they occur.

    Raises:
        NotFoundError: There is no such experiment.
    """
    import pandas as pd

    client = open_client(uri)
    with store_errors(uri):
        names = {e.experiment_id: e.name for e in _experiments(client)}
        if experiment is not None and experiment not in names.values():
            raise NotFoundError(f"experiment {experiment}: not in tracking.uri={redact(uri)}{near_miss(experiment, names.values())}")
        chosen = [i for i, name in names.items() if experiment in (None, name)]
        first = ["id", "mlflow_id", "name", "experiment", "kind", "status", "start", "end"]
        if query is None and db_reader.is_database(uri):
            table = db_reader.read_runs(uri, experiment=experiment)
            return table[first + sorted(set(table.columns) - set(first))]
        with _uncollected():
            rows = [_row(run, names) for run in _runs(client, query, experiments=chosen)]
    table = pd.DataFrame(rows, columns=first if not rows else None)
    return table[first + sorted(set(table.columns) - set(first))]


def metric_history(uri: str, mlflow_id: str, key: str) -> list[tuple[int, float, int]]:
    """Read one metric of one run: (step, value, ms since 1970) of every point, by step; values are exact, nan and inf included."""
    return metric_histories(uri, [mlflow_id], [key])[mlflow_id, key]


def metric_histories(uri: str, mlflow_ids: Sequence[str], keys: Sequence[str]) -> dict[tuple[str, str], list[tuple[int, float, int]]]:
    """Read several metrics of several runs.

    Args:
        uri: The store.
        mlflow_ids: MLflow's ids of the runs.
        keys: The metrics.

    Returns:
        (run, metric) -> its points as in `metric_history`; empty for a metric that a run does not have.
    """
    client = open_client(uri)
    with store_errors(uri):
        if db_reader.is_database(uri):
            return {which: sorted(points, key=_by_step) for which, points in db_reader.read_histories(uri, mlflow_ids, keys).items()}
        return {
            (run, key): sorted(((m.step, restore_value(m.value), m.timestamp) for m in client.get_metric_history(run, key)), key=_by_step)
            for run in mlflow_ids
            for key in keys
        }


def download_artifact(uri: str, mlflow_id: str, path: str, *, into: Path | None = None) -> Path:
    """Download an artifact.

    Args:
        uri: The store.
        mlflow_id: MLflow's id of the run.
        path: The artifact, a file or a folder.
        into: The folder to put it in; None: a fresh temporary one.

    Returns:
        The local path.

    Raises:
        NotFoundError: The run has no such artifact.
    """
    client = open_client(uri)
    with store_errors(uri):
        from mlflow.exceptions import MlflowException

        check_artifact_address(uri, client.get_run(mlflow_id).info.artifact_uri)
        parent = path.rpartition("/")[0]
        siblings = [item.path for item in client.list_artifacts(mlflow_id, parent or None)]
        if path and path not in siblings:
            raise NotFoundError(f"artifact {path}: not in run {mlflow_id}{near_miss(path, siblings)}")
        try:
            return Path(client.download_artifacts(mlflow_id, path, str(into) if into else None))
        except MlflowException as error:
            raise StoreError(f"artifact {path} of run {mlflow_id}: {redact(str(error))}") from error


def test_predictions(uri: str, mlflow_ids: Sequence[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read what runs have predicted on the test set.

    Artifacts on this machine are read where they are; others are downloaded, one run after the other.

    Args:
        uri: The store.
        mlflow_ids: MLflow's ids of the runs.

    Returns:
        Run -> (predicted, target): classes, unsigned integers, each (images,) in the order of the test set. A run without predictions is
        left out.

    Raises:
        StoreError: The store is away, or the predictions of a run are damaged.
    """
    from bakeoff.run_files.predictions import PREDICTIONS_FILE, read_predictions

    predictions: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    with tempfile.TemporaryDirectory() as downloads:
        for mlflow_id, address in _artifact_uris(uri, mlflow_ids).items():
            with contextlib.suppress(FileNotFoundError, NotFoundError):
                local_dir = local_path(address)
                if local_dir is not None:
                    file = local_dir / PREDICTIONS_FILE
                else:
                    file = download_artifact(uri, mlflow_id, PREDICTIONS_FILE, into=Path(downloads))
                try:
                    predictions[mlflow_id] = read_predictions(file)
                except StoreError as error:
                    raise StoreError(f"run {mlflow_id}: {error}") from error
    return predictions


def _artifact_uris(uri: str, mlflow_ids: Sequence[str]) -> dict[str, str]:
    """Read where the artifacts of runs are, in the order of `mlflow_ids`; unknown runs are left out."""
    client = open_client(uri)
    with store_errors(uri):
        if db_reader.is_database(uri):
            addresses = db_reader.read_artifact_uris(uri, mlflow_ids)
        else:
            queries = [f"attributes.run_id IN ({', '.join(map(repr, ids))})" for ids in db_reader.chunked(mlflow_ids)]
            addresses = {run.info.run_id: run.info.artifact_uri for query in queries for run in _runs(client, query)}
    return {run: addresses[run] for run in mlflow_ids if run in addresses}


def analyze_database(uri: str) -> None:
    """Let SQLite analyze its tables: sorting a page of thousands of runs gets 50 times faster. Other stores do it themselves."""
    file = sqlite_path(uri)
    if file is None:
        return
    if not file.is_file():
        raise StoreError(f"tracking.uri={redact(uri)}: there is no such file")
    try:
        with contextlib.closing(sqlite3.connect(file, timeout=10)) as database:
            database.execute("ANALYZE")
            database.commit()
    except sqlite3.Error as error:
        raise StoreError(f"tracking.uri={redact(uri)}: {error}") from error


def experiment_id(uri: str, *, name: str | None = None) -> str | None:
    """Return MLflow's id of an experiment by name, or of the newest one that has runs; None where there is none."""
    client = open_client(uri)
    with store_errors(uri):
        if name is not None:
            experiment = client.get_experiment_by_name(name)
            return str(experiment.experiment_id) if experiment else None
        newest = next(_runs(client, None), None)
        return str(newest.info.experiment_id) if newest else None


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Reading thousands of runs makes an object for every value, and a collector that walks them all takes most of the time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _row(run: Run, names: dict[str, str]) -> dict[str, Any]:
    data, info = run.data, run.info
    return {
        "id": data.tags.get(ID_TAG),
        "mlflow_id": info.run_id,
        "name": info.run_name,
        "experiment": names[info.experiment_id],
        "kind": data.tags.get("kind"),
        "status": info.status,
        "start": info.start_time,
        "end": info.end_time,
        **{f"params.{k}": v for k, v in data.params.items()},
        **{f"metrics.{k}": restore_value(v) for k, v in data.metrics.items()},
        **{f"tags.{k}": v for k, v in data.tags.items()},
    }


def _runs(client: MlflowClient, query: str | None, *, experiments: Sequence[str] | None = None, deleted: bool = False) -> Iterator[Run]:
    from mlflow.entities import ViewType

    chosen = list(experiments) if experiments is not None else [e.experiment_id for e in _experiments(client)]
    order, view = ["attributes.start_time DESC"], ViewType.ALL if deleted else ViewType.ACTIVE_ONLY
    search = partial(client.search_runs, chosen, filter_string=query or "", run_view_type=view, max_results=PAGE, order_by=order)
    return _all_pages(search) if chosen else iter(())


def _experiments(client: MlflowClient) -> Iterator[Any]:
    return _all_pages(partial(client.search_experiments, max_results=PAGE))


def _all_pages(search: Callable[..., Any]) -> Iterator[Any]:
    """Yield what a search of MLflow finds, page after page."""
    page = search()
    yield from page
    while page.token:
        page = search(page_token=page.token)
        yield from page


def _by_mlflow_id(client: MlflowClient, run_id: str) -> Run | None:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run_id)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def _by_step(point: tuple[int, float, int]) -> tuple[int, int]:
    return point[0], point[2]
