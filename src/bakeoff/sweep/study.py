"""Who tries which point, and how each ended: Optuna studies by ask and tell, on a journal that several processes share.

One study for each arm, block and stage; the number of a trial is the number of its point, so a point has one trial for good. A trial
that runs carries its owner (host, process, start of that process), a deadline, and a fencing token. When the owner is gone, the next
worker adopts the result that the owner left in the run folder, or takes over the same trial, with the same point, under a higher
token; what a fenced owner tells later is not heard. Everything happens under one file lock, so that a budget is kept to the trial.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from bakeoff import seeds
from bakeoff.sweep import lease
from bakeoff.sweep.jobs import FINAL, STAGES, Claim, Stage, run_id, score, study_of
from bakeoff.sweep.lease import Lock, Owner
from bakeoff.sweep.plan import Cell, Plan
from bakeoff.sweep.standing import Standing
from bakeoff.tracking.folders import RunFolder

JOURNAL, LOCK = "study.journal", "study.lock"


class Board:
    """The studies of one plan, in the sweep's folder."""

    def __init__(self, plan: Plan, *, folder: Path) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.plan, self.folder = plan, folder
        with self.alone():
            # Optuna asks for a class of its own, but for no more of it than these two methods.
            inner: Any = Lock(folder / f"{JOURNAL}.lock")
            backend = JournalFileBackend(str(folder / JOURNAL), lock_obj=inner)
            storage = JournalStorage(backend)
            goal = optuna.study.StudyDirection[plan.sheet.goal.upper()]
            sampler = optuna.samplers.RandomSampler(seed=0)
            self.studies = {
                (stage, index): optuna.create_study(
                    study_name=study_of(stage, cell), storage=storage, direction=goal, sampler=sampler, load_if_exists=True
                )
                for stage in STAGES
                for index, cell in enumerate(plan.cells)
            }

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the sweep's lock, on a journal that ends with a whole line."""
        lock = Lock(self.folder / LOCK)
        lock.acquire()
        try:
            lease.mend(self.folder / JOURNAL)
            yield
        finally:
            lock.release()

    def claim(self, owner: Owner) -> Claim | None:
        """The next point for `owner`: one whose owner is gone, else the next in turn; None where there is none at this moment."""
        with self.alone():
            for (stage, index), study in self.studies.items():
                for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                    if lease.alive(trial.user_attrs.get("owner"), trial.user_attrs.get("deadline")):
                        continue
                    if not self.adopt(stage, index, trial):
                        return self.give(stage, index, trial.number, owner)
            for stage in STAGES:
                turns = [(len(self.trials(stage, index)), index) for index in range(len(self.plan.cells)) if self.open(stage, index)]
                if turns:
                    return self.give(stage, min(turns)[1], None, owner)
            return None

    def over(self) -> bool:
        """Whether every point has been decided."""
        with self.alone():
            return all(
                self.decided(stage, index) or (stage == "confirm" and self.decided("tune", index) and self.best(index) is None)
                for stage, index in self.studies
            )

    def renew(self, claim: Claim) -> bool:
        """Lengthen the lease; False where the claim has been given to another."""
        with self.alone():
            trial = self.held(claim)
            if trial is not None:
                self.mark(claim.stage, claim.cell, trial, {"deadline": time.time() + lease.SECONDS})
            return trial is not None

    def put_back(self, claim: Claim, *, died: bool) -> bool:
        """Give the point up for the next worker; `died` counts that its process ended without a result."""
        with self.alone():
            trial = self.held(claim)
            if trial is not None:
                self.mark(claim.stage, claim.cell, trial, {"owner": None, "deadline": 0.0, "deaths": claim.deaths + int(died)})
            return trial is not None

    def tell(self, claim: Claim, result: Mapping[str, Any]) -> bool:
        """Decide a point by its run's result; False, and nothing told, where the claim has been given to another."""
        with self.alone():
            trial = self.held(claim)
            if trial is not None:
                self.decide(claim.stage, claim.cell, trial, result)
            return trial is not None

    def standings(self) -> list[Standing]:
        """One for each cell, in the plan's order."""
        with self.alone():
            return [self.standing(index, cell) for index, cell in enumerate(self.plan.cells)]

    # What follows is for the holder of the lock.

    def give(self, stage: Stage, index: int, number: int | None, owner: Owner) -> Claim:
        """Mark a trial, a new one where `number` is None, as the owner's."""
        study, cell = self.studies[stage, index], self.plan.cells[index]
        study.sampler = self.sampler(stage, index)
        space = distributions(cell) if stage == "tune" else {}
        if number is None:
            waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
            number = waiting[0].number if waiting else len(self.trials(stage, index))
            point = cell.points[number] if stage == "tune" else {}
            if point and not waiting:
                study.enqueue_trial(dict(point))
            trial = study.ask(space)
            assert trial.number == number, (trial.number, number)
        else:
            # The owner may have died between being given the trial and drawing its values: what is drawn already stays.
            trial = optuna.trial.Trial(study, self.trials(stage, index)[number]._trial_id)
            for name, limits in cell.spaces.items() if stage == "tune" else ():
                if limits.integer:
                    trial.suggest_int(name, int(limits.low), int(limits.high))
                else:
                    trial.suggest_float(name, limits.low, limits.high, log=limits.log)
        before = trial.user_attrs
        token = int(before.get("token", 0)) + 1
        if stage == "tune":
            params, seed = {key: trial.params[key] for key in cell.spaces}, cell.run.seed
        else:
            best = self.best(index)
            assert best is not None
            # Decided once, so that all seeds confirm one setting.
            chosen = study.user_attrs.get("setting") or {"point": best.number, "value": best.value, "params": dict(best.params)}
            study.set_user_attr("setting", chosen)
            params, seed = chosen["params"], self.plan.sheet.seeds[number]
        own = run_id(self.plan, study.study_name, number)
        self.mark(stage, index, self.trials(stage, index)[number], {
            "point": number, "seed": seed, "run": own, "token": token, "deadline": time.time() + lease.SECONDS, "owner": vars(owner),
        })  # fmt: skip
        return Claim(stage, index, number, params, seed, token, int(before.get("deaths", 0)))

    def adopt(self, stage: Stage, index: int, trial: FrozenTrial) -> bool:
        """Decide a trial by the result that its owner wrote and did not live to tell."""
        own = run_id(self.plan, self.studies[stage, index].study_name, trial.number)
        for path in self.folder.glob(f"[!.]*-{own}"):
            result = RunFolder(path).read_result()
            if result is not None and result["status"] in FINAL:
                self.decide(stage, index, trial, result)
                return True
        return False

    def decide(self, stage: Stage, index: int, trial: FrozenTrial, result: Mapping[str, Any]) -> None:
        """Attributes first: whoever dies between them and the end leaves a trial that is adopted again."""
        status, reason = str(result["status"]), str(result.get("reason") or "")
        value = score(result, metric=self.plan.sheet.metric)
        if value is None and status == "finished":
            status, reason = "failed", f"{self.plan.sheet.metric} is not among the run's metrics"
        elif status == "finished" and value != float(result["metrics"][self.plan.sheet.metric]):
            status, reason = "diverged", f"{self.plan.sheet.metric} is {result['metrics'][self.plan.sheet.metric]}"
        self.mark(stage, index, trial, {"status": status, "reason": reason, "seconds": float(result.get("seconds") or 0.0)})
        study = self.studies[stage, index]
        if value is None:
            study.tell(trial.number, state=TrialState.FAIL)
        else:
            study.tell(trial.number, value)

    def held(self, claim: Claim) -> FrozenTrial | None:
        """The claim's trial, where it still is the claim's."""
        trial = self.trials(claim.stage, claim.cell)[claim.point]
        mine = trial.state == TrialState.RUNNING and trial.user_attrs.get("token") == claim.token
        return trial if mine else None

    def mark(self, stage: Stage, index: int, trial: FrozenTrial, attributes: Mapping[str, Any]) -> None:
        """Set a trial's user attributes."""
        running = optuna.trial.Trial(self.studies[stage, index], trial._trial_id)
        for name, value in attributes.items():
            running.set_user_attr(name, value)

    def trials(self, stage: Stage, index: int) -> list[FrozenTrial]:
        """The trials of a study by number."""
        return self.studies[stage, index].get_trials(deepcopy=False)

    def planned(self, stage: Stage, index: int) -> int:
        """How many trials a study is to have."""
        return len(self.plan.cells[index].points) if stage == "tune" else len(self.plan.sheet.seeds)

    def open(self, stage: Stage, index: int) -> bool:
        """Whether a study has a point to give: for confirming, once tuning is decided and some setting has trained."""
        trials = self.trials(stage, index)
        room = len(trials) < self.planned(stage, index) or any(t.state == TrialState.WAITING for t in trials)
        return room and (stage == "tune" or (self.decided("tune", index) and self.best(index) is not None))

    def decided(self, stage: Stage, index: int) -> bool:
        """Whether every point of a study has been told."""
        trials = self.trials(stage, index)
        return len(trials) == self.planned(stage, index) and all(trial.state.is_finished() for trial in trials)

    def best(self, index: int) -> FrozenTrial | None:
        """The best tuning trial that trained to its end, the earlier one of equals."""
        done = [t for t in self.trials("tune", index) if t.state == TrialState.COMPLETE and t.user_attrs.get("status") == "finished"]
        sign = -1 if self.plan.sheet.goal == "maximize" else 1
        return min(done, key=lambda trial: (sign * (trial.value or 0.0), trial.number), default=None)

    def sampler(self, stage: Stage, index: int) -> optuna.samplers.BaseSampler:
        """What draws a point that is not in the plan's list; seeded by the number of trials, for each process starts afresh."""
        if stage == "confirm" or self.plan.sheet.sampler != "tpe":
            return optuna.samplers.RandomSampler(seed=0)
        seed = seeds.key(self.plan.cells[index].run.seed, "tpe", len(self.trials(stage, index))) % 2**32
        return optuna.samplers.TPESampler(seed=seed, constant_liar=True)

    def standing(self, index: int, cell: Cell) -> Standing:
        """The counts of one cell."""
        tune, confirm = self.trials("tune", index), self.trials("confirm", index)
        best = self.best(index)
        found = Standing(cell.arm, cell.block, planned=self.planned("tune", index), seeds=self.planned("confirm", index))
        if best is not None:
            found.best, found.setting = best.value, dict(best.params)
        elif self.decided("tune", index):
            found.seeds = 0
        found.done, found.failed, found.diverged = counts(tune)
        found.confirmed, found.confirm_failed, found.confirm_diverged = counts(confirm)
        found.reasons = [str(t.user_attrs["reason"]) for t in [*tune, *confirm] if t.user_attrs.get("reason") and t.state.is_finished()]
        found.running = sum(trial.state == TrialState.RUNNING for trial in [*tune, *confirm])
        found.scores = [trial.value for trial in confirm if trial.value is not None]
        found.seconds = [float(trial.user_attrs["seconds"]) for trial in [*tune, *confirm] if "seconds" in trial.user_attrs]
        return found


def distributions(cell: Cell) -> dict[str, BaseDistribution]:
    """A cell's spaces as Optuna's."""
    return {
        key: IntDistribution(int(space.low), int(space.high)) if space.integer else FloatDistribution(space.low, space.high, log=space.log)
        for key, space in cell.spaces.items()
    }


def counts(trials: list[FrozenTrial]) -> tuple[int, int, int]:
    """(decided, failed, diverged)."""
    decided = [trial for trial in trials if trial.state.is_finished()]
    statuses = [trial.user_attrs.get("status") for trial in decided]
    return len(decided), statuses.count("failed"), statuses.count("diverged")
