"""Who tries which point, and how each ended: Optuna studies by ask and tell, on a journal that several processes share.

One study for each stage and lane (an arm in a block, or one of its studies where tuning is replicated); the number of a trial is the
number of its point, so a point has one trial for good. A trial that runs carries its owner (host, process, start of that process), a
deadline, and a fencing token. When the owner is gone, the next worker adopts the result that the owner left in the run folder, or takes
over the same trial, with the same point, under a higher token; what a fenced owner tells later is not heard. Everything happens under
one file lock, so that a budget is kept to the trial.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bakeoff import seeds
from bakeoff.runs.run_dir import RunDir
from bakeoff.sweep import interim, leases, optuna_studies
from bakeoff.sweep.arm_progress import ArmProgress
from bakeoff.sweep.candidates import Point
from bakeoff.sweep.leases import Lock, Owner
from bakeoff.sweep.optuna_studies import JOURNAL, State, trials_of
from bakeoff.sweep.plan import Plan
from bakeoff.sweep.planned_arm import PlannedArm
from bakeoff.sweep.spec import MODELS
from bakeoff.sweep.trials import FINAL, STAGES, Stage, TrialLease, run_id, score

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

LOCK = "study.lock"


class TrialQueue:
    """The studies of one plan, in the sweep's folder, up to the look that is under way."""

    def __init__(self, plan: Plan, *, folder: Path) -> None:
        self.plan, self.folder = plan, folder
        self.seeds = interim.reached(plan, folder=folder)
        with self.alone():
            self.studies = optuna_studies.open_studies(plan, folder=folder)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the sweep's lock, on a journal that ends with a whole line."""
        lock = Lock(self.folder / LOCK)
        lock.acquire()
        try:
            leases.truncate_torn_line(self.folder / JOURNAL)
            yield
        finally:
            lock.release()

    def claim(self, owner: Owner) -> TrialLease | None:
        """The next point for `owner`: one whose owner is gone, else the next in turn; None where there is none at this moment."""
        with self.alone():
            for (stage, lane), found in self.studies.items():
                for trial in found.get_trials(deepcopy=False, states=(State.RUNNING,)):
                    if leases.alive(trial.user_attrs.get("owner"), trial.user_attrs.get("deadline")):
                        continue
                    if not self.adopt(stage, lane, trial):
                        return self.give(stage, lane, trial.number, owner)
            for stage in STAGES:
                turns = [(len(self.trials(stage, lane)), lane) for lane in range(len(self.plan.lanes)) if self.open(stage, lane)]
                if turns:
                    return self.give(stage, min(turns)[1], None, owner)
            return None

    def over(self) -> bool:
        """Whether every point has been decided."""
        with self.alone():
            return all(
                self.decided(stage, lane) or (stage == "confirm" and self.decided("tune", lane) and self.best(lane) is None)
                for stage, lane in self.studies
            )

    def renew(self, claim: TrialLease) -> bool:
        """Lengthen the lease; False where the claim has been given to another."""
        with self.alone():
            trial = self.held(claim)
            if trial is not None:
                self.mark(claim.stage, claim.lane(self.plan), trial, {"deadline": time.time() + leases.SECONDS})
            return trial is not None

    def put_back(self, claim: TrialLease, *, died: bool) -> bool:
        """Give the point up for the next worker; `died` counts that its process ended without a result."""
        with self.alone():
            trial = self.held(claim)
            if trial is not None:
                lost = {"owner": None, "deadline": 0.0, "deaths": claim.deaths + int(died)}
                self.mark(claim.stage, claim.lane(self.plan), trial, lost)
            return trial is not None

    def tell(self, claim: TrialLease, result: Mapping[str, Any]) -> bool:
        """Decide a point by its run's result; False, and nothing told, where the claim has been given to another."""
        with self.alone():
            trial = self.held(claim)
            if trial is not None:
                self.decide(claim.stage, claim.lane(self.plan), trial, result)
            return trial is not None

    def stops(self, claim: TrialLease, *, epoch: int, value: float, epochs: int) -> bool:
        """Tell what a tuning run has reached after an epoch; True where the plan's pruner stops it, by runs of the same lane alone."""
        prune = self.plan.spec.prune
        if prune is None or claim.stage != "tune":
            return False
        with self.alone():
            trial = self.held(claim)
            found = self.studies["tune", claim.lane(self.plan)]
            return trial is not None and optuna_studies.should_stop(found, trial, prune=prune, epoch=epoch, value=value, epochs=epochs)

    def standings(self) -> list[ArmProgress]:
        """One for each cell, in the plan's order."""
        with self.alone():
            return [self.standing(index, cell) for index, cell in enumerate(self.plan.cells)]

    # What follows is for the holder of the lock.

    def give(self, stage: Stage, lane: int, number: int | None, owner: Owner) -> TrialLease:
        """Mark a trial, a new one where `number` is None, as the owner's."""
        found, (index, replicate) = self.studies[stage, lane], self.plan.lanes[lane]
        cell, of = self.plan.cells[index], 0
        space = optuna_studies.distributions(cell) if stage == "tune" else {}
        fresh = number is None
        if number is None:
            waiting = found.get_trials(deepcopy=False, states=(State.WAITING,))
            number = waiting[0].number if waiting else len(self.trials(stage, lane))
        point = self.plan.slice_of(lane)[number] if stage == "tune" else {}
        name = self.plan.spec.budget.sampler if stage == "tune" and cell.spaces else "listed"
        seed = seeds.derive_seed(cell.run.seed, name, replicate, number) % 2**32 if name in MODELS else 0
        if fresh:
            trial = optuna_studies.ask(found, space, point=optuna_studies.parameters(cell, point), name=name, seed=seed)
            assert trial.number == number, (trial.number, number)
        else:
            trial = optuna_studies.again(found, number, space, name=name, seed=seed)
        before, token = trial.user_attrs, int(trial.user_attrs.get("token", 0)) + 1
        seed = cell.run.seed + replicate
        if stage == "tune":
            params = optuna_studies.values(cell, trial)
        elif stage == "audit":
            of = self.sample(lane)[number]
            params = optuna_studies.values(cell, self.trials("tune", lane)[of])
        else:
            params, seed = self.setting(lane), self.plan.seeds_of(lane, self.seeds)[number]
        own = run_id(self.plan, found.study_name, number)
        self.mark(stage, lane, self.trials(stage, lane)[number], {
            "point": number, "seed": seed, "run": own, "token": token, "deadline": time.time() + leases.SECONDS, "owner": vars(owner),
            **({"of": of} if stage == "audit" else {}),
        })  # fmt: skip
        return TrialLease(stage, index, number, params, seed, token, int(before.get("deaths", 0)), replicate, of)

    def cell(self, lane: int) -> PlannedArm:
        """The cell that a lane is of."""
        return self.plan.cells[self.plan.lanes[lane][0]]

    def setting(self, lane: int) -> Point:
        """The setting that a lane confirms: decided once, so that all its seeds confirm the same."""
        best, found = self.best(lane), self.studies["confirm", lane]
        assert best is not None
        chosen = found.user_attrs.get("setting") or {
            "point": best.number,
            "value": best.value,
            "params": optuna_studies.values(self.cell(lane), best),
        }
        found.set_user_attr("setting", chosen)
        return dict(chosen["params"])

    def sample(self, lane: int) -> list[int]:
        """The pruned trials of a lane that are audited: drawn from all of them once tuning is over, whenever they were pruned."""
        prune, (index, replicate) = self.plan.spec.prune, self.plan.lanes[lane]
        if prune is None or not self.decided("tune", lane):
            return []
        stopped = [trial.number for trial in self.trials("tune", lane) if trial.state == State.PRUNED]
        return sorted(stopped, key=lambda number: seeds.derive_seed(self.plan.cells[index].run.seed, "audit", replicate, number))[
            : prune.audit
        ]

    def adopt(self, stage: Stage, lane: int, trial: FrozenTrial) -> bool:
        """Decide a trial by the result that its owner wrote and did not live to tell."""
        own = run_id(self.plan, self.studies[stage, lane].study_name, trial.number)
        for path in self.folder.glob(f"[!.]*-{own}"):
            result = RunDir(path).read_result()
            if result is not None and result["status"] in FINAL:
                self.decide(stage, lane, trial, result)
                return True
        return False

    def decide(self, stage: Stage, lane: int, trial: FrozenTrial, result: Mapping[str, Any]) -> None:
        """Attributes first: whoever dies between them and the end leaves a trial that is adopted again."""
        status, reason = str(result["status"]), str(result.get("reason") or "")
        value = score(result, metric=self.plan.spec.metric.name)
        if value is None and status == "finished":
            status, reason = "failed", f"{self.plan.spec.metric.name} is not among the run's metrics"
        elif status == "finished" and value != float(result["metrics"][self.plan.spec.metric.name]):
            status, reason = "diverged", f"{self.plan.spec.metric.name} is {result['metrics'][self.plan.spec.metric.name]}"
        self.mark(stage, lane, trial, {"status": status, "reason": reason, "seconds": float(result.get("seconds") or 0.0)})
        found = self.studies[stage, lane]
        if value is not None:
            found.tell(trial.number, value)
        else:
            found.tell(trial.number, state=State.PRUNED if status == "pruned" else State.FAIL)

    def held(self, claim: TrialLease) -> FrozenTrial | None:
        """The claim's trial, where it still is the claim's."""
        trial = self.trials(claim.stage, claim.lane(self.plan))[claim.point]
        mine = trial.state == State.RUNNING and trial.user_attrs.get("token") == claim.token
        return trial if mine else None

    def mark(self, stage: Stage, lane: int, trial: FrozenTrial, attributes: dict[str, Any]) -> None:
        """Set a trial's user attributes."""
        optuna_studies.mark(self.studies[stage, lane], trial, attributes)

    def trials(self, stage: Stage, lane: int) -> list[FrozenTrial]:
        """The trials of a study by number; a plan without a pruner has no audits."""
        return trials_of(self.studies[stage, lane]) if (stage, lane) in self.studies else []

    def planned(self, stage: Stage, lane: int) -> int:
        """How many trials a study is to have; audits are known once tuning is over."""
        if stage == "audit":
            return len(self.sample(lane))
        return len(self.plan.slice_of(lane)) if stage == "tune" else len(self.plan.seeds_of(lane, self.seeds))

    def open(self, stage: Stage, lane: int) -> bool:
        """Whether a study has a point to give: for confirming, once tuning is decided and some setting has trained."""
        trials = self.trials(stage, lane)
        room = len(trials) < self.planned(stage, lane) or any(t.state == State.WAITING for t in trials)
        return room and (stage != "confirm" or (self.decided("tune", lane) and self.best(lane) is not None))

    def decided(self, stage: Stage, lane: int) -> bool:
        """Whether every point of a study has been told."""
        if stage == "audit" and not self.decided("tune", lane):
            return False
        trials = self.trials(stage, lane)
        return len(trials) == self.planned(stage, lane) and all(trial.state.is_finished() for trial in trials)

    def best(self, lane: int) -> FrozenTrial | None:
        """The best tuning trial that trained to its end, the earlier one of equals."""
        done = [t for t in self.trials("tune", lane) if t.state == State.COMPLETE and t.user_attrs.get("status") == "finished"]
        return min(done, key=lambda trial: (self.sign * (trial.value or 0.0), trial.number), default=None)

    @property
    def sign(self) -> int:
        """What makes the better value the smaller one."""
        return -1 if self.plan.spec.metric.goal == "maximize" else 1

    def standing(self, index: int, cell: PlannedArm) -> ArmProgress:
        """The counts of one cell, over its studies."""
        lanes = [lane for lane, (at, _) in enumerate(self.plan.lanes) if at == index]
        tune, confirm, audit = ([trial for lane in lanes for trial in self.trials(stage, lane)] for stage in STAGES)
        found = ArmProgress(cell.arm, cell.block, planned=sum(self.planned("tune", lane) for lane in lanes), seeds=0)
        bests = {lane: self.best(lane) for lane in lanes}
        for lane, best in bests.items():
            if best is not None or not self.decided("tune", lane):
                found.seeds += self.planned("confirm", lane)
            if best is not None:
                found.settings.append(optuna_studies.values(cell, best))
                found.wrong += sum(self.wrong(trial, best) for trial in self.trials("audit", lane))
        top = min((best for best in bests.values() if best is not None), key=lambda t: self.sign * (t.value or 0.0), default=None)
        if top is not None:
            found.best, found.setting = top.value, optuna_studies.values(cell, top)
        found.done, found.failed, found.diverged = counts(tune)
        found.confirmed, found.confirm_failed, found.confirm_diverged = counts(confirm)
        found.audits, found.audited = sum(self.planned("audit", lane) for lane in lanes), counts(audit)[0]
        found.pruned = sum(trial.state == State.PRUNED for trial in tune)
        ran = [*tune, *confirm, *audit]
        found.reasons = [
            str(t.user_attrs["reason"]) for t in ran if t.user_attrs.get("reason") and t.state.is_finished() and t.state != State.PRUNED
        ]
        found.running = sum(trial.state == State.RUNNING for trial in ran)
        found.scores = [trial.value for trial in confirm if trial.value is not None]
        found.seconds = [float(trial.user_attrs["seconds"]) for trial in ran if "seconds" in trial.user_attrs]
        return found

    def wrong(self, audit: FrozenTrial, best: FrozenTrial) -> bool:
        """Whether a pruned trial, run to its end, turned out better than the setting that was chosen without it."""
        trained = audit.state == State.COMPLETE and audit.user_attrs.get("status") == "finished"
        return trained and self.sign * (audit.value or 0.0) < self.sign * (best.value or 0.0)


def counts(trials: list[FrozenTrial]) -> tuple[int, int, int]:
    """(decided, failed, diverged)."""
    decided = [trial for trial in trials if trial.state.is_finished()]
    statuses = [trial.user_attrs.get("status") for trial in decided]
    return len(decided), statuses.count("failed"), statuses.count("diverged")
