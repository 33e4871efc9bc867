"""What the studies of a plan hold, for the holder of the sweep's lock: which points are open or decided, and how far each arm is."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bakeoff import seeds
from bakeoff.sweep import optuna_studies
from bakeoff.sweep.arm_progress import ArmProgress
from bakeoff.sweep.interim import Extent
from bakeoff.sweep.optuna_studies import KnownTrials, State, TrialJournal
from bakeoff.sweep.plan import Plan
from bakeoff.sweep.planned_arm import PlannedArm
from bakeoff.sweep.trials import STAGES, Stage

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


class StudyStates:
    """The studies of one plan, up to an interim analysis."""

    def __init__(self, plan: Plan, journal: TrialJournal, *, extent: Extent) -> None:
        """Open the studies of `plan` on the sweep's journal, as far as the analysis takes them."""
        self.plan, self.journal, self.extent = plan, journal, extent
        self.tuning_studies = plan.tuning_studies(extent.studies)
        self.known = optuna_studies.open_studies(plan, journal=journal, studies=extent.studies)
        self.studies = {key: known.study for key, known in self.known.items()}
        self.by_id = {known.id: known for known in self.known.values()}
        self.places: dict[int, tuple[KnownTrials, int]] = {}
        """Optuna's id of a trial -> its study, and its number there."""
        self.bests: dict[int, tuple[int, FrozenTrial | None]] = {}
        self.arms: dict[int, tuple[list[int], ArmProgress]] = {}
        """What was found at a version of the trials that it is found from."""

    def planned_arm_of(self, study_index: int) -> PlannedArm:
        """The planned arm that a study is of."""
        return self.plan.planned_arms[self.tuning_studies[study_index][0]]

    def sample(self, study_index: int) -> list[int]:
        """The pruned trials of a study that are audited: drawn from all of them once tuning is over, whenever they were pruned."""
        prune, (index, replicate) = self.plan.spec.prune, self.tuning_studies[study_index]
        if prune is None or not self.decided("tune", study_index):
            return []
        stopped = [trial.number for trial in self.trials("tune", study_index) if trial.state == State.PRUNED]
        return sorted(stopped, key=lambda number: seeds.derive_seed(self.plan.planned_arms[index].run.seed, "audit", replicate, number))[
            : prune.audit
        ]

    def trials(self, stage: Stage, study_index: int) -> list[FrozenTrial]:
        """The trials of a study by number; a plan without a pruner has no audits."""
        self.follow_journal()
        return self.known[stage, study_index].trials if (stage, study_index) in self.known else []

    def unfinished(self, stage: Stage, study_index: int, state: State) -> list[FrozenTrial]:
        """The trials of a study that run, or those that wait, by number."""
        trials = self.trials(stage, study_index)
        numbers = sorted(self.known[stage, study_index].open) if trials else []
        return [trials[number] for number in numbers if trials[number].state == state]

    def follow_journal(self) -> None:
        """Take what the journal's lines say that have been read since the last time."""
        for study_id in list(self.journal.grown):
            if study_id in self.by_id:
                known = self.by_id[study_id]
                for trial_id in known.append_new():
                    self.places[trial_id] = (known, len(known.trials) - 1)
                    self.journal.changed.discard(trial_id)
        for trial_id in list(self.journal.changed):
            if trial_id in self.places:
                known, number = self.places[trial_id]
                known.update(number, trial_id)
        self.journal.clear()

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
        room = len(trials) < self.planned(stage, study_index) or bool(self.unfinished(stage, study_index, State.WAITING))
        return room and (stage != "confirm" or (self.decided("tune", study_index) and self.best(study_index) is not None))

    def decided(self, stage: Stage, study_index: int) -> bool:
        """Whether every point of a study has been decided."""
        if stage == "audit" and not self.decided("tune", study_index):
            return False
        trials = self.trials(stage, study_index)
        return len(trials) == self.planned(stage, study_index) and not (trials and self.known[stage, study_index].open)

    def best(self, study_index: int) -> FrozenTrial | None:
        """The tuning trial whose setting is confirmed, of those that trained to their end; the earlier one of equals.

        It is the one with the best score, or with `budget.choose: smooth` the one around which scores are best, diverged trials included.
        """
        tuned = self.trials("tune", study_index)
        version, best = self.bests.get(study_index, (-1, None))
        if version == self.known["tune", study_index].version:
            return best
        trials = [trial for trial in tuned if trial.state == State.COMPLETE]
        done = [trial for trial in trials if trial.user_attrs.get("status") == "finished"]
        values = [-self.sign * (trial.value or 0.0) for trial in trials]
        if self.plan.spec.budget.choose == "smooth" and done:
            values = self.smoothed_values(self.planned_arm_of(study_index), trials, values)
        by_number = {trial.number: value for trial, value in zip(trials, values, strict=True)}
        best = max(done, key=lambda trial: (by_number[trial.number], -trial.number), default=None)
        self.bests[study_index] = (self.known["tune", study_index].version, best)
        return best

    @staticmethod
    def smoothed_values(planned_arm: PlannedArm, trials: Sequence[FrozenTrial], values: Sequence[float]) -> list[float]:
        """The mean score around each trial."""
        import numpy as np

        from bakeoff.stats.smoothing import smoothed

        columns = []
        for key, space in planned_arm.spaces.items():
            params = [optuna_studies.values(planned_arm, trial)[key] for trial in trials]
            # Unequal choices are one apart, whatever their order.
            columns += [[float(value == choice) / 2**0.5 for value in params] for choice in space.choices]
            columns += [] if space.choices else [[space.position(value) for value in params]]
        positions = np.array(columns, float).reshape(len(columns), len(trials)).T
        return [float(value) for value in smoothed(positions, np.array(values, float), keys=len(planned_arm.spaces))]

    @property
    def sign(self) -> int:
        """What makes the better value the smaller one."""
        return -1 if self.plan.spec.metric.goal == "maximize" else 1

    def arm_progress(self, index: int, planned_arm: PlannedArm) -> ArmProgress:
        """The counts of one planned arm, over its studies."""
        tuning_studies = range(index, len(self.tuning_studies), len(self.plan.planned_arms))
        self.follow_journal()
        versions = [self.known[key].version for key in itertools.product(STAGES, tuning_studies) if key in self.known]
        if index in self.arms and self.arms[index][0] == versions:
            return self.arms[index][1]
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
        self.arms[index] = (versions, progress)
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
