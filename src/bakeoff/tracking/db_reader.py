"""A store's database read as tables: thousands of runs in a second, where MLflow's client makes an object of every value.

The tables are MLflow's own models of them. A store behind a server has none to read; `store` asks its client there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bakeoff.tracking.client import ID_TAG

if TYPE_CHECKING:
    import pandas as pd
    from sqlalchemy import Connection, Select

#: Runs that one statement names: databases allow so many at least.
CHUNK = 500
#: Rows that are held at a time beside the table that is made of them.
BATCH = 10_000
#: What MLflow's databases keep in place of infinity.
LARGEST = 1.7976931348623157e308
ACTIVE = "active"


def is_database(uri: str) -> bool:
    """Return whether the address is a database's, not a server's."""
    return not uri.startswith(("http://", "https://"))


def table_models() -> Any:
    """Return the module of MLflow's models of its tables."""
    # They are private to MLflow, whose client is too slow for a report, and without them the names of tables and columns would stand here.
    from mlflow.store.tracking.dbmodels import models

    return models


def restore_value(value: float, *, is_nan: bool = False) -> float:
    """Return a metric's value as it was logged, of the one that the database keeps."""
    if is_nan:
        return math.nan
    return math.copysign(math.inf, value) if abs(value) >= LARGEST else float(value)


def read_runs(uri: str, *, experiment: str | None) -> pd.DataFrame:
    """Read the runs of a store.

    Args:
        uri: The database's address.
        experiment: The name of one experiment; None: all.

    Returns:
        The runs, newest first, with the columns of `store.runs_table`.

    Raises:
        SQLAlchemyError: The database cannot be read.
    """
    import numpy as np
    import pandas as pd
    from sqlalchemy import select

    tables = table_models()
    runs, experiments = tables.SqlRun, tables.SqlExperiment

    def select_active(*columns: Any, table: Any = runs) -> Select[Any]:
        statement = select(*columns).select_from(table)
        statement = statement if table is runs else statement.join(runs, runs.run_uuid == table.run_uuid)
        statement = statement.join(experiments, experiments.experiment_id == runs.experiment_id)
        statement = statement.where(runs.lifecycle_stage == ACTIVE, experiments.lifecycle_stage == ACTIVE)
        return statement if experiment is None else statement.where(experiments.name == experiment)

    with connect(uri) as connection:
        about = (runs.run_uuid, runs.name, experiments.name, runs.status, runs.start_time, runs.end_time)
        rows = connection.execute(select_active(*about).order_by(runs.start_time.desc(), runs.run_uuid)).all()
        row_of, texts = {row[0]: place for place, row in enumerate(rows)}, dict[str, str]()
        columns: dict[str, Any] = {}

        def add_columns(prefix: str, table: Any, *, numbers: bool = False) -> None:
            more = (table.is_nan,) if numbers else ()
            for run, key, value, *is_nan in stream_rows(
                connection, select_active(table.run_uuid, table.key, table.value, *more, table=table)
            ):
                place = row_of.get(run)
                if place is None or value is None:  # a run that came in between the two statements
                    continue
                name = prefix + key
                if name not in columns:
                    columns[name] = np.full(len(rows), np.nan, dtype=float if numbers else object)
                # Most values are those of other runs, too: one object for all of them.
                columns[name][place] = restore_value(value, is_nan=is_nan[0]) if numbers else texts.setdefault(value, value)

        add_columns("params.", tables.SqlParam)
        add_columns("metrics.", tables.SqlLatestMetric, numbers=True)
        add_columns("tags.", tables.SqlTag)
    heads = ("mlflow_id", "name", "experiment", "status", "start", "end")
    facts = {head: [row[i] for row in rows] for i, head in enumerate(heads)}
    for head, tag in (("id", ID_TAG), ("kind", "kind")):
        facts[head] = columns.get(f"tags.{tag}", [None] * len(rows))
    return pd.DataFrame({**facts, **columns})


def read_histories(uri: str, mlflow_ids: Sequence[str], keys: Sequence[str]) -> dict[tuple[str, str], list[tuple[int, float, int]]]:
    """Read every point of some metrics.

    Args:
        uri: The database's address.
        mlflow_ids: MLflow's ids of the runs.
        keys: The metrics.

    Returns:
        (run, metric) -> (step, value, ms since 1970) of its points, in no order; empty for a metric that a run does not have.
    """
    metrics = table_models().SqlMetric
    about = (metrics.run_uuid, metrics.key, metrics.step, metrics.value, metrics.timestamp, metrics.is_nan)
    points: dict[tuple[str, str], list[tuple[int, float, int]]] = {(run, key): [] for run in mlflow_ids for key in keys}
    for run, key, step, value, timestamp, is_nan in stream_runs(uri, about, mlflow_ids, metrics.key.in_(keys)):
        points[run, key].append((int(step), restore_value(value, is_nan=is_nan), int(timestamp)))
    return points


def read_artifact_uris(uri: str, mlflow_ids: Sequence[str]) -> dict[str, str]:
    """Read where the artifacts of runs are: run -> address; a run that the database at `uri` lacks is left out."""
    runs = table_models().SqlRun
    return {run: address for run, address in stream_runs(uri, (runs.run_uuid, runs.artifact_uri), mlflow_ids) if address}


def stream_runs(uri: str, columns: tuple[Any, ...], mlflow_ids: Sequence[str], *conditions: Any) -> Iterator[Any]:
    """Yield columns, the first of which is the run's id, of the rows of some runs that meet the conditions."""
    from sqlalchemy import select

    with connect(uri) as connection:
        for ids in chunked(mlflow_ids):
            yield from stream_rows(connection, select(*columns).where(columns[0].in_(ids), *conditions))


def chunked(items: Sequence[str]) -> Iterator[Sequence[str]]:
    """Split a sequence into pieces of `CHUNK`."""
    return (items[start : start + CHUNK] for start in range(0, len(items), CHUNK))


@contextmanager
def connect(uri: str) -> Iterator[Connection]:
    """Open a connection for the block; nothing is written over it."""
    from sqlalchemy import create_engine

    engine = create_engine(uri)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def stream_rows(connection: Connection, statement: Select[Any]) -> Iterator[Any]:
    """Return the rows of a statement, `BATCH` of them in memory at a time."""
    return iter(connection.execution_options(yield_per=BATCH).execute(statement))
