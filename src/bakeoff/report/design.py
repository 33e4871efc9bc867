"""What a sweep set out to do, read from its plan.json."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bakeoff.errors import StoreError, redact
from bakeoff.run_files.stored_plan import ADDED_STUDIES, MAX_STUDIES, PLAN_FILE, StoredPlan
from bakeoff.stats.alpha_spending import SequentialDesign
from bakeoff.stats.scores import Goal

#: A best value within this share of a space's ends is flagged: the true optimum may lie outside.
EDGE_SHARE = 0.1
#: Samplers whose points are drawn without a look at the scores, so that budget curves hold.
INDEPENDENT_SAMPLERS = ("halton", "random")


@dataclass(frozen=True)
class SearchRange:
    """The space in which one key was tuned."""

    low: float
    high: float
    log: bool = False
    complement: bool = False

    def position(self, value: float) -> float:
        """Where a value lies: 0 at the low end, 1 at the high end, on the space's own scale. NaN for a space without width."""
        low, high, at = self.low, self.high, value
        if self.log:
            low, high, at = math.log(low), math.log(high), math.log(value) if value > 0 else -math.inf
        elif self.complement:
            low, high, at = -math.log(1 - low), -math.log(1 - high), -math.log(1 - value) if value < 1 else math.inf
        return (at - low) / (high - low) if high > low else math.nan

    def near_edge(self, value: float) -> str | None:
        """'low' or 'high' where a value lies within `EDGE` of that end; else None."""
        at = self.position(value)
        return "low" if at < EDGE_SHARE else "high" if at > 1 - EDGE_SHARE else None


@dataclass(frozen=True)
class PlannedArm:
    """One arm in one block: what is tuned in it, in which space, with how many trials; `choices` are its factors' and blocks' values.

    `menus` are tuned keys that take one of a few values: they have no range.
    """

    arm: str
    block: str
    spaces: Mapping[str, SearchRange]
    trials: int
    choices: Mapping[str, Any] = field(default_factory=dict)
    menus: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class SweepDesign:
    """A sweep's declaration.

    `metric` is what tuning looked at, `seeds` how many confirm seeds every arm has in every block at the first analysis, `sequential` all
    analyses that are planned, `seed_pool` their seeds in order, and `plan_studies` the studies of the plan where others were added to it.
    `declared` is False for a set of runs that was put together afterwards: nothing was planned then, and nothing can be claimed.
    """

    name: str
    hash: str
    question: str
    metric: str
    goal: Goal
    margin: float
    arms: tuple[str, ...]
    blocks: tuple[str, ...]
    planned_arms: tuple[PlannedArm, ...]
    sampler: str
    seeds: int
    fixed: Mapping[str, Any]
    command: str
    factors: tuple[str, ...] = ()
    sequential: SequentialDesign = field(default_factory=lambda: SequentialDesign((1,)))
    seed_pool: tuple[int, ...] = ()
    pruner: str | None = None
    allowed_differences: tuple[str, ...] = ()
    baseline: str | None = None
    declared: bool = True
    plan_studies: int | None = None
    choose: str = "best"

    @property
    def studies(self) -> int:
        """How often each arm is tuned in each block; confirm seeds are dealt out to the studies in turn."""
        return self.sequential.studies

    @property
    def first_studies(self) -> int:
        """Studies of each arm that the plan lists the points of."""
        return self.sequential.studies if self.plan_studies is None else self.plan_studies

    @property
    def is_conditional(self) -> bool:
        """Whether each arm is tuned, and tuned once: then the scores are those of settings, and say less about the arms."""
        return not self.sequential.has_studies and any(arm.spaces or arm.menus for arm in self.planned_arms)

    @property
    def trials(self) -> int:
        """Planned tuning runs in all."""
        return sum(cell.trials for cell in self.planned_arms)

    @property
    def confirm_runs(self) -> int:
        """Planned confirm runs in all, up to the first look."""
        return self.seeds * len(self.planned_arms)

    @property
    def numeric_keys(self) -> tuple[str, ...]:
        """Every key that is tuned in a range in some cell, in the order of the cells."""
        return tuple(dict.fromkeys(key for cell in self.planned_arms for key in cell.spaces))

    @property
    def categorical_keys(self) -> tuple[str, ...]:
        """Every key that is tuned over a few values in some cell."""
        return tuple(dict.fromkeys(key for cell in self.planned_arms for key in cell.menus))

    @property
    def extend_command(self) -> str:
        """The line that queues the next look."""
        return f"{self.command} --more"

    def space(self, arm: str, block: str, key: str) -> SearchRange | None:
        """The space of a key in one cell; None where it is not tuned there."""
        return next((cell.spaces.get(key) for cell in self.planned_arms if (cell.arm, cell.block) == (arm, block)), None)

    def study_of_seed(self, seeds: set[int]) -> dict[int, int]:
        """Seed -> the study whose setting it confirms, where there are several; else every seed is a unit of its own."""
        return {seed: self.sequential.study_at(place) for place, seed in enumerate(self.seed_order(seeds))}

    def seed_order(self, seeds: set[int]) -> list[int]:
        """Seeds in the order in which they were run: the plan's, then any others by number."""
        return [*self.seed_pool, *sorted(seeds - set(self.seed_pool))]


def _sequential_design(plan: StoredPlan) -> SequentialDesign:
    """The analyses of a plan, and how its seeds are dealt out to studies."""
    sizes, studies = plan.confirm.analyses or (1,), plan.budget.studies
    try:
        return SequentialDesign.growing(sizes, studies) if plan.budget.grow else SequentialDesign(sizes, studies)
    except ValueError as error:
        raise StoreError(f"{PLAN_FILE}: {error}") from None


def extend_studies(design: SweepDesign, *, seeds: int, studies: int) -> SweepDesign:
    """The design of a sweep that tuned each arm once, with the studies that were added to it afterwards.

    The first study keeps its seeds; each further one has fresh seeds after the pool's, a fifth of the first analysis's. Analyses are made
    at every fifth study. Claims about arms are tested for the first time then.

    Args:
        design: the plan's own design, with a single study.
        seeds: seeds of the first study.
        studies: studies in all.
    """
    each, start = -(-design.seeds // ADDED_STUDIES), max(design.seed_pool) + 1
    counts = range(ADDED_STUDIES, max(studies, ADDED_STUDIES) + 1, ADDED_STUDIES)
    added = counts[-1] - 1
    sequential = SequentialDesign(
        tuple(seeds + (count - 1) * each for count in range(ADDED_STUDIES, MAX_STUDIES + 1, ADDED_STUDIES)),
        ADDED_STUDIES,
        tuple([0] * seeds + [1 + i // each for i in range((MAX_STUDIES - 1) * each)]),
    )
    return replace(
        design, sequential=sequential, plan_studies=1, seed_pool=(*design.seed_pool[:seeds], *range(start, start + added * each))
    )


def quoted_command(plan: StoredPlan) -> str:
    """Return the line that made a plan, so that copied into a shell it can do nothing else."""
    try:
        words = shlex.split(redact(plan.command))
    except ValueError:
        words = []
    return shlex.join(words if words[:2] == ["bakeoff", "sweep"] else ["bakeoff", "sweep", plan.name])


def read_design(plan: StoredPlan) -> SweepDesign:
    """Take from a sweep's stored plan what a report needs; `StoreError` where its numbers of seeds and studies do not fit."""
    planned_arms = tuple(
        PlannedArm(
            arm.arm,
            arm.block,
            {
                key: SearchRange(space.low, space.high, space.log, space.complement)
                for key, space in arm.spaces.items()
                if not space.choices
            },
            len(arm.points),
            arm.choices,
            {key: space.choices for key, space in arm.spaces.items() if space.choices},
        )
        for arm in plan.arms
    )
    return SweepDesign(
        name=plan.name,
        hash=plan.hash,
        question=plan.question,
        metric=plan.metric.name,
        goal=plan.metric.goal,
        margin=plan.margin,
        arms=tuple(dict.fromkeys(arm.arm for arm in planned_arms)),
        blocks=tuple(dict.fromkeys(arm.block for arm in planned_arms)),
        planned_arms=planned_arms,
        sampler=plan.budget.sampler,
        seeds=len(plan.confirm.seeds),
        fixed=plan.fixed,
        command=quoted_command(plan),
        factors=tuple(plan.factors),
        sequential=_sequential_design(plan),
        seed_pool=plan.confirm.pool,
        pruner=None if plan.prune is None else plan.prune.by,
        allowed_differences=tuple(f"{difference.rule}: {difference.text}" for difference in plan.differs),
        baseline=plan.baseline,
        choose=plan.budget.choose,
    )
