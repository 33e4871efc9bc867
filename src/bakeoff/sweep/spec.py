"""The model of a sweep file, from which its JSON Schema is made as well."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from bakeoff.config.schema import Seed
from bakeoff.config.search_space import SearchSpace, parse_search_space
from bakeoff.config.slots import GROUPS, METRICS
from bakeoff.errors import ConfigError, join_choices, near_miss, shorten
from bakeoff.sweep.overrides import text

Sampler = Literal["halton", "random", "grid", "tpe", "cmaes", "gp"]
SAMPLERS: tuple[str, ...] = get_args(Sampler)
LISTED = ("halton", "random", "grid")
"""Samplers whose points are all known before the first trial."""
MODELS = ("tpe", "cmaes", "gp")
"""Samplers that propose a point when its turn comes, from the results of the same study so far."""
Rule = Literal["steps", "batch", "schedule", "precision", "data", "parameters", "decay", "decay_all", "tuning", "space", "recipe"]
RULES: tuple[str, ...] = get_args(Rule)
"""What arms must not differ in unless the file allows it; `bakeoff.sweep.fairness` checks each."""
TUNABLE_METRICS = tuple(metric for metric in METRICS if not metric.startswith("test/"))
MARGINS = {"accuracy": 0.005, "loss": 0.01}
"""The smallest difference that matters, where the file does not say."""
ANALYSES = 5
"""Analyses of the confirming runs, where the file does not say: the first one, and four for `--more`."""
STUDIES = 5
"""Studies that are aimed at, where the file does not say."""
FIRST_SEED = 1001
"""Confirming seeds count from here, so that no seed of the tuning stage is used twice."""

MAX_TRIALS, MAX_STUDIES, MAX_SEEDS = 10_000, 1_000, 10_000
"""Tuning runs of a study, studies of an arm, and seeds of an arm at all analyses together."""
MAX_ARMS = 1_000
"""Arms of a sweep, in all blocks together."""
MAX_RUNS = 200_000
"""Tuning runs of a sweep, all arms, blocks and studies together."""

PlainValue = str | int | float | bool
Count = Annotated[int, Field(ge=1, le=MAX_TRIALS)]
Goal = Literal["maximize", "minimize"]


def _complete(message: str) -> PydanticCustomError:
    """An error whose message already names the key."""
    return PydanticCustomError("complete_message", "{message}", {"message": message})


def _as_tuple(value: Any) -> Any:
    """A list, or one value alone, as a tuple."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _distinct_values(value: Any) -> tuple[Any, ...]:
    """The values of a factor or block: plain ones, none of them twice."""
    items: tuple[Any, ...] = _as_tuple(value)
    if not items or any(item is None or item == "" for item in items):
        raise ValueError("an empty list; there is nothing to sweep")
    if not all(isinstance(item, PlainValue) for item in items):
        raise ValueError("must be a list of names or numbers")
    names = [text(item) for item in items]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise ValueError(f"{repeated} is listed twice")
    return items


def _metric_from_name(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


def _prune_from_name(value: Any) -> Any:
    tree = {"by": value} if isinstance(value, str) else value
    if not tree or (isinstance(tree, Mapping) and tree.get("by", "median") in (None, False, "off")) or tree is False:
        return None
    return tree


def _tune_entries(value: Any) -> Any:
    """The entries of a tuned key; the word `space` is an entry with nothing in it."""
    entries = tuple({} if entry == "space" else entry for entry in _as_tuple(value))
    if not entries:
        raise ValueError("an empty list; give a space, or write space for the declared one")
    if not all(isinstance(entry, Mapping | TuneEntry) for entry in entries):
        raise ValueError("must be space, {low: 1e-4, high: 1, log: true} or {choices: [a, b]}")
    return entries


Values = Annotated[
    tuple[PlainValue, ...],
    BeforeValidator(_distinct_values, json_schema_input_type=PlainValue | Annotated[list[PlainValue], Field(min_length=1)]),
]


class _Node(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, populate_by_name=True)


class Metric(_Node):
    """The metric that tuning optimizes."""

    name: Annotated[str, Field(description="A validation or training metric.", json_schema_extra={"enum": list(TUNABLE_METRICS)})]
    goal: Goal = Field(
        default_factory=lambda data: "maximize" if data["name"].endswith("accuracy") else "minimize",
        description="Follows from the metric; may be written for the reader.",
    )

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if name not in METRICS:
            raise ValueError(f"this is never logged{near_miss(name, TUNABLE_METRICS)}; choices: {join_choices(TUNABLE_METRICS)}")
        if name not in TUNABLE_METRICS:
            raise ValueError(f"the test set must not decide what is tuned; choices: {join_choices(TUNABLE_METRICS)}")
        return name

    @field_validator("goal")
    @classmethod
    def _check_goal(cls, goal: Goal, info: ValidationInfo) -> Goal:
        name = info.data.get("name", "")
        right: Goal = "maximize" if name.endswith("accuracy") else "minimize"
        if name and goal != right:
            raise ValueError(f"{name} can only be {right}d; goal: {right}")
        return goal


class Budget(_Node):
    """How much is tuned, for each arm in each block."""

    trials: Count = Field(default=8, description="Tuning runs for each arm, block and study.")
    sampler: Sampler = Field(default="halton", description="What chooses the points of the search spaces.")
    points: Count | None = Field(
        default=None, description="For sampler: grid: values on each axis, which then decide the number of trials."
    )
    studies: Annotated[int, Field(ge=1, le=MAX_STUDIES)] | None = Field(
        default=None,
        description="How often tuning is repeated up to the first analysis, and again before each further one if more than 1; if left out, "
        "the divisor of confirm.seeds that is nearest to 5, or 1 where nothing is tuned. With 1, the verdict is about settings, not arms.",
    )
    choose: Literal["smooth", "best"] = Field(
        default="smooth",
        description="Which setting of a study is confirmed: the one around which scores are best, or the one with the best score.",
    )

    @model_validator(mode="after")
    def _check_grid(self) -> Budget:
        if self.points is not None and self.sampler != "grid":
            raise _complete(f"budget.points={self.points}: is for sampler: grid, not {self.sampler}; budget.trials says how many points")
        if self.points is not None and "trials" in self.model_fields_set:
            raise _complete(
                f"budget.points={self.points}: decides the trials of a grid, and budget.trials={self.trials} does too; keep one"
            )
        return self


class Confirm(_Node):
    """The confirming stage: how many fresh seeds, or which, and up to how many."""

    seeds: Annotated[int, Field(ge=0, le=MAX_SEEDS)] | Annotated[list[Seed], Field(max_length=MAX_SEEDS)] = Field(
        default=10, description="How many seeds (1001, 1002, ...) the first analysis has, or which ones."
    )
    max_seeds: Annotated[int, Field(ge=0, le=MAX_SEEDS)] | None = Field(
        default=None, description="How many seeds the last interim analysis may have; five times the first's if left out."
    )

    @model_validator(mode="after")
    def _check_seeds(self) -> Confirm:
        count = len(self.first_seeds)
        if len(set(self.first_seeds)) < count:
            raise _complete(f"confirm.seeds={shorten(self.seeds)}: a seed is listed twice")
        if self.max_seeds is not None and self.max_seeds < count:
            raise _complete(f"confirm.max_seeds={self.max_seeds}: must be confirm.seeds={count} or more")
        if max(self.first_seeds, default=0) + ANALYSES * count >= 2**63:
            raise _complete(f"confirm.seeds={shorten(self.seeds)}: the seeds of further analyses, which count on from there, pass 2^63")
        return self

    @property
    def first_seeds(self) -> tuple[int, ...]:
        """The seeds of the first analysis."""
        return tuple(self.seeds) if isinstance(self.seeds, list) else tuple(range(FIRST_SEED, FIRST_SEED + self.seeds))

    @property
    def pool(self) -> tuple[int, ...]:
        """The seeds of all analyses in order; their number is a multiple of the first analysis's."""
        first = self.first_seeds
        count = ANALYSES * len(first) if self.max_seeds is None else self.max_seeds
        count -= count % len(first) if first else count
        start = max(first, default=0) + 1
        return (*first, *range(start, start + count - len(first)))

    @property
    def analyses(self) -> tuple[int, ...]:
        """How many seeds an arm has at each analysis: multiples of the first."""
        step = len(self.first_seeds)
        return tuple(range(step, len(self.pool) + 1, step)) if step else ()


class Prune(_Node):
    """What stops a tuning run early: `median` (Golovin et al. 2017), `asha` (Li et al. 2020) or `hyperband` (Li et al. 2018)."""

    by: Literal["median", "asha", "hyperband"] = Field(default="median", description="The pruner; asha and hyperband halve by rungs.")
    warmup: float = Field(default=0.25, ge=0, lt=1, description="The share of a run's epochs before which nothing is stopped.")
    startup: Count = Field(default=4, description="For median: complete trials of the arm that it waits for.")
    audit: Annotated[int, Field(ge=0, le=MAX_TRIALS)] = Field(
        default=3, description="How many of an arm's pruned trials are run to their end, as a check."
    )


class TuneEntry(_Node):
    """One search space of a tuned key: a range, a few choices, or, with neither, the range that the arm's own choice declares."""

    low: int | float | None = Field(default=None, description="The lower end of the range.")
    high: int | float | None = Field(default=None, description="The upper end of the range.")
    log: bool | None = Field(default=None, description="Whether the range is even on a logarithmic scale.")
    complement: bool | None = Field(default=None, description="Whether 1 - x is even on a logarithmic scale, as for momenta.")
    choices: list[PlainValue] | None = Field(default=None, description="The values, instead of a range.")
    only_for: dict[
        str, Annotated[tuple[PlainValue, ...], BeforeValidator(_as_tuple, json_schema_input_type=PlainValue | list[PlainValue])]
    ] = Field(default_factory=dict, alias="for", description="Only for the arms whose factors and blocks have these values.")

    def parse_space(self, key: str) -> SearchSpace | None:
        """Return the space, None for the declared range.

        Args:
            key: The tuned key, for messages.

        Raises:
            ConfigError: It is no range and no list of choices.
        """
        tree = self.model_dump(exclude_unset=True, exclude={"only_for"})
        return parse_search_space(f"tune.{key}", tree) if tree else None

    def fits(self, choices: Mapping[str, Any]) -> bool:
        """Return whether the entry is for the arm and block with these choices."""
        return all(choices.get(key) in values for key, values in self.only_for.items())


TuneEntries = Annotated[
    tuple[TuneEntry, ...],
    Field(min_length=1),
    BeforeValidator(_tune_entries, json_schema_input_type=Literal["space"] | TuneEntry | list[Literal["space"] | TuneEntry]),
]


class SweepSpec(_Node):
    """A sweep file: one question, and how it is answered."""

    question: str = Field(min_length=1, description="What the sweep asks, as one sentence.")
    factors: dict[str, Values] = Field(min_length=1, description="What is compared: every combination of these values is an arm.")
    metric: Annotated[Metric, BeforeValidator(_metric_from_name, json_schema_input_type=Metric | str)] = Field(
        description="The metric that tuning optimizes; a name alone is enough."
    )
    margin: float = Field(
        default_factory=lambda data: MARGINS[data["metric"].name.rpartition("/")[2]],
        ge=0,
        description="The smallest difference that matters.",
    )
    blocks: dict[str, Values] = Field(default_factory=dict, description="The comparison is repeated on each of these.")
    tune: dict[str, TuneEntries] = Field(default_factory=dict, description="Keys that are tuned for each arm and block separately.")
    budget: Budget = Field(default=Budget(), description="How much is tuned.")
    prune: Annotated[
        Prune | None,
        BeforeValidator(_prune_from_name, json_schema_input_type=Prune | Literal["median", "asha", "hyperband", "off", False] | None),
    ] = Field(default=None, description="What stops tuning runs early; nothing if left out.")
    confirm: Confirm = Field(default=Confirm(), description="The confirming stage, on fresh seeds.")
    allow: Annotated[tuple[Rule, ...], BeforeValidator(_as_tuple, json_schema_input_type=Rule | list[Rule])] = Field(
        default=(), description="Differences between arms that are intended."
    )
    baseline: str | None = Field(default=None, description="The arm that the others are compared with.")
    fixed: dict[str, Any] = Field(default_factory=dict, description="Values of the run config that all runs share.")
    scales: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="Named sets of values that scale=NAME on the command line puts on top."
    )

    @model_validator(mode="before")
    @classmethod
    def _leave_out_nulls(cls, tree: Any) -> Any:
        return {key: value for key, value in tree.items() if value is not None} if isinstance(tree, Mapping) else tree

    @field_validator("question")
    @classmethod
    def _join_lines(cls, question: str) -> str:
        return " ".join(question.split())

    @field_validator("allow")
    @classmethod
    def _sort_rules(cls, allow: tuple[Rule, ...]) -> tuple[str, ...]:
        return tuple(rule for rule in RULES if rule in allow)

    @model_validator(mode="after")
    def _check_size(self) -> SweepSpec:
        for part, swept in (("factors", self.factors), ("blocks", self.blocks)):
            for key, values in swept.items():
                strange = next((value for value in values if key in GROUPS and not isinstance(value, str)), None)
                if strange is not None:
                    hint = "; YAML reads no, off, on and yes as truth values: quote such names" if isinstance(strange, bool) else ""
                    raise _complete(f"{part}.{key}={text(strange)}: must be names of choices, as in {part}.{key}=[NAME, NAME]{hint}")
        arms = math.prod(map(len, [*self.factors.values(), *self.blocks.values()]))
        if arms > MAX_ARMS:
            raise _complete(f"factors: {arms} arms, in all blocks together; {MAX_ARMS} are the limit")
        if arms * self.trials > MAX_RUNS:
            raise _complete(
                f"budget.trials={self.budget.trials}: {arms * self.trials} tuning runs (arms x blocks x studies x trials); "
                f"{MAX_RUNS} are the limit"
            )
        return self

    @model_validator(mode="after")
    def _check_studies(self) -> SweepSpec:
        seeds, studies = len(self.confirm.first_seeds), self.studies
        if seeds % studies:
            fitting = " or ".join(str(count) for count in (seeds - seeds % studies, seeds - seeds % studies + studies) if count)
            raise _complete(
                f"confirm.seeds={self.confirm.seeds}: the number of seeds must be a multiple of budget.studies={studies}: {fitting}"
            )
        return self

    @model_validator(mode="after")
    def _check_tune(self) -> SweepSpec:
        swept = {**self.factors, **self.blocks}
        for key, entries in self.tune.items():
            for entry in entries:
                try:
                    entry.parse_space(key)
                except ConfigError as error:
                    raise _complete(f"{error}, or write space for the range that the choice declares") from None
                for factor, values in entry.only_for.items():
                    _check_condition(f"tune.{key}.for.{factor}", factor, values, swept)
        return self

    @property
    def trials(self) -> int:
        """Tuning runs that are planned for an arm in a block, all studies together; a grid may have another number."""
        return self.budget.trials * self.studies

    @property
    def studies(self) -> int:
        """How often each arm is tuned up to the first analysis."""
        if self.budget.studies is not None:
            return self.budget.studies
        seeds = len(self.confirm.first_seeds)
        divisors = [count for count in range(2, seeds + 1) if seeds % count == 0]
        return min(divisors, key=lambda count: (abs(count - STUDIES), -count), default=1) if self.tune else 1


def _check_condition(key: str, factor: str, values: tuple[Any, ...], swept: Mapping[str, tuple[Any, ...]]) -> None:
    """Check that an entry of `tune` is for a factor or block of the file, and for values that it has."""
    if factor not in swept:
        raise _complete(f"{key}: no factor or block{near_miss(factor, swept)}; choices: {join_choices(swept)}")
    names = [text(value) for value in swept[factor]]
    for value in values:
        if value not in swept[factor]:
            raise _complete(f"{key}={value}: not among its values{near_miss(str(value), names)}; choices: {join_choices(names)}")


def sweep_json_schema() -> dict[str, Any]:
    """Return the JSON Schema of sweep files."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **SweepSpec.model_json_schema(by_alias=True)}
