"""How long the report of many trials takes, and how much memory: a simulated sweep, from its frame in the store's form to the files.

python benchmarks/report_size.py [--trials 10000] [--arms 20] [--seeds 10]
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from bakeoff.report.builder import write_report
from bakeoff.report.design import read_design
from bakeoff.report.results import SweepResults, curves_table, run_origins, runs_table
from bakeoff.run_files.stored_plan import parse_stored_plan

POINTS = 40
LR = {"low": 1e-4, "high": 1.0, "log": True}


def frame(arms: list[str], blocks: list[str], *, trials: int, seeds: int) -> pd.DataFrame:
    """What `tracking.store.frame` gives for so many trials and seeds of every arm in every block."""
    rng, parts = np.random.default_rng(0), []
    for b, block in enumerate(blocks):
        shared = rng.normal(0, 0.006, seeds)
        for a, arm in enumerate(arms):
            n = trials + seeds
            lr, tune = 10 ** rng.uniform(-4, 0, n), np.arange(n) < trials
            score = 0.9 - 0.04 * b + 0.001 * a + rng.normal(0, 0.004, n)
            score = score - np.where(tune, 0.05 * (np.log10(lr) + 2) ** 2, -np.pad(shared, (trials, 0)))
            ids = [f"{b:02x}{a:02x}{i:08x}" for i in range(n)]
            parts.append(
                pd.DataFrame(
                    {
                        "id": ids, "mlflow_id": [f"m{i}" for i in ids], "name": ids, "status": "FINISHED", "start": 0, "end": 900,
                        "tags.kind": np.where(tune, "trial", "confirm"), "tags.arm": arm, "tags.block": block,
                        "tags.seed": np.where(tune, 0, 1001 + np.arange(n) - trials).astype(str),
                        "tags.point": np.where(tune, np.arange(n), -1).astype(str), "tags.diverged": "false", "metrics.val/accuracy": score,
                        "metrics.test/accuracy": np.where(tune, np.nan, score), "metrics.seconds": 12.5, "params.parameters": "1541898",
                        "params.optimizer.lr": lr.astype(str), "params.data.num_classes": "10", "params.data.batch_size": "64",
                    }
                )
            )  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trials", type=int, default=10_000, help="tuning runs in all")
    parser.add_argument("--arms", type=int, default=20)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=10)
    args = parser.parse_args()
    arms, blocks = [f"arm{i:02d}" for i in range(args.arms)], [f"block{i}" for i in range(args.blocks)]
    each = args.trials // (args.arms * args.blocks)
    cells = [{"arm": a, "block": b, "spaces": {"optimizer.lr": LR}, "points": [{}] * each} for b in blocks for a in arms]
    pool = [1001 + i for i in range(args.seeds)]
    tree = {
        "version": 2,
        "name": "size",
        "hash": "0" * 64,
        "question": "How large may a sweep be?",
        "margin": 0.005,
        "fixed": {},
        "cells": cells,
        "metric": {"name": "val/accuracy", "goal": "maximize"},
        "budget": {"sampler": "halton"},
        "command": "bakeoff sweep size",
        "confirm": {"seeds": pool, "looks": [len(pool)], "pool": pool},
    }
    plan = read_design(parse_stored_plan(tree))
    table = frame(arms, blocks, trials=each, seeds=args.seeds)
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, time.perf_counter()
    runs = runs_table(table, plan, score_metric="test/accuracy")
    points = [(10 * (k + 1), 0.9 - 0.5 / (k + 1), 0) for k in range(POINTS)]
    confirm = runs.loc[runs["stage"] == "confirm", "mlflow_id"]
    curves = curves_table({(run, key): points for run in confirm for key in ("val/accuracy", "train/loss")}, runs)
    sweep = SweepResults(plan, "", "sqlite:///mlflow.db", runs, curves, "test/accuracy", run_origins(table))
    with tempfile.TemporaryDirectory() as folder:
        report = write_report(sweep, Path(folder))
        size = sum(path.stat().st_size for path in report.files) / 2**20
        lapse = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{len(runs):,} runs of {args.arms} arms in {args.blocks} blocks, {len(curves):,} points of curves")
    print(f"{lapse:.1f} s, {peak - before:.0f} MiB above the {before:.0f} MiB of the libraries and the input, {size:.1f} MiB of files")


if __name__ == "__main__":
    main()
