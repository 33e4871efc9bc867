"""The small nodes of a sweep file: how much is tuned, with how many seeds it is confirmed, what stops a trial, what may differ."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bakeoff.config.search_space import SearchSpace, parse_search_space
from bakeoff.config.slots import METRICS
from bakeoff.errors import ConfigError, PlanError, join_choices, near_miss
from bakeoff.sweep.overrides import text

LISTED = ("halton", "random", "grid")
"""Samplers whose points are all known before the first trial."""
MODELS = ("tpe", "cmaes", "gp")
"""Samplers that ask for a point when its turn comes, from what the same study has been told so far."""
SAMPLERS = (*LISTED, *MODELS)
BUDGET = {"trials": 16, "sampler": "halton", "points": None, "studies": 1}
CONFIRM = {"seeds": 10, "max_seeds": None}
LOOKS = 5
"""Looks at the confirming runs, where the file does not say: the first one, and four for `--more`."""
FIRST_SEED = 1001
"""Confirming seeds count from here, so that no seed of the tuning stage is used twice."""
PRUNERS = ("median", "asha", "hyperband")
PRUNE = {"by": "median", "warmup": 0.25, "startup": 4, "audit": 3}
RULES = ("steps", "batch", "schedule", "precision", "data", "parameters", "decay", "decay_all", "tuning", "recipe")
"""What arms must not differ in without saying so: `bakeoff.sweep.fairness` tells each."""
MARGINS = {"accuracy": 0.005, "loss": 0.01}
Values = dict[str, tuple[Any, ...]]


@dataclass(frozen=True)
class Budget:
    """Stage 1: `trials` for each arm, block and study; `points` an axis for a grid, which then decides the trials."""

    trials: int
    sampler: str
    points: int | None
    studies: int


@dataclass(frozen=True)
class Confirm:
    """Stage 2: the seeds of the first look, and those of all looks, which `--more` takes up look by look."""

    seeds: tuple[int, ...]
    pool: tuple[int, ...]

    @property
    def looks(self) -> tuple[int, ...]:
        """How many seeds an arm has at each look: multiples of the first."""
        step = len(self.seeds)
        return tuple(range(step, len(self.pool) + 1, step)) if step else ()


@dataclass(frozen=True)
class Prune:
    """What stops a trial of an arm early: never before the share `warmup` of its epochs; `audit` of the stopped are run to their end.

    `median` (Golovin et al. 2017) waits for `startup` whole trials of the same arm; `asha` (Li et al. 2020) and `hyperband` (Li et
    al. 2018) halve by rungs.
    """

    by: str
    warmup: float
    startup: int
    audit: int


@dataclass(frozen=True)
class Tuning:
    """One entry of a key of `tune`: its space, None for the one that the choice declares, and the factors' values that it is for."""

    space: SearchSpace | None
    where: tuple[tuple[str, tuple[Any, ...]], ...] = ()

    def fits(self, choices: Mapping[str, Any]) -> bool:
        """Whether it is for the arm and block of these choices."""
        return all(choices.get(key) in known for key, known in self.where)


def tuned(path: Path, tree: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, tuple[Tuning, ...]]:
    """key -> its entries, of which the first that fits counts. `known` are the file's factors and blocks, not narrowed yet."""
    found: dict[str, tuple[Tuning, ...]] = {}
    for key, value in tree.items():
        entries = value if isinstance(value, list) else [value]
        if not entries:
            raise PlanError(f"{path.name}: tune.{key}: an empty list; give a space, or the word space")
        found[str(key)] = tuple(entry(path, f"tune.{key}", item, known) for item in entries)
    return found


def entry(path: Path, key: str, value: Any, known: Mapping[str, Any]) -> Tuning:
    """One entry: `space`, `{low: 1e-4, high: 1, log: true}`, `{choices: [a, b]}`, any of the latter with `for: {factor: [values]}`."""
    where: list[tuple[str, tuple[Any, ...]]] = []
    if isinstance(value, dict) and "for" in value:
        value = dict(value)
        for factor, chosen in mapping(path, f"{key}.for", value.pop("for")).items():
            if factor not in known:
                raise PlanError(
                    f"{path.name}: {key}.for.{factor}: no factor or block{near_miss(factor, known)}; choices: {join_choices(known)}"
                )
            all_of_it = known[factor] if isinstance(known[factor], list) else [known[factor]]
            names = chosen if isinstance(chosen, list) else [chosen]
            for name in names:
                if name not in all_of_it:
                    told = [text(item) for item in all_of_it]
                    raise PlanError(
                        f"{path.name}: {key}.for.{factor}={name}: not there{near_miss(str(name), told)}; choices: {join_choices(told)}"
                    )
            where.append((factor, tuple(names)))
        value = value or "space"
    if value == "space":
        return Tuning(None, tuple(where))
    try:
        return Tuning(parse_search_space(key, value), tuple(where))
    except ConfigError as error:
        raise PlanError(f"{path.name}: {error}, or the word space for the range that the choice declares") from None


def budgeted(path: Path, tree: Mapping[str, Any]) -> Budget:
    """The node `budget`."""
    node = numbers(path, "budget", tree, BUDGET)
    sampler, points = str(node["sampler"]), node["points"]
    if sampler not in SAMPLERS:
        raise PlanError(f"budget.sampler={sampler}: no such sampler{near_miss(sampler, SAMPLERS)}; choices: {join_choices(SAMPLERS)}")
    studies = whole("budget.studies", node["studies"], least=1)
    if sampler == "grid" and studies > 1:
        raise PlanError(f"budget.studies={studies}: a grid has the same points in every study; choose another sampler")
    if points is not None:
        points = whole("budget.points", points, least=1)
        if sampler != "grid":
            raise PlanError(f"budget.points={points}: is for sampler: grid, not {sampler}; budget.trials says how many points")
        if "trials" in tree:
            raise PlanError(f"budget.points={points}: decides the trials of a grid, and budget.trials={tree['trials']} does too; keep one")
    return Budget(whole("budget.trials", node["trials"], least=1), sampler, points, studies)


def confirmed(path: Path, tree: Mapping[str, Any]) -> Confirm:
    """The node `confirm`: how many fresh seeds, or which, and up to how many."""
    node = numbers(path, "confirm", tree, CONFIRM)
    value, most = node["seeds"], node["max_seeds"]
    if isinstance(value, list):
        seeds = tuple(whole("confirm.seeds", seed, least=0) for seed in value)
        if len(set(seeds)) < len(seeds):
            raise PlanError(f"{path.name}: confirm.seeds={value}: a seed stands there twice")
    else:
        seeds = tuple(range(FIRST_SEED, FIRST_SEED + whole("confirm.seeds", value, least=0)))
    count = LOOKS * len(seeds) if most is None else whole("confirm.max_seeds", most, least=0)
    if count < len(seeds):
        raise PlanError(f"confirm.max_seeds={count}: must be confirm.seeds={len(seeds)} or more")
    # Looks are at multiples of the first: what is left over would never be looked at.
    count -= count % len(seeds) if seeds else count
    first = max(seeds, default=0) + 1
    return Confirm(seeds, (*seeds, *range(first, first + count - len(seeds))))


def pruned(path: Path, tree: Any) -> Prune | None:
    """The node `prune`: nothing stops a trial unless the file says so."""
    if tree in (None, False, "off", {}):
        return None
    if isinstance(tree, str):
        tree = {"by": tree}
    node = numbers(path, "prune", mapping(path, "prune", tree), PRUNE)
    by, warmup = node["by"], node["warmup"]
    if by in (None, False, "off"):
        return None
    if by not in PRUNERS:
        raise PlanError(f"prune.by={by}: no such pruner{near_miss(str(by), PRUNERS)}; choices: {join_choices(PRUNERS)}, off")
    if isinstance(warmup, bool) or not isinstance(warmup, int | float) or not 0 <= warmup < 1:
        raise PlanError(f"prune.warmup={warmup}: must be a share of the epochs, at least 0 and below 1")
    return Prune(by, float(warmup), whole("prune.startup", node["startup"], least=1), whole("prune.audit", node["audit"], least=0))


def allowed(path: Path, value: Any) -> tuple[str, ...]:
    """The node `allow`: what arms may differ in, in the rules' own order."""
    names = value if isinstance(value, list) else [] if value is None else [value]
    for name in names:
        if name not in RULES:
            raise PlanError(f"{path.name}: allow={name}: no such rule{near_miss(str(name), RULES)}; choices: {join_choices(RULES)}")
    return tuple(rule for rule in RULES if rule in names)


def measured(path: Path, tree: Any) -> tuple[str, str]:
    """(name, goal) of the metric that tuning looks at."""
    if isinstance(tree, str):
        tree = {"name": tree}
    tree = mapping(path, "metric", tree)
    for key in tree:
        if key not in ("name", "goal"):
            raise PlanError(f"{path.name}: metric.{key}: no such key{near_miss(key, ('name', 'goal'))}; keys: name, goal")
    name = tree.get("name")
    open_to_tuning = tuple(metric for metric in METRICS if not metric.startswith("test/"))
    if name not in METRICS:
        raise PlanError(f"metric.name={name}: this is never logged{near_miss(str(name), METRICS)}; choices: {join_choices(open_to_tuning)}")
    if name not in open_to_tuning:
        raise PlanError(f"metric.name={name}: the test set must not decide what is tuned; choices: {join_choices(open_to_tuning)}")
    right = "maximize" if name.endswith("accuracy") else "minimize"
    if tree.get("goal", right) != right:
        raise PlanError(f"metric.goal={tree['goal']}: {name} can only be {right}d; goal: {right}")
    return name, right


def margin_of(path: Path, value: Any, metric: str) -> float:
    """The smallest difference that matters, half a point of accuracy where the file does not say."""
    if value is None:
        return MARGINS[metric.rpartition("/")[2]]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise PlanError(f"{path.name}: margin={value}: must be a number, 0 or more")
    return float(value)


def numbers(path: Path, node: str, tree: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """A small node with its defaults filled in."""
    for key in tree:
        if key not in defaults:
            raise PlanError(f"{path.name}: {node}.{key}: no such key{near_miss(key, defaults)}; keys: {join_choices(defaults)}")
    return {**defaults, **tree}


def whole(key: str, value: Any, *, least: int) -> int:
    """A whole number with a lower bound."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise PlanError(f"{key}={value}: must be a whole number, {least} or more")
    return value


def mapping(path: Path, key: str, value: Any) -> dict[str, Any]:
    """A mapping, or an empty one where nothing stands."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise PlanError(f"{path.name}: {key}: must be a mapping, as in {key}: {{name: value}}")
    return {str(name): item for name, item in value.items()}
