"""One point of a plan as a job, and the run folder that it trains in: the same folder however often the point is put back."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bakeoff.composition import frozen_text
from bakeoff.recipe import Run
from bakeoff.sweep.plan import Cell, Plan
from bakeoff.sweep.points import Point
from bakeoff.tracking.folders import ID_LENGTH, Job, RunFolder

Stage = Literal["tune", "confirm"]
STAGES: tuple[Stage, ...] = ("tune", "confirm")
FINAL = ("finished", "diverged", "failed")
"""Statuses of a result that decide a point; a killed run is taken up again."""


@dataclass(frozen=True)
class Claim:
    """A point that one worker has, and nobody else: `token` counts how often the point was given out."""

    stage: Stage
    cell: int
    point: int
    params: Point
    seed: int
    token: int
    deaths: int

    @property
    def place(self) -> tuple[str, int]:
        """The study's name and the trial's number."""
        return f"{self.stage}/{self.cell}", self.point


def study_of(stage: Stage, cell: Cell) -> str:
    """The name of the Optuna study of one arm, block and stage."""
    return f"{stage}/{cell.arm}/{cell.block}"


def run_id(plan: Plan, study: str, point: int) -> str:
    """12 hex digits that depend on the plan's hash, the study and the point alone."""
    return hashlib.sha256(f"{plan.hash}/{study}/{point}".encode()).hexdigest()[:ID_LENGTH]


def run_of(plan: Plan, claim: Claim, *, threads: int) -> Run:
    """The run of a claim: the cell's own, at the point, with the claim's seed, and the test set for confirming runs alone."""
    cell = plan.cells[claim.cell]
    changes: dict[str, Any] = {
        **claim.params,
        "seed": claim.seed,
        "name": name_of(cell, claim),
        "tracking.experiment": plan.title,
        "trainer.progress": False,
        "trainer.threads": cell.run.trainer.threads or threads,
    }
    if claim.stage == "confirm":
        # Fresh seeds confirm on fresh splits too: a setting tuned to one split is found out.
        changes |= {"test": True, "data.split_seed": claim.seed}
    return cell.run.replace(**changes)


def name_of(cell: Cell, claim: Claim) -> str:
    """A name that a person can read: `adam-vgg11-p03`, `adam-vgg11-s1001`."""
    return f"{cell.title}-p{claim.point:02d}" if claim.stage == "tune" else f"{cell.title}-s{claim.seed}"


def folder_of(plan: Plan, claim: Claim, *, root: Path, threads: int, uri: str) -> RunFolder:
    """The claim's run folder, made where it is not there yet. `FolderError` where it cannot be."""
    cell = plan.cells[claim.cell]
    own = run_id(plan, study_of(claim.stage, cell), claim.point)
    for there in (root / plan.title).glob(f"[!.]*-{own}"):
        return RunFolder(there)
    run = run_of(plan, claim, threads=threads)
    tags = {
        "sweep": plan.name,
        "sweep.hash": plan.hash,
        "arm": cell.arm,
        "block": cell.block,
        "stage": claim.stage,
        "seed": str(claim.seed),
    }
    if claim.stage == "tune":
        tags["point"] = str(claim.point)
    job = Job(
        id=own,
        name=run.title,
        experiment=plan.title,
        kind="trial" if claim.stage == "tune" else "confirm",
        tags=tags,
        # One trained net an arm and block is kept in the store; the weights of all confirming runs are in their folders.
        export_model=claim.stage == "confirm" and claim.point == 0,
        tracking_uri=uri,
    )
    return RunFolder.create(root, config_text=frozen_text(run), job=job)


def score(result: Mapping[str, Any], *, metric: str) -> float | None:
    """What Optuna is told: the last value of the metric, the worst there is for a diverged run, None for a failed one.

    The worst accuracy is 0 and the worst loss is infinite. A run that finished with a metric that is not finite has diverged.
    """
    worst = 0.0 if metric.endswith("accuracy") else math.inf
    if result["status"] == "diverged":
        return worst
    if result["status"] != "finished" or metric not in result["metrics"]:
        return None
    value = float(result["metrics"][metric])
    return value if math.isfinite(value) else worst
