"""Diagnoses of runs, from their tags in the store to the table of runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from bakeoff.report.design import read_design
from bakeoff.report.results import SweepResults, runs_table
from bakeoff.run_files.stored_plan import parse_stored_plan


def test_diagnoses_come_from_the_tags(simulated: Callable[..., SweepResults], plan_of: Callable[..., dict[str, Any]]) -> None:
    sweep = simulated({"sgd": 0.0, "adam": 0.01}, rng=np.random.default_rng(0), trials=3, seeds=2)
    assert set(sweep.runs["diagnoses"]) == {""}
    frame = pd.DataFrame(
        [
            {
                "id": f"{i:012x}", "mlflow_id": f"m{i}", "name": f"run {i}", "status": "FINISHED", "tags.kind": "trial", "tags.arm": arm,
                "tags.block": "all", "tags.seed": "0", "tags.point": str(i), "metrics.val/accuracy": 0.5, **tags,
            }
            for i, (arm, tags) in enumerate(
                [
                    ("sgd", {"tags.diagnosis.dead_relus": "83 % of ...", "tags.diagnosis.overfitting": "val/loss rose ..."}),
                    ("sgd", {}),
                    ("adam", {"tags.diagnosis.overfitting": "val/loss rose ..."}),
                ]
            )
        ]
    )  # fmt: skip
    runs = runs_table(frame, read_design(parse_stored_plan(plan_of(["sgd", "adam"]))), score_metric="val/accuracy")
    assert list(runs["diagnoses"]) == ["dead_relus overfitting", "", "overfitting"]
