"""The queue of a sweep's trials: Optuna studies by ask and tell, on a journal that several processes share.

One study for each stage and study (an arm in a block, or one of its studies where tuning is replicated); the number of a trial is the
number of its point, so a point has one trial for good. A trial that runs carries its owner (host, process, start of that process), a
deadline, and a fencing token. When the owner is gone, the next worker adopts the result that the owner left in the run folder, or takes
over the same trial, with the same point, under a higher token; a late result of the fenced owner is ignored. Everything happens under
one file lock, so that a budget is kept to the trial.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bakeoff import seeds
from bakeoff.errors import FolderError
from bakeoff.run_files.file_locks import hold_lock
from bakeoff.run_files.run_dir import RunDir
from bakeoff.sweep import interim, leases, optuna_studies
from bakeoff.sweep.arm_progress import ArmProgress
from bakeoff.sweep.candidates import Point
from bakeoff.sweep.leases import Owner
from bakeoff.sweep.optuna_studies import JOURNAL, State
from bakeoff.sweep.plan import Plan
from bakeoff.sweep.spec import MODELS
from bakeoff.sweep.study_states import StudyStates
from bakeoff.sweep.trials import FAULTS, FINAL, STAGES, Stage, TrialLease, drop_checkpoints, run_id, score

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

LOCK = "study.lock"


class TrialQueue(StudyStates):
    """The studies of one plan, in the sweep's folder, up to the current interim analysis."""

    def __init__(self, plan: Plan, *, folder: Path) -> None:
        """Open the studies of `plan` on the journal in `folder`, the sweep's own."""
        self.folder, self.journal = folder, optuna_studies.TrialJournal(folder)
        extent = interim.reached(plan, folder=folder)
        with self.alone():
            super().__init__(plan, self.journal, extent=extent)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the sweep's lock, on a journal that ends with a whole line, has been read, and is durable afterwards."""
        with hold_lock(self.folder / LOCK):
            leases.truncate_torn_line(self.folder / JOURNAL)
            try:
                for known in itertools.islice(getattr(self, "known", {}).values(), 1):
                    known.storage.get_study_user_attrs(known.id)
                yield
            except json.JSONDecodeError as error:
                damage = f"a line in its middle is damaged: {error.doc.strip()[:40]!r}"
                advice = "put a copy of the file back, or move the sweep's folder away to start anew"
                raise FolderError(f"{self.folder / JOURNAL}: {damage}; {advice}") from error
            finally:
                self.journal.sync()

    def lease(self, owner: Owner) -> TrialLease | None:
        """Lease the next point: one whose owner is gone, else the next in turn.

        Args:
            owner: The worker's process.

        Returns:
            The lease, or None where there is no point to give at this moment.
        """
        with self.alone():
            for stage, study_index in self.studies:
                for trial in self.unfinished(stage, study_index, State.RUNNING):
                    if is_waiting(trial) or leases.alive(trial.user_attrs.get("owner"), trial.user_attrs.get("deadline")):
                        continue
                    if not self.adopt(stage, study_index, trial):
                        return self.assign(stage, study_index, trial.number, owner)
            for stage in STAGES:
                turns = [
                    (len(self.trials(stage, study_index)), study_index)
                    for study_index in range(len(self.tuning_studies))
                    if self.open(stage, study_index)
                ]
                if turns:
                    return self.assign(stage, min(turns)[1], None, owner)
            return None

    def over(self) -> bool:
        """Whether every point has been decided."""
        with self.alone():
            return all(
                self.decided(stage, study_index)
                or (stage == "confirm" and self.decided("tune", study_index) and self.best(study_index) is None)
                for stage, study_index in self.studies
            )

    def renew(self, lease: TrialLease) -> bool:
        """Lengthen a lease.

        Args:
            lease: The caller's lease.

        Returns:
            Whether the caller still holds it.
        """
        with self.alone():
            trial = self.held(lease)
            if trial is not None:
                self.mark(lease.stage, lease.study_index(self.plan), trial, {"deadline": time.time() + leases.SECONDS})
            return trial is not None

    def waiting(self) -> list[str]:
        """Return why each point waits that the machine has stopped too often, where no other point is left to do."""
        with self.alone():
            running = [trial for key in self.studies for trial in self.unfinished(*key, State.RUNNING)]
            return [str(trial.user_attrs.get("stopped", "")) for trial in running] if all(map(is_waiting, running)) else []

    def retry_waiting(self) -> None:
        """Give the points that wait as many attempts as at first, for a new command."""
        with self.alone():
            for stage, study_index in self.studies:
                for trial in self.unfinished(stage, study_index, State.RUNNING):
                    if is_waiting(trial):
                        self.mark(stage, study_index, trial, {"faults": 0})

    def requeue(self, lease: TrialLease, *, reason: str = "", **counts: int) -> bool:
        """Give a point back for the next worker.

        Args:
            lease: The caller's lease.
            reason: Why its process ended without a result.
            counts: `deaths`, `faults` or `hangs`, where its process did.

        Returns:
            Whether the caller held the lease.
        """
        with self.alone():
            trial = self.held(lease)
            if trial is not None:
                lost = {"owner": None, "deadline": 0.0, **counts, **({"stopped": reason} if reason else {})}
                self.mark(lease.stage, lease.study_index(self.plan), trial, lost)
            return trial is not None

    def tell(self, lease: TrialLease, result: Mapping[str, Any]) -> bool:
        """Decide a point by its run's result.

        Args:
            lease: The caller's lease.
            result: The run's result file.

        Returns:
            Whether the caller held the lease; otherwise nothing is recorded.
        """
        with self.alone():
            trial = self.held(lease)
            if trial is not None:
                self.decide(lease.stage, lease.study_index(self.plan), trial, result)
            return trial is not None

    def should_prune(self, lease: TrialLease, *, epoch: int, value: float, epochs: int) -> bool:
        """Report what a tuning run has reached after an epoch, and return whether the pruner stops it.

        Args:
            lease: The caller's lease.
            epoch: The epoch that has ended, from 1.
            value: The sweep's metric after it.
            epochs: Epochs of the whole run.

        Returns:
            Whether to stop the run, decided by the runs of the same study alone.
        """
        prune = self.plan.spec.prune
        if prune is None or lease.stage != "tune":
            return False
        with self.alone():
            trial = self.held(lease)
            optuna_study = self.studies["tune", lease.study_index(self.plan)]
            return trial is not None and optuna_studies.should_stop(
                optuna_study, trial, prune=prune, epoch=epoch, value=value, epochs=epochs
            )

    def arms_progress(self) -> list[ArmProgress]:
        """One for each planned arm, in the plan's order."""
        with self.alone():
            return [self.arm_progress(index, planned_arm) for index, planned_arm in enumerate(self.plan.planned_arms)]

    # What follows is for the holder of the lock.

    def assign(self, stage: Stage, study_index: int, number: int | None, owner: Owner) -> TrialLease:
        """Mark a trial, a new one where `number` is None, as the owner's."""
        optuna_study, (index, replicate) = self.studies[stage, study_index], self.tuning_studies[study_index]
        planned_arm, audited = self.plan.planned_arms[index], 0
        space = optuna_studies.distributions(planned_arm) if stage == "tune" else {}
        fresh = number is None
        if number is None:
            waiting = self.unfinished(stage, study_index, State.WAITING)
            number = waiting[0].number if waiting else len(self.trials(stage, study_index))
        point = self.plan.slice_of(study_index)[number] if stage == "tune" else {}
        name = self.plan.spec.budget.sampler if stage == "tune" and planned_arm.spaces else "listed"
        seed = seeds.derive_seed(planned_arm.run.seed, name, replicate, number) % 2**32 if name in MODELS else 0
        if fresh:
            trial = optuna_studies.ask(optuna_study, space, point=optuna_studies.parameters(planned_arm, point), name=name, seed=seed)
            assert trial.number == number, (trial.number, number)
        else:
            trial = optuna_studies.again(optuna_study, number, space, name=name, seed=seed)
        before, token = trial.user_attrs, int(trial.user_attrs.get("token", 0)) + 1
        seed = planned_arm.run.seed + replicate
        if stage == "tune":
            params = optuna_studies.values(planned_arm, trial)
        elif stage == "audit":
            audited = self.sample(study_index)[number]
            params = optuna_studies.values(planned_arm, self.trials("tune", study_index)[audited])
        else:
            params, seed = self.setting(study_index), self.plan.seeds_of(study_index, self.extent.seeds)[number]
        own = run_id(self.plan, optuna_study.study_name, number)
        attributes = {
            "point": number,
            "seed": seed,
            "run": own,
            "token": token,
            "deadline": time.time() + leases.SECONDS,
            "owner": vars(owner),
            **({"of": audited} if stage == "audit" else {}),
        }
        self.mark(stage, study_index, self.trials(stage, study_index)[number], attributes)
        deaths, faults, hangs = (int(before.get(count, 0)) for count in ("deaths", "faults", "hangs"))
        return TrialLease(stage, index, number, params, seed, token, deaths, replicate, audited, faults, hangs)

    def setting(self, study_index: int) -> Point:
        """The setting that a study confirms: decided once, so that all its seeds confirm the same."""
        best, optuna_study = self.best(study_index), self.studies["confirm", study_index]
        assert best is not None
        chosen = optuna_study.user_attrs.get("setting") or {
            "point": best.number,
            "value": best.value,
            "params": optuna_studies.values(self.planned_arm_of(study_index), best),
        }
        optuna_study.set_user_attr("setting", chosen)
        return dict(chosen["params"])

    def adopt(self, stage: Stage, study_index: int, trial: FrozenTrial) -> bool:
        """Decide a trial by the result that its owner wrote before it died."""
        own = run_id(self.plan, self.studies[stage, study_index].study_name, trial.number)
        for path in self.folder.glob(f"[!.]*-{own}"):
            result = RunDir(path).read_result()
            if result is not None and result["status"] in FINAL:
                self.decide(stage, study_index, trial, result)
                if stage == "tune" and result["status"] != "failed":
                    drop_checkpoints(RunDir(path))
                return True
        return False

    def decide(self, stage: Stage, study_index: int, trial: FrozenTrial, result: Mapping[str, Any]) -> None:
        """Record a trial's end; attributes first, so that a process that dies in between leaves a trial that is adopted again."""
        status, reason = str(result["status"]), str(result.get("reason") or "")
        value = score(result, metric=self.plan.spec.metric.name)
        if value is None and status == "finished":
            status, reason = "failed", f"{self.plan.spec.metric.name} is not among the run's metrics"
        elif status == "finished" and value != float(result["metrics"][self.plan.spec.metric.name]):
            status, reason = "diverged", f"{self.plan.spec.metric.name} is {result['metrics'][self.plan.spec.metric.name]}"
        self.mark(stage, study_index, trial, {"status": status, "reason": reason, "seconds": float(result.get("seconds") or 0.0)})
        optuna_study = self.studies[stage, study_index]
        if value is not None:
            optuna_study.tell(trial.number, value)
        else:
            optuna_study.tell(trial.number, state=State.PRUNED if status == "pruned" else State.FAIL)

    def held(self, lease: TrialLease) -> FrozenTrial | None:
        """The trial of a lease, or None where the lease has passed to another worker."""
        trial = self.trials(lease.stage, lease.study_index(self.plan))[lease.point]
        valid = trial.state == State.RUNNING and trial.user_attrs.get("token") == lease.token
        return trial if valid else None

    def mark(self, stage: Stage, study_index: int, trial: FrozenTrial, attributes: dict[str, Any]) -> None:
        """Set a trial's user attributes."""
        optuna_studies.mark(self.studies[stage, study_index], trial, attributes)


def is_waiting(trial: FrozenTrial) -> bool:
    """Return whether the machine has stopped a trial so often that it waits for the next command."""
    return int(trial.user_attrs.get("faults", 0)) >= FAULTS
