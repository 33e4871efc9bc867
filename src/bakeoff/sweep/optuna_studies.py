"""All use of Optuna in a sweep: the studies of a plan on one journal file, what draws a point, and what stops a trial."""

from __future__ import annotations

import contextlib
import json
import math
import multiprocessing
import os
import warnings
from collections.abc import Generator, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from bakeoff.errors import BakeoffError
from bakeoff.sweep.candidates import DIGITS, Point
from bakeoff.sweep.plan import Plan
from bakeoff.sweep.planned_arm import PlannedArm
from bakeoff.sweep.spec import Prune
from bakeoff.sweep.trials import STAGES, Stage, study_of

JOURNAL = "study.journal"
State = TrialState
"""How far a trial is, in Optuna's words."""
REDUCTION = 3
"""Of the trials at a rung of asha and hyperband, one in so many goes on."""
IDLE = RandomSampler(seed=0)
"""The sampler of a study that is not being asked: it reads no trial."""


class TrialJournal(JournalFileBackend):
    """Optuna's journal file for the holder of the sweep's lock, who makes durable by one `sync` what has been written in the meantime.

    Optuna's class locks the file and waits for the disk at every line, and a trial has fifteen. Its lock would outlive a killed process.
    """

    def __init__(self, folder: Path) -> None:
        """Open, or make, the journal in a sweep's folder."""
        super().__init__(str(folder / JOURNAL))
        self.path, self.is_durable = folder / JOURNAL, True
        self.end = (-1, -1)
        """Lines and bytes that have been read."""
        self.changed: set[int] = set()
        """Optuna's ids of the trials that lines read since the last `clear` are about."""
        self.grown: set[int] = set()
        """Optuna's ids of the studies that got trials or attributes in those lines."""

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """Read the lines from a number on, and note what they are about."""
        size, number = self.path.stat().st_size, log_number_from
        if (number, size) == self.end:
            return
        for line in super().read_logs(log_number_from):
            number += 1
            if "trial_id" in line:
                self.changed.add(line["trial_id"])
            elif "study_id" in line:
                self.grown.add(line["study_id"])
            yield line
        self.end = (number, size)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write lines, which are durable after the next `sync`."""
        with open(self.path, "ab") as file:
            file.write("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in logs).encode())
        self.is_durable = False

    def sync(self) -> None:
        """Make all lines durable."""
        if not self.is_durable:
            with open(self.path, "rb") as file:
                os.fsync(file.fileno())
            self.is_durable = True

    def clear(self) -> None:
        """Forget what the lines were about that have been read."""
        self.changed.clear()
        self.grown.clear()


class KnownTrials:
    """The trials of a study by number as the journal had them when it was last read, and those of them that are not decided."""

    def __init__(self, study: Study, storage: JournalStorage) -> None:
        """Know nothing yet of the trials of `study` in `storage`."""
        self.study, self.storage = study, storage
        self.id = storage.get_study_id_from_name(study.study_name)
        self.trials: list[FrozenTrial] = []
        self.open: set[int] = set()
        """Numbers of trials that run or wait."""
        self.version = 0
        """Grows with every change."""

    def append_new(self) -> Iterator[int]:
        """Add the trials that are new, and yield their ids in the journal."""
        with contextlib.suppress(KeyError):  # beyond the last one
            while True:
                trial_id = self.storage.get_trial_id_from_study_id_trial_number(self.id, len(self.trials))
                self.update(len(self.trials), trial_id)
                yield trial_id

    def update(self, number: int, trial_id: int) -> None:
        """Take the present state of a trial."""
        self.trials[number : number + 1] = [self.storage.get_trial(trial_id)]
        (self.open.discard if self.trials[number].state.is_finished() else self.open.add)(number)
        self.version += 1


def open_studies(plan: Plan, *, journal: TrialJournal, studies: int) -> dict[tuple[Stage, int], KnownTrials]:
    """Open, or make, the Optuna studies of a plan. For the holder of the sweep's lock.

    Args:
        plan: The plan.
        journal: The sweep's journal.
        studies: How many studies each arm has in each block.

    Returns:
        (stage, place among the tuning studies) -> its Optuna study, with its trials.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = JournalStorage(journal)
    goal, pruner = StudyDirection[plan.spec.metric.goal.upper()], optuna.pruners.NopPruner()
    # `create_study(load_if_exists=True)` would write to the journal for each of them, every time.
    existing = set(optuna.get_all_study_names(storage))

    def open_study(name: str) -> Study:
        if name in existing:
            return optuna.load_study(study_name=name, storage=storage, sampler=IDLE, pruner=pruner)
        return optuna.create_study(study_name=name, storage=storage, direction=goal, sampler=IDLE, pruner=pruner)

    return {
        (stage, study_index): KnownTrials(open_study(study_of(plan, stage, arm_index, study)), storage)
        for stage in STAGES
        if stage != "audit" or plan.spec.prune is not None
        for study_index, (arm_index, study) in enumerate(plan.tuning_studies(studies))
    }


def trials_of(study: Study) -> list[FrozenTrial]:
    """The trials of a study by number."""
    return study.get_trials(deepcopy=False)


def resume_trial(study: Study, trial: FrozenTrial) -> Trial:
    """Return a running trial as the live object that suggests, reports and takes attributes, whichever process began it."""
    # `Study.ask` returns a live trial only when it begins one. Optuna has no public way to go on with a trial that another process
    # began, and a FrozenTrial shows the id of its storage row only as `_trial_id`.
    return Trial(study, trial._trial_id)


def distributions(planned_arm: PlannedArm) -> dict[str, BaseDistribution]:
    """An arm's spaces as Optuna's: a complement's parameter is 1 - x, on a log scale as its points are; `values` turns it back."""
    by_key: dict[str, BaseDistribution] = {}
    for key, space in planned_arm.spaces.items():
        if space.choices:
            by_key[key] = CategoricalDistribution(space.choices)
        elif space.integer:
            by_key[key] = IntDistribution(int(space.low), int(space.high))
        elif space.complement:
            by_key[key] = FloatDistribution(1 - space.high, 1 - space.low, log=True)
        else:
            by_key[key] = FloatDistribution(space.low, space.high, log=space.log)
    return by_key


def parameters(planned_arm: PlannedArm, point: Point) -> Point:
    """A point as Optuna's parameters; the ends of a complement's space are exact."""
    return {key: 1 - value if planned_arm.spaces[key].complement else value for key, value in point.items()}


def values(planned_arm: PlannedArm, trial: FrozenTrial | Trial) -> Point:
    """A trial's parameters as the point that is trained: a complement's x has as many digits as the points of a list."""
    by_key: Point = {}
    for key, value in trial.params.items():
        space = planned_arm.spaces[key]
        by_key[key] = min(max(float(f"{1 - value:.{DIGITS}g}"), space.low), space.high) if space.complement else value
    return by_key


def sampler(name: str, *, seed: int) -> BaseSampler:
    """What draws a point in turn: TPE (Bergstra et al. 2011), CMA-ES (Hansen, Ostermeier 2001), a Gaussian process (Jones et al. 1998)."""
    if name == "tpe":
        return TPESampler(seed=seed, constant_liar=True)
    if name == "cmaes":
        return CmaEsSampler(seed=seed)
    return GPSampler(seed=seed) if name == "gp" else IDLE


def ask(study: Study, space: dict[str, BaseDistribution], *, point: Point, name: str, seed: int) -> Trial:
    """The next trial of a study: at `point` where the plan lists it, else where the sampler says. A trial that waits is taken first."""
    waiting = any(trial.state == TrialState.WAITING for trial in trials_of(study))
    if not waiting and name == "gp":
        point = drawn_apart(study, space, seed=seed)
    if point and not waiting:
        study.enqueue_trial(dict(point))
    return with_sampler(study, name, seed, lambda: study.ask(space))


def again(study: Study, number: int, space: dict[str, BaseDistribution], *, name: str, seed: int) -> Trial:
    """A trial whose owner is gone, with what it had drawn already, and the rest drawn now."""

    def draw() -> Trial:
        trial = resume_trial(study, trials_of(study)[number])
        for key, limits in space.items():
            if isinstance(limits, CategoricalDistribution):
                trial.suggest_categorical(key, limits.choices)
            elif isinstance(limits, IntDistribution):
                trial.suggest_int(key, limits.low, limits.high)
            elif isinstance(limits, FloatDistribution):
                trial.suggest_float(key, limits.low, limits.high, log=limits.log)
        return trial

    return with_sampler(study, name, seed, draw)


def with_sampler(study: Study, name: str, seed: int, draw: Any) -> Trial:
    """Call `draw` while the study has its sampler. At other times reading a trial must not draw from it."""
    study.sampler = sampler(name, seed=seed)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            trial: Trial = draw()
            return trial
    finally:
        study.sampler = IDLE


def drawn_apart(study: Study, space: dict[str, BaseDistribution], *, seed: int) -> Point:
    """A Gaussian process's point, from a child: torch's threads, once started, would not survive the fork of a worker's trials."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=draw_and_send, args=(sender, trials_of(study), study.direction, space, seed))
    process.start()
    sender.close()
    try:
        by_key: Point = receiver.recv()
    except EOFError:
        process.join()
        raise BakeoffError(f"budget.sampler=gp: its process ended with exit code {process.exitcode}") from None
    process.join()
    return by_key


def draw_and_send(
    wire: Connection, trials: Sequence[FrozenTrial], direction: StudyDirection, space: dict[str, BaseDistribution], seed: int
) -> None:
    """The child's part: a study in memory with the same trials, asked once."""
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction=direction, sampler=sampler("gp", seed=seed))
    study.add_trials(list(trials))
    wire.send(study.ask(space).params)


def pruner(prune: Prune, *, epochs: int) -> BasePruner:
    """What stops a trial, by epochs: nothing does before the share `warmup` of them is over."""
    least = max(1, math.ceil(prune.warmup * epochs))
    if prune.by == "median":
        return MedianPruner(n_startup_trials=prune.startup, n_warmup_steps=least)
    if prune.by == "asha":
        return SuccessiveHalvingPruner(min_resource=least, reduction_factor=REDUCTION)
    return HyperbandPruner(min_resource=least, max_resource=epochs, reduction_factor=REDUCTION)


def should_stop(study: Study, trial: FrozenTrial, *, prune: Prune, epoch: int, value: float, epochs: int) -> bool:
    """Report a trial's value after an epoch, and return whether to stop it. NaN and a repeated epoch are ignored."""
    if math.isnan(value) or epoch in trial.intermediate_values:
        return False
    study.pruner = pruner(prune, epochs=epochs)
    running = resume_trial(study, trial)
    running.report(value, epoch)
    return epoch < epochs and bool(running.should_prune())


def mark(study: Study, trial: FrozenTrial, attributes: dict[str, Any]) -> None:
    """Set a trial's user attributes."""
    running = resume_trial(study, trial)
    for name, value in attributes.items():
        running.set_user_attr(name, value)
