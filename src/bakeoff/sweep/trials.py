"""One point of a plan as a job, and the run folder that it trains in: the same folder however often the point is requeued."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bakeoff import seeds
from bakeoff.config.compose import dump_frozen
from bakeoff.config.schema import RunConfig
from bakeoff.run_files.atomic import write_atomic
from bakeoff.run_files.journal import read_journal
from bakeoff.run_files.run_dir import ID_LENGTH, RunDir, RunKind, RunManifest
from bakeoff.sweep.candidates import Point
from bakeoff.sweep.plan import Plan

Stage = Literal["tune", "confirm", "audit"]
STAGES: tuple[Stage, ...] = ("tune", "confirm", "audit")
"""Audits run pruned trials to their end: they are only counted, and choose nothing."""
FINAL = ("finished", "diverged", "failed", "pruned")
"""Statuses of a result that decide a point; a killed run is resumed."""
FAULTS = 3
"""How often the machine may stop a point's process before the point waits for the next command."""
KINDS: dict[Stage, RunKind] = {"tune": "trial", "confirm": "confirm", "audit": "audit"}


@dataclass(frozen=True)
class TrialLease:
    """A point that one worker has, and nobody else: `token` counts how often the point was given out.

    `point` is the trial's number in the study of this stage, planned arm and `study`; an audit is of the tuning trial `of`. `deaths` counts
    crashes of its process, `faults` the times that the machine stopped it, `hangs` those that it made
    no step for too long.
    """

    stage: Stage
    arm_index: int
    point: int
    params: Point
    seed: int
    token: int
    deaths: int
    study: int = 0
    of: int = 0
    faults: int = 0
    hangs: int = 0

    def study_index(self, plan: Plan) -> int:
        """The place of its planned arm and study among the plan's tuning studies."""
        return self.study * len(plan.planned_arms) + self.arm_index


def study_of(plan: Plan, stage: Stage, arm_index: int, study: int) -> str:
    """The name of the Optuna study of one arm, block, stage and study."""
    planned_arm = plan.planned_arms[arm_index]
    return f"{stage}/{planned_arm.arm}/{planned_arm.block}" + (f"/{study}" if study else "")


def run_id(plan: Plan, study: str, point: int) -> str:
    """12 hex digits that depend on the plan's hash, the study and the point alone."""
    return hashlib.sha256(f"{plan.hash}/{study}/{point}".encode()).hexdigest()[:ID_LENGTH]


def run_of(plan: Plan, lease: TrialLease, *, threads: int) -> RunConfig:
    """The run of a lease: its arm's run at the point, with the lease's seed, and with the test set for confirming runs alone.

    Each study but the first tunes on a split of its own, or on the next fold. Confirming seeds vary the split as well: a setting tuned to
    one split is found out. With `data.folds`, each round of as many seeds is one cross-validation: one split, every fold of it once.
    """
    planned_arm = plan.planned_arms[lease.arm_index]
    changes: dict[str, Any] = {
        **lease.params,
        "seed": lease.seed,
        "name": name_of(plan, lease),
        "tracking.experiment": plan.title,
        "trainer.progress": False,
        "trainer.threads": planned_arm.run.trainer.threads or threads,
    }
    data = planned_arm.run.data
    if lease.stage == "confirm":
        pool: Sequence[int] = plan.spec.confirm.pool
        if lease.seed not in pool:  # of a study beyond the plan's
            pool = range(max(pool) + 1, lease.seed + 1)
        at = pool.index(lease.seed)
        split = (
            {"data.split_seed": lease.seed}
            if data.folds is None
            else {"data.split_seed": pool[at - at % data.folds], "data.fold": at % data.folds}
        )
        changes |= {"test": True, **split}
    elif lease.study and data.folds is None:
        changes["data.split_seed"] = seeds.derive_seed(data.split_seed, "study", lease.study)
    elif lease.study and data.folds is not None:
        changes["data.fold"] = (data.fold + lease.study) % data.folds
    return planned_arm.run.replace(**changes)


def point_of(plan: Plan, lease: TrialLease) -> int:
    """The number of a tuned or audited point among all points of its planned arm."""
    before = lease.study * plan.trials_a_study(lease.arm_index)
    return before + (lease.of if lease.stage == "audit" else lease.point)


def name_of(plan: Plan, lease: TrialLease) -> str:
    """A name that a person can read: `adam-vgg11-p03`, `adam-vgg11-s1001`, `adam-vgg11-p03-audit`."""
    title = plan.planned_arms[lease.arm_index].title
    if lease.stage == "confirm":
        return f"{title}-s{lease.seed}"
    return f"{title}-p{point_of(plan, lease):02d}" + ("-audit" if lease.stage == "audit" else "")


def folder_of(plan: Plan, lease: TrialLease, *, root: Path, threads: int, uri: str) -> RunDir:
    """The lease's run folder, made where it does not exist yet. `FolderError` where it cannot be made."""
    own = run_id(plan, study_of(plan, lease.stage, lease.arm_index, lease.study), lease.point)
    for path in (root / plan.title).glob(f"[!.]*-{own}"):
        return RunDir(path)
    return RunDir.create(root, config_text=config_text(plan, lease, threads=threads), job=manifest_of(plan, lease, uri=uri))


def config_text(plan: Plan, lease: TrialLease, *, threads: int) -> str:
    """The text of config.yaml of a lease's run."""
    return dump_frozen(run_of(plan, lease, threads=threads))


def manifest_of(plan: Plan, lease: TrialLease, *, uri: str) -> RunManifest:
    """The manifest of a lease's run."""
    planned_arm = plan.planned_arms[lease.arm_index]
    tags = {
        "sweep": plan.name,
        "sweep.hash": plan.hash,
        "arm": planned_arm.arm,
        "block": planned_arm.block,
        "stage": lease.stage,
        "seed": str(lease.seed),
        "study": str(lease.study),
    }
    if lease.stage != "confirm":
        tags["point"] = str(point_of(plan, lease))
    return RunManifest(
        id=run_id(plan, study_of(plan, lease.stage, lease.arm_index, lease.study), lease.point),
        name=name_of(plan, lease),
        experiment=plan.title,
        kind=KINDS[lease.stage],
        tags=tags,
        # One trained net an arm and block is kept in the store; the weights of all confirming runs are in their folders.
        export_model=lease.stage == "confirm" and lease.point == lease.study == 0,
        tracking_uri=uri,
    )


def restore_files(folder: RunDir, plan: Plan, lease: TrialLease, *, threads: int, uri: str) -> list[str]:
    """Write config.yaml and job.json of an interrupted run again where they are gone; return their names.

    The plan says all that was in them but the number of threads, which the journal has.
    """
    params = {key: value for line in read_journal(folder.journal) if line["kind"] == "params" for key, value in line["values"].items()}
    logged_threads = int(params.get("cpu_threads", threads))
    texts = {folder.config: config_text(plan, lease, threads=logged_threads), folder.job: manifest_of(plan, lease, uri=uri).to_json()}
    missing = [path for path in texts if not path.exists()]
    for path in missing:
        write_atomic(path, texts[path])
    return [path.name for path in missing]


def drop_checkpoints(folder: RunDir) -> None:
    """Remove the checkpoints of a decided run, which nothing trains on from."""
    for path in folder.checkpoints.glob("*.ckpt"):
        path.unlink(missing_ok=True)


def score(result: Mapping[str, Any], *, metric: str) -> float | None:
    """The value that Optuna gets: the last value of the metric, the worst there is for a diverged run, None for a failed or a pruned one.

    The worst accuracy is 0 and the worst loss is infinite. A run that finished with a metric that is not finite has diverged.
    """
    worst = 0.0 if metric.endswith("accuracy") else math.inf
    if result["status"] == "diverged":
        return worst
    if result["status"] != "finished" or metric not in result["metrics"]:
        return None
    value = float(result["metrics"][metric])
    return value if math.isfinite(value) else worst
