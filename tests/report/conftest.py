"""Simulated sweeps with a known truth, made as the store's own frame, so that they go through the code that reads real ones."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bakeoff.report.design import read_design
from bakeoff.report.results import SweepResults, curves_table, runs_table
from bakeoff.run_files.stored_plan import parse_stored_plan

LR = {"low": 1e-4, "high": 1.0, "log": True, "integer": False}


def plan_tree(
    arms: list[str],
    *,
    blocks: tuple[str, ...] = ("all",),
    trials: int = 8,
    seeds: int = 10,
    metric: str = "val/accuracy",
    studies: int | None = None,
) -> dict[str, Any]:
    """plan.json of a sweep over optimizers that tunes the learning rate, anew for each seed unless `studies` says otherwise."""
    goal = "maximize" if metric.endswith("accuracy") else "minimize"
    same = {"spaces": {"optimizer.lr": LR}, "points": [{"optimizer.lr": 0.1}] * trials}
    cells = [{"arm": arm, "block": block, **same} for arm in arms for block in blocks]
    return {
        "version": 2,
        "name": "sim",
        "hash": "0123456789abcdef" * 4,
        "question": "Which optimizer trains best when each gets its own best learning rate?",
        "metric": {"name": metric, "goal": goal},
        "margin": 0.005,
        "budget": {"trials": trials, "sampler": "halton", "studies": studies or max(seeds, 1), "grow": studies != 1 and seeds > 1},
        "confirm": confirm_tree(seeds),
        "fixed": {"data": "digits", "model.width": 0.25, "trainer.max_epochs": 8},
        "command": "bakeoff sweep sim workers=2",
        "cells": cells,
    }


def confirm_tree(seeds: int) -> dict[str, Any]:
    """plan.json's `confirm`: so many seeds at the first of five looks."""
    pool = [1001 + i for i in range(5 * seeds)]
    return {"seeds": pool[:seeds], "max_seeds": len(pool), "looks": [k * seeds for k in range(1, 6) if seeds], "pool": pool}


def simulate(
    effects: dict[str, float],
    *,
    rng: np.random.Generator,
    blocks: tuple[str, ...] = ("all",),
    trials: int = 8,
    seeds: int = 10,
    planned: int | None = None,
    metric: str = "val/accuracy",
    studies: int | None = None,
    base: float = 0.9,
    sd_seed: float = 0.006,
    sd_run: float = 0.004,
    diverge: Callable[[str, float], bool] = lambda arm, lr: False,
    curves: bool = False,
) -> SweepResults:
    """A sweep whose arms' true scores are base + effect + an effect of the seed that all arms share + the run's own noise."""
    tree = plan_tree(list(effects), blocks=blocks, trials=trials, seeds=planned or seeds, metric=metric, studies=studies)
    test, rows, histories = metric.replace("val/", "test/"), [], {}
    for b, block in enumerate(blocks):
        shared = rng.normal(0, sd_seed, size=seeds)
        for a, (arm, effect) in enumerate(effects.items()):
            for i in range(trials + seeds):
                tune, seed = i < trials, 0 if i < trials else 1001 + i - trials
                lr = 10 ** (-4 + 4 * ((i * 0.618 + 0.1 * a) % 1)) if tune else 10 ** (-2.5 + 0.15 * a)
                bowl = -0.05 * (math.log10(lr) + 2.5 - 0.15 * a) ** 2 if tune else 0.0
                value = base - 0.04 * b + effect + bowl + rng.normal(0, sd_run) + (0.0 if tune else shared[i - trials])
                ident, lost = f"{b:02x}{a:02x}{i:08x}", tune and diverge(arm, lr)
                kind = "trial" if tune else "confirm"
                rows.append(
                    {
                        "id": ident, "mlflow_id": f"m{ident}", "name": f"{arm}-{block}-{i}", "kind": kind, "status": "FINISHED",
                        "start": 1_000 * i, "end": 1_000 * i + 900, "tags.kind": kind, "tags.arm": arm, "tags.block": block,
                        "tags.seed": str(seed), "tags.point": str(i) if tune else None, "tags.diverged": str(lost).lower(),
                        f"metrics.{metric}": value + (0 if tune else 0.003), f"metrics.{test}": math.nan if tune else value,
                        "metrics.seconds": 12.5 + a, "params.parameters": "1541898", "params.optimizer.lr": repr(lr), "tags.reason": "",
                        "tags.git.commit": "5353a7e0c0ffee", "tags.version.torch": "2.14.1", "tags.python": "3.11.9",
                        "tags.cpu": "two cores of something", "params.cpu_threads": "1",
                    }
                )  # fmt: skip
                if curves and not tune:
                    steps = np.arange(1, 9) * 40
                    path = value - (value - 0.1) * np.exp(-steps / (50 + 12 * a)) + rng.normal(0, 0.004, 8)
                    histories[f"m{ident}", metric] = [(int(s), float(v), 0) for s, v in zip(steps, path, strict=True)]
                    fine = np.arange(0, 320, 1)
                    loss = 2.3 * np.exp(-fine / (60 + 10 * a)) + 0.05 + rng.normal(0, 0.03, len(fine)) ** 2
                    histories[f"m{ident}", "train/loss"] = [(int(s), float(v), 0) for s, v in zip(fine, loss, strict=True)]
    return sweep_of(pd.DataFrame(rows), tree, histories=histories)


def sweep_of(
    frame: pd.DataFrame, tree: dict[str, Any], *, histories: dict[tuple[str, str], list[tuple[int, float, int]]] | None = None
) -> SweepResults:
    """What `tidy.load` makes of a store's frame."""
    from bakeoff.report.results import _scored, run_origins

    plan = read_design(parse_stored_plan(json.loads(json.dumps(tree))))
    scored = _scored(frame, plan)
    runs = runs_table(frame, plan, score_metric=scored)
    return SweepResults(plan, "summary", "sqlite:///mlflow.db", runs, curves_table(histories or {}, runs), scored, run_origins(frame))


@pytest.fixture(scope="session")
def simulated() -> Callable[..., SweepResults]:
    """`simulate`, for tests."""
    return simulate


@pytest.fixture(scope="session")
def plan_of() -> Callable[..., dict[str, Any]]:
    """`plan_tree`, for tests."""
    return plan_tree
