"""The queue of a sweep's trials: Optuna studies by ask and tell, on a journal that several processes share.

One study for each stage and study (an arm in a block, or one of its studies where tuning is replicated); the number of a trial is the
number of its point, so a point has one trial for good. A trial that runs carries its owner (host, process, start of that process), a
deadline, and a fencing token. When the owner is gone, the next worker adopts the result that the owner left in the run folder, or takes
over the same trial, with the same point, under a higher token; a late result of the fenced owner is ignored. Everything happens under
one file lock, so that a budget is kept to the trial.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bakeoff import seeds
from bakeoff.run_files.file_locks import hold_lock
from bakeoff.run_files.run_dir import RunDir
from bakeoff.sweep import interim, leases, optuna_studies
from bakeoff.sweep.arm_progress import ArmProgress
from bakeoff.sweep.candidates import Point
from bakeoff.sweep.leases import Owner
from bakeoff.sweep.optuna_studies import JOURNAL, State, trials_of
from bakeoff.sweep.plan import Plan
from bakeoff.sweep.planned_arm import PlannedArm
from bakeoff.sweep.spec import MODELS
from bakeoff.sweep.trials import FINAL, STAGES, Stage, TrialLease, run_id, score

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

LOCK = "study.lock"


class TrialQueue:
    """The studies of one plan, in the sweep's folder, up to the current interim analysis."""

    def __init__(self, plan: Plan, *, folder: Path) -> None:
        """Open the studies of `plan` on the journal in `folder`, the sweep's own."""
        self.plan, self.folder = plan, folder
        self.extent = interim.reached(plan, folder=folder)
        self.tuning_studies = plan.tuning_studies(self.extent.studies)
        with self.alone():
            self.studies = optuna_studies.open_studies(plan, folder=folder, studies=self.extent.studies)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the sweep's lock, on a journal that ends with a whole line."""
        with hold_lock(self.folder / LOCK):
            leases.truncate_torn_line(self.folder / JOURNAL)
            yield

    def lease(self, owner: Owner) -> TrialLease | None:
        """Lease the next point: one whose owner is gone, else the next in turn.

        Args:
            owner: The worker's process.

        Returns:
            The lease, or None where there is no point to give at this moment.
        """
        with self.alone():
            for (stage, study_index), optuna_study in self.studies.items():
                for trial in optuna_study.get_trials(deepcopy=False, states=(State.RUNNING,)):
                    if leases.alive(trial.user_attrs.get("owner"), trial.user_attrs.get("deadline")):
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

    def requeue(self, lease: TrialLease, *, died: bool) -> bool:
        """Give a point back for the next worker.

        Args:
            lease: The caller's lease.
            died: Whether the trial's process ended without a result, which is counted.

        Returns:
            Whether the caller held the lease.
        """
        with self.alone():
            trial = self.held(lease)
            if trial is not None:
                lost = {"owner": None, "deadline": 0.0, "deaths": lease.deaths + int(died)}
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
        planned_arm, of = self.plan.planned_arms[index], 0
        space = optuna_studies.distributions(planned_arm) if stage == "tune" else {}
        fresh = number is None
        if number is None:
            waiting = optuna_study.get_trials(deepcopy=False, states=(State.WAITING,))
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
            of = self.sample(study_index)[number]
            params = optuna_studies.values(planned_arm, self.trials("tune", study_index)[of])
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
            **({"of": of} if stage == "audit" else {}),
        }
        self.mark(stage, study_index, self.trials(stage, study_index)[number], attributes)
        return TrialLease(stage, index, number, params, seed, token, int(before.get("deaths", 0)), replicate, of)

    def planned_arm_of(self, study_index: int) -> PlannedArm:
        """The planned arm that a study is of."""
        return self.plan.planned_arms[self.tuning_studies[study_index][0]]

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

    def sample(self, study_index: int) -> list[int]:
        """The pruned trials of a study that are audited: drawn from all of them once tuning is over, whenever they were pruned."""
        prune, (index, replicate) = self.plan.spec.prune, self.tuning_studies[study_index]
        if prune is None or not self.decided("tune", study_index):
            return []
        stopped = [trial.number for trial in self.trials("tune", study_index) if trial.state == State.PRUNED]
        return sorted(stopped, key=lambda number: seeds.derive_seed(self.plan.planned_arms[index].run.seed, "audit", replicate, number))[
            : prune.audit
        ]

    def adopt(self, stage: Stage, study_index: int, trial: FrozenTrial) -> bool:
        """Decide a trial by the result that its owner wrote before it died."""
        own = run_id(self.plan, self.studies[stage, study_index].study_name, trial.number)
        for path in self.folder.glob(f"[!.]*-{own}"):
            result = RunDir(path).read_result()
            if result is not None and result["status"] in FINAL:
                self.decide(stage, study_index, trial, result)
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

    def trials(self, stage: Stage, study_index: int) -> list[FrozenTrial]:
        """The trials of a study by number; a plan without a pruner has no audits."""
        return trials_of(self.studies[stage, study_index]) if (stage, study_index) in self.studies else []

    def planned(self, stage: Stage, study_index: int) -> int:
        """How many trials a study is to have; audits are known once tuning is over."""
        if stage == "audit":
            return len(self.sample(study_index))
        if stage == "tune":
            return self.plan.trials_a_study(self.tuning_studies[study_index][0])
        return len(self.plan.seeds_of(study_index, self.extent.seeds))

    def open(self, stage: Stage, study_index: int) -> bool:
        """Whether a study has a point to give: for confirming, once tuning is decided and some setting has trained."""
        trials = self.trials(stage, study_index)
        room = len(trials) < self.planned(stage, study_index) or any(t.state == State.WAITING for t in trials)
        return room and (stage != "confirm" or (self.decided("tune", study_index) and self.best(study_index) is not None))

    def decided(self, stage: Stage, study_index: int) -> bool:
        """Whether every point of a study has been decided."""
        if stage == "audit" and not self.decided("tune", study_index):
            return False
        trials = self.trials(stage, study_index)
        return len(trials) == self.planned(stage, study_index) and all(trial.state.is_finished() for trial in trials)

    def best(self, study_index: int) -> FrozenTrial | None:
        """The best tuning trial that trained to its end, the earlier one of equals."""
        done = [t for t in self.trials("tune", study_index) if t.state == State.COMPLETE and t.user_attrs.get("status") == "finished"]
        return min(done, key=lambda trial: (self.sign * (trial.value or 0.0), trial.number), default=None)

    @property
    def sign(self) -> int:
        """What makes the better value the smaller one."""
        return -1 if self.plan.spec.metric.goal == "maximize" else 1

    def arm_progress(self, index: int, planned_arm: PlannedArm) -> ArmProgress:
        """The counts of one planned arm, over its studies."""
        tuning_studies = [study_index for study_index, (at, _) in enumerate(self.tuning_studies) if at == index]
        tune, confirm, audit = ([trial for study_index in tuning_studies for trial in self.trials(stage, study_index)] for stage in STAGES)
        progress = ArmProgress(
            planned_arm.arm, planned_arm.block, planned=sum(self.planned("tune", study_index) for study_index in tuning_studies), seeds=0
        )
        bests = {study_index: self.best(study_index) for study_index in tuning_studies}
        for study_index, best in bests.items():
            if best is not None or not self.decided("tune", study_index):
                progress.seeds += self.planned("confirm", study_index)
            if best is not None:
                progress.settings.append(optuna_studies.values(planned_arm, best))
                progress.wrong += sum(self.wrong(trial, best) for trial in self.trials("audit", study_index))
        top = min((best for best in bests.values() if best is not None), key=lambda t: self.sign * (t.value or 0.0), default=None)
        if top is not None:
            progress.best, progress.setting = top.value, optuna_studies.values(planned_arm, top)
        progress.done, progress.failed, progress.diverged = counts(tune)
        progress.confirmed, progress.confirm_failed, progress.confirm_diverged = counts(confirm)
        progress.audits, progress.audited = sum(self.planned("audit", study_index) for study_index in tuning_studies), counts(audit)[0]
        progress.pruned = sum(trial.state == State.PRUNED for trial in tune)
        ran = [*tune, *confirm, *audit]
        progress.reasons = [
            str(t.user_attrs["reason"]) for t in ran if t.user_attrs.get("reason") and t.state.is_finished() and t.state != State.PRUNED
        ]
        progress.running = sum(trial.state == State.RUNNING for trial in ran)
        progress.scores = [trial.value for trial in confirm if trial.value is not None]
        progress.seconds = [float(trial.user_attrs["seconds"]) for trial in ran if "seconds" in trial.user_attrs]
        return progress

    def wrong(self, audit: FrozenTrial, best: FrozenTrial) -> bool:
        """Whether a pruned trial, run to its end, turned out better than the setting that was chosen without it."""
        trained = audit.state == State.COMPLETE and audit.user_attrs.get("status") == "finished"
        return trained and self.sign * (audit.value or 0.0) < self.sign * (best.value or 0.0)


def counts(trials: list[FrozenTrial]) -> tuple[int, int, int]:
    """(decided, failed, diverged)."""
    decided = [trial for trial in trials if trial.state.is_finished()]
    statuses = [trial.user_attrs.get("status") for trial in decided]
    return len(decided), statuses.count("failed"), statuses.count("diverged")
