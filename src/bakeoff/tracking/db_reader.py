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


def readable(uri: str) -> bool:
    """Whether the address is a database's, not a server's."""
    return not uri.startswith(("http://", "https://"))


def restored(value: float, *, is_nan: bool = False) -> float:
    """A metric's value as it was logged."""
    if is_nan:
        return math.nan
    return math.copysign(math.inf, value) if abs(value) >= LARGEST else float(value)


def frame(uri: str, *, experiment: str | None) -> pd.DataFrame:
    """All runs, or those of one experiment, newest first, with the columns of `store.frame`. SQLAlchemyError where it cannot be read."""
    import numpy as np
    import pandas as pd
    from mlflow.store.tracking.dbmodels.models import SqlExperiment, SqlLatestMetric, SqlParam, SqlRun, SqlTag
    from sqlalchemy import select

    def chosen(*columns: Any, home: Any = SqlRun) -> Select[Any]:
        told = select(*columns).select_from(home)
        told = told if home is SqlRun else told.join(SqlRun, SqlRun.run_uuid == home.run_uuid)
        told = told.join(SqlExperiment, SqlExperiment.experiment_id == SqlRun.experiment_id)
        told = told.where(SqlRun.lifecycle_stage == ACTIVE, SqlExperiment.lifecycle_stage == ACTIVE)
        return told if experiment is None else told.where(SqlExperiment.name == experiment)

    with opened(uri) as connection:
        about = (SqlRun.run_uuid, SqlRun.name, SqlExperiment.name, SqlRun.status, SqlRun.start_time, SqlRun.end_time)
        rows = connection.execute(chosen(*about).order_by(SqlRun.start_time.desc(), SqlRun.run_uuid)).all()
        at, words = {row[0]: place for place, row in enumerate(rows)}, dict[str, str]()
        columns: dict[str, Any] = {}

        def put(prefix: str, table: Any, *, numbers: bool = False) -> None:
            more = (table.is_nan,) if numbers else ()
            for run, key, value, *is_nan in streamed(connection, chosen(table.run_uuid, table.key, table.value, *more, home=table)):
                place = at.get(run)
                if place is None or value is None:  # a run that came in between the two statements
                    continue
                name = prefix + key
                if name not in columns:
                    columns[name] = np.full(len(rows), np.nan, dtype=float if numbers else object)
                # Most values are those of other runs, too: one object for all of them.
                columns[name][place] = restored(value, is_nan=is_nan[0]) if numbers else words.setdefault(value, value)

        put("params.", SqlParam)
        put("metrics.", SqlLatestMetric, numbers=True)
        put("tags.", SqlTag)
    heads = ("mlflow_id", "name", "experiment", "status", "start", "end")
    found = {head: [row[i] for row in rows] for i, head in enumerate(heads)}
    for head, tag in (("id", ID_TAG), ("kind", "kind")):
        found[head] = columns.get(f"tags.{tag}", [None] * len(rows))
    return pd.DataFrame({**found, **columns})


def histories(uri: str, mlflow_ids: Sequence[str], keys: Sequence[str]) -> dict[tuple[str, str], list[tuple[int, float, int]]]:
    """(run, metric) -> (step, value, ms since 1970) of every point, in no order; a metric that a run does not have is an empty list."""
    from mlflow.store.tracking.dbmodels.models import SqlMetric
    from sqlalchemy import select

    found: dict[tuple[str, str], list[tuple[int, float, int]]] = {(run, key): [] for run in mlflow_ids for key in keys}
    with opened(uri) as connection:
        for part in parts(mlflow_ids):
            about: tuple[Any, ...] = (
                SqlMetric.run_uuid,
                SqlMetric.key,
                SqlMetric.step,
                SqlMetric.value,
                SqlMetric.timestamp,
                SqlMetric.is_nan,
            )
            told = select(*about).where(SqlMetric.run_uuid.in_(part), SqlMetric.key.in_(keys))
            for run, key, step, value, timestamp, is_nan in streamed(connection, told):
                found[run, key].append((int(step), restored(value, is_nan=is_nan), int(timestamp)))
    return found


def parts(items: Sequence[str]) -> Iterator[Sequence[str]]:
    """`CHUNK` at a time."""
    return (items[start : start + CHUNK] for start in range(0, len(items), CHUNK))


@contextmanager
def opened(uri: str) -> Iterator[Connection]:
    """One connection, closed behind the block; nothing is written over it."""
    from sqlalchemy import create_engine

    engine = create_engine(uri)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def streamed(connection: Connection, statement: Select[Any]) -> Iterator[Any]:
    """The rows of a statement, `BATCH` of them in memory at a time."""
    return iter(connection.execution_options(yield_per=BATCH).execute(statement))
