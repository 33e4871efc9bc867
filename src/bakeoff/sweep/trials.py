"""One point of a plan as a job, and the run folder that it trains in: the same folder however often the point is put back."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bakeoff.config.compose import dump_frozen
from bakeoff.config.schema import RunConfig
from bakeoff.runs.run_dir import ID_LENGTH, RunDir, RunKind, RunManifest
from bakeoff.sweep.candidates import Point
from bakeoff.sweep.plan import Plan

Stage = Literal["tune", "confirm", "audit"]
STAGES: tuple[Stage, ...] = ("tune", "confirm", "audit")
"""Audits run pruned trials to their end: they are looked at, and choose nothing."""
FINAL = ("finished", "diverged", "failed", "pruned")
"""Statuses of a result that decide a point; a killed run is taken up again."""
KINDS: dict[Stage, RunKind] = {"tune": "trial", "confirm": "confirm", "audit": "audit"}


@dataclass(frozen=True)
class TrialLease:
    """A point that one worker has, and nobody else: `token` counts how often the point was given out.

    `point` is the trial's number in the study of this stage, cell and `study`; an audit is of the tuning trial `of`.
    """

    stage: Stage
    cell: int
    point: int
    params: Point
    seed: int
    token: int
    deaths: int
    study: int = 0
    of: int = 0

    def lane(self, plan: Plan) -> int:
        """The number of its cell and study among the plan's lanes."""
        return plan.lanes.index((self.cell, self.study))


def study_of(plan: Plan, stage: Stage, lane: int) -> str:
    """The name of the Optuna study of one arm, block, stage and study."""
    index, study = plan.lanes[lane]
    cell = plan.cells[index]
    return f"{stage}/{cell.arm}/{cell.block}" + (f"/{study}" if study else "")


def run_id(plan: Plan, study: str, point: int) -> str:
    """12 hex digits that depend on the plan's hash, the study and the point alone."""
    return hashlib.sha256(f"{plan.hash}/{study}/{point}".encode()).hexdigest()[:ID_LENGTH]


def run_of(plan: Plan, claim: TrialLease, *, threads: int) -> RunConfig:
    """The run of a claim: the cell's own, at the point, with the claim's seed, and the test set for confirming runs alone.

    Confirming seeds vary the split as well: a setting tuned to one split is found out. With `data.folds`, each round of as many seeds is
    one cross-validation: one split, every fold of it once.
    """
    cell = plan.cells[claim.cell]
    changes: dict[str, Any] = {
        **claim.params,
        "seed": claim.seed,
        "name": name_of(plan, claim),
        "tracking.experiment": plan.title,
        "trainer.progress": False,
        "trainer.threads": cell.run.trainer.threads or threads,
    }
    if claim.stage == "confirm":
        pool, folds = plan.spec.confirm.pool, cell.run.data.folds
        at = pool.index(claim.seed)
        split = {"data.split_seed": claim.seed} if folds is None else {"data.split_seed": pool[at - at % folds], "data.fold": at % folds}
        changes |= {"test": True, **split}
    return cell.run.replace(**changes)


def point_of(plan: Plan, claim: TrialLease) -> int:
    """The number of a tuned or audited point among all points of its cell."""
    before = claim.study * len(plan.slice_of(claim.lane(plan)))
    return before + (claim.of if claim.stage == "audit" else claim.point)


def name_of(plan: Plan, claim: TrialLease) -> str:
    """A name that a person can read: `adam-vgg11-p03`, `adam-vgg11-s1001`, `adam-vgg11-p03-audit`."""
    title = plan.cells[claim.cell].title
    if claim.stage == "confirm":
        return f"{title}-s{claim.seed}"
    return f"{title}-p{point_of(plan, claim):02d}" + ("-audit" if claim.stage == "audit" else "")


def folder_of(plan: Plan, claim: TrialLease, *, root: Path, threads: int, uri: str) -> RunDir:
    """The claim's run folder, made where it is not there yet. `FolderError` where it cannot be."""
    cell = plan.cells[claim.cell]
    own = run_id(plan, study_of(plan, claim.stage, claim.lane(plan)), claim.point)
    for there in (root / plan.title).glob(f"[!.]*-{own}"):
        return RunDir(there)
    run = run_of(plan, claim, threads=threads)
    tags = {
        "sweep": plan.name,
        "sweep.hash": plan.hash,
        "arm": cell.arm,
        "block": cell.block,
        "stage": claim.stage,
        "seed": str(claim.seed),
        "study": str(claim.study),
    }
    if claim.stage != "confirm":
        tags["point"] = str(point_of(plan, claim))
    job = RunManifest(
        id=own,
        name=run.title,
        experiment=plan.title,
        kind=KINDS[claim.stage],
        tags=tags,
        # One trained net an arm and block is kept in the store; the weights of all confirming runs are in their folders.
        export_model=claim.stage == "confirm" and claim.point == claim.study == 0,
        tracking_uri=uri,
    )
    return RunDir.create(root, config_text=dump_frozen(run), job=job)


def score(result: Mapping[str, Any], *, metric: str) -> float | None:
    """What Optuna is told: the last value of the metric, the worst there is for a diverged run, None for a failed or a pruned one.

    The worst accuracy is 0 and the worst loss is infinite. A run that finished with a metric that is not finite has diverged.
    """
    worst = 0.0 if metric.endswith("accuracy") else math.inf
    if result["status"] == "diverged":
        return worst
    if result["status"] != "finished" or metric not in result["metrics"]:
        return None
    value = float(result["metrics"][metric])
    return value if math.isfinite(value) else worst
