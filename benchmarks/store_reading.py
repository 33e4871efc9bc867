"""How long runs take to be read from a store, and how much memory: a simulated sweep, written into a fresh SQLite store by SQL.

python benchmarks/store_reading.py [--runs 10000] [--curves 400] [--client]
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

PARAMS, TAGS, METRICS, POINTS = 130, 30, 25, 40
KEYS = ("val/accuracy", "train/loss", "val/loss")


def fill(uri: str, *, runs: int, curves: int) -> list[str]:
    """Rows as MLflow writes them; gives the ids of the runs that have curves."""
    from mlflow.store.tracking.dbmodels.models import SqlExperiment, SqlLatestMetric, SqlMetric, SqlParam, SqlRun, SqlTag
    from sqlalchemy import create_engine, insert

    ids = [f"{i:032x}" for i in range(runs)]
    engine = create_engine(uri)
    with engine.begin() as database:

        def put(table: type, rows: list[dict[str, object]]) -> None:
            database.execute(insert(table), rows)

        about = {"name": "size-00000000", "artifact_location": "mlartifacts/1", "lifecycle_stage": "active", "workspace": "default"}
        put(SqlExperiment, [{"experiment_id": 1, **about, "creation_time": 0, "last_update_time": 0}])
        for start in range(0, runs, 500):
            part = range(start, min(runs, start + 500))
            state = {"experiment_id": 1, "status": "FINISHED", "user_id": "", "lifecycle_stage": "active", "artifact_uri": "mlartifacts/1"}
            put(SqlRun, [{"run_uuid": ids[i], "name": f"run{i}", **state, "start_time": i, "end_time": i + 900} for i in part])
            put(SqlParam, [{"run_uuid": ids[i], "key": f"p{k}", "value": str(k if k else i)} for i in part for k in range(PARAMS)])
            tags = {"kind": "trial", "bakeoff.id": "", **{f"t{k}": "told" for k in range(TAGS - 2)}}
            put(SqlTag, [{"run_uuid": ids[i], "key": k, "value": v or ids[i][-12:]} for i in part for k, v in tags.items()])
            last = {"timestamp": 0, "step": POINTS, "is_nan": False}
            keys = [*KEYS, *(f"m{k}" for k in range(METRICS - len(KEYS)))]
            put(SqlLatestMetric, [{"run_uuid": ids[i], "key": k, "value": i * 1e-4, **last} for i in part for k in keys])
        for run in ids[:curves]:
            points = [(key, step) for key in KEYS for step in range(POINTS)]
            put(
                SqlMetric,
                [{"run_uuid": run, "key": k, "value": 1 / (s + 1), "timestamp": s, "step": s, "is_nan": False} for k, s in points],
            )
    engine.dispose()
    return ids[:curves]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--curves", type=int, default=400, help="runs whose curves are read")
    parser.add_argument("--client", action="store_true", help="read through MLflow's client, as a store behind a server is read")
    args = parser.parse_args()
    from bakeoff.tracking import store

    with tempfile.TemporaryDirectory() as folder:
        uri = store.default_uri(Path(folder))
        store.ensure_schema(uri)
        drawn = fill(uri, runs=args.runs, curves=args.curves)
        store.runs_table(uri, "tags.kind = 'none'")  # imports
        before, began, cpu = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, time.perf_counter(), time.process_time()
        table = store.runs_table(uri, "tags.kind != 'none'" if args.client else None)
        middle, used = time.perf_counter(), time.process_time()
        told = store.metric_histories(uri, drawn, KEYS)
        lapse, peak = time.perf_counter() - middle, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    values = sum(map(len, told.values()))
    print(f"{len(table):,} runs of {table.shape[1]} columns in {middle - began:.1f} s ({used - cpu:.1f} s of CPU)")
    print(f"{values:,} points of curves in {lapse:.1f} s ({time.process_time() - used:.1f} s of CPU)")
    print(f"{peak - before:.0f} MiB above the {before:.0f} MiB of the libraries and what wrote the store")


if __name__ == "__main__":
    main()
