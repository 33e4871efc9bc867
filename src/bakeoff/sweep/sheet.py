"""A sweep file and the words behind it on the command line -> a `Sheet`: what was asked, before anything is composed."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bakeoff.composition import Space, space
from bakeoff.errors import ConfigError, PlanError, listed, near_miss
from bakeoff.slots import METRICS, shipped
from bakeoff.sweep.words import flat, parsed, pieces, split_word, text

KEYS = ("question", "factors", "metric", "margin", "blocks", "tune", "budget", "confirm", "fixed", "scales")
NEEDED = KEYS[:3]
BUDGET = {"trials": 16, "sampler": "halton"}
CONFIRM = {"seeds": 10}
SAMPLERS = ("halton", "random", "tpe")
FIRST_SEED = 1001
"""Confirming seeds count from here, so that no seed of the tuning stage is used twice."""
SETTABLE = ("margin", "metric", "metric.name", "metric.goal", "budget.trials", "budget.sampler", "confirm.seeds")
RESERVED = {
    "test": "the test set is for the confirming stage, which scores it once",
    "resume": "a sweep resumes by itself: run the same line again",
    "name": "a sweep names its own runs",
    "tracking.experiment": "a sweep is an experiment of its own, <name>-<hash>",
}
MARGINS = {"accuracy": 0.005, "loss": 0.01}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
Values = dict[str, tuple[Any, ...]]


@dataclass(frozen=True)
class Sheet:
    """A sweep as it was asked for, checked as far as that goes without composing. `fixed` maps keys to override texts, in order."""

    name: str
    origin: Path
    question: str
    metric: str
    goal: str
    margin: float
    factors: Values
    blocks: Values
    tune: dict[str, Space | None]
    trials: int
    sampler: str
    seeds: tuple[int, ...]
    fixed: dict[str, str]
    scale: str | None = None
    workers: int | None = None
    words: tuple[str, ...] = field(default=())


def read(name: str, *, words: Sequence[str] = (), config_dir: str | Path | None = None) -> Sheet:
    """The sheet of a sweep by its name or its file, with the words of the command line applied. `PlanError` for the first thing wrong.

    `key=value` words win over `fixed`, narrow `factors` and `blocks`, and set the plan's own numbers (budget.trials=4); `scale=smoke`
    applies a named set of the file before them.
    """
    path = find(name, config_dir=config_dir)
    tree = load(path)
    given = dict(split_word(word) for word in words)
    workers = given.pop("workers", None)
    scale = given.pop("scale", None)
    for key in tree:
        if key not in KEYS:
            raise PlanError(f"{path.name}: {key}: no such key{near_miss(key, KEYS)}; keys: {listed(KEYS)}")
    for key in NEEDED:
        if not tree.get(key):
            raise PlanError(f"{path.name}: {key}: {'this key is missing' if key not in tree else 'must not be empty'}")
    for key in ("factors", "blocks", "tune", "budget", "confirm", "fixed", "scales"):
        tree[key] = mapping(path, key, tree.get(key))
    fixed = {key: text(value) for key, value in flat(tree["fixed"])}
    for key, value in [*scaled(path, tree["scales"], scale), *given.items()]:
        assign(path, tree, fixed, key, value)
    budget = numbers(path, "budget", tree["budget"], BUDGET)
    confirm = numbers(path, "confirm", tree["confirm"], CONFIRM)
    metric, goal = measured(path, tree["metric"])
    sampler = budget["sampler"]
    if sampler not in SAMPLERS:
        raise PlanError(f"budget.sampler={sampler}: no such sampler{near_miss(str(sampler), SAMPLERS)}; choices: {listed(SAMPLERS)}")
    factors, blocks = values(path, "factors", tree["factors"]), values(path, "blocks", tree["blocks"])
    tune = tuned(path, tree["tune"])
    check_apart(path, factors, blocks, tune, fixed)
    return Sheet(
        name=path.stem,
        origin=path,
        question=" ".join(str(tree["question"]).split()),
        metric=metric,
        goal=goal,
        margin=margin_of(path, tree.get("margin"), metric),
        factors=factors,
        blocks=blocks,
        tune=tune,
        trials=whole(path, "budget.trials", budget["trials"], least=1),
        sampler=str(sampler),
        seeds=seeds_of(path, confirm["seeds"]),
        fixed=fixed,
        scale=scale,
        workers=None if workers is None else whole(path, "workers", parsed("workers", workers), least=1),
        words=tuple(words),
    )


def find(name: str, *, config_dir: str | Path | None = None) -> Path:
    """The file of a sweep: a path, or a name in sweeps/ beside `--config-dir`, in the working folder, or in the package."""
    given = Path(name)
    if given.suffix in (".yaml", ".yml"):
        if not given.is_file():
            raise PlanError(f"sweep {name}: no such file")
        if not NAME.fullmatch(given.stem):
            raise PlanError(f"sweep {name}: the file's name must be letters, digits, '.', '_' and '-'; it names the sweep")
        return given
    homes = [Path("sweeps"), shipped("sweeps")]
    if config_dir is not None:
        homes = [Path(config_dir) / "sweeps", Path(config_dir).resolve().parent / "sweeps", *homes]
    for home in homes:
        if NAME.fullmatch(name) and (home / f"{name}.yaml").is_file():
            return home / f"{name}.yaml"
    known = sorted({path.stem for home in homes for path in home.glob("*.yaml")})
    raise PlanError(f"sweep {name}: no such sweep{near_miss(name, known)}; sweeps: {listed(known) or 'none'}")


def load(path: Path) -> dict[str, Any]:
    """The plain tree of a sweep file; read by OmegaConf, since for plain YAML 1e-3 is a string."""
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        tree = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, OSError) as error:
        raise PlanError(f"{path}: not a readable sweep file ({' '.join(str(error).split())})") from None
    if not isinstance(tree, dict):
        raise PlanError(f"{path}: not a sweep file: it must hold the keys {listed(NEEDED)}")
    return {str(key): value for key, value in tree.items()}


def scaled(path: Path, scales: Mapping[str, Any], scale: str | None) -> Iterator[tuple[str, str]]:
    """The settings of the scale that the command line names."""
    if scale is None:
        return
    if scale not in scales:
        raise PlanError(f"scale={scale}: {path.name} has no such scale{near_miss(scale, scales)}; choices: {listed(scales) or 'none'}")
    for key, value in flat(mapping(path, f"scales.{scale}", scales[scale])):
        yield key, ",".join(map(text, value)) if isinstance(value, list) else text(value)


def assign(path: Path, tree: dict[str, Any], fixed: dict[str, str], key: str, value: str) -> None:
    """One `key=value`: the plan's own number, a narrower factor or block, or a fixed value."""
    for kind in ("factors", "blocks"):
        if key in tree[kind]:
            tree[kind][key] = narrowed(key, tree[kind][key], value, kind)
            return
    if key in tree["tune"]:
        raise PlanError(f"{key}={value}: {path.name} tunes this key; take it out of tune, or give another space there")
    parts = pieces(value)
    if key in SETTABLE:
        first, _, second = key.partition(".")
        if second and not isinstance(tree[first], dict):
            tree[first] = {"name": tree[first]}
        target = tree[first] if second else tree
        target[second or first] = parsed(key, value)
    elif len(parts) > 1:
        several = listed([*tree["factors"], *tree["blocks"]])
        raise PlanError(f"{key}={value}: takes one value here; several are for the factors and blocks of {path.name}: {several}")
    else:
        fixed[key] = value


def narrowed(key: str, choices: Any, value: str, kind: str) -> list[Any]:
    """The values of a factor or block that the command line picks, in the file's order."""
    known = choices if isinstance(choices, list) else [choices]
    chosen: list[int] = []
    for piece in pieces(value):
        found = [i for i, choice in enumerate(known) if piece == text(choice) or parsed(key, piece) == choice]
        if not found:
            names = [text(choice) for choice in known]
            raise PlanError(f"{key}={piece}: not among this sweep's {kind}{near_miss(piece, names)}; choices: {listed(names)}")
        chosen += found
    return [choice for i, choice in enumerate(known) if i in chosen]


def check_apart(path: Path, factors: Values, blocks: Values, tune: Mapping[str, Any], fixed: Mapping[str, Any]) -> None:
    """A key has one part in a sweep."""
    homes: dict[str, str] = {}
    for kind, keys in (("factors", factors), ("blocks", blocks), ("tune", tune), ("fixed", fixed)):
        for key in keys:
            if key in homes:
                raise PlanError(f"{path.name}: {key}: stands in both {homes[key]} and {kind}")
            homes[key] = kind
            if key in RESERVED:
                raise PlanError(f"{key}: {RESERVED[key]}")
            if kind != "fixed" and key in ("seed", "data.split_seed"):
                raise PlanError(f"{path.name}: {kind}.{key}: seeds are no {kind}; confirm.seeds repeats every arm with fresh ones")


def values(path: Path, kind: str, tree: Mapping[str, Any]) -> Values:
    """Lists of plain values, none of them empty or with a value twice."""
    found: Values = {}
    for key, given in tree.items():
        items = given if isinstance(given, list) else [given]
        if not items or any(item is None or item == "" for item in items):
            raise PlanError(f"{path.name}: {kind}.{key}: an empty list; there is nothing to sweep")
        for item in items:
            if not isinstance(item, str | int | float | bool):
                raise PlanError(f"{path.name}: {kind}.{key}={item}: must be a list of names or numbers")
            if isinstance(item, float) and not math.isfinite(item):
                raise PlanError(f"{path.name}: {kind}.{key}={item}: not a finite number")
        names = [text(item) for item in items]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise PlanError(f"{path.name}: {kind}.{key}: {twice} stands there twice")
        found[str(key)] = tuple(items)
    return found


def tuned(path: Path, tree: Mapping[str, Any]) -> dict[str, Space | None]:
    """key -> its space, None where each choice's own is meant."""
    found: dict[str, Space | None] = {}
    for key, value in tree.items():
        if value == "space":
            found[str(key)] = None
            continue
        try:
            found[str(key)] = space(f"tune.{key}", value)
        except ConfigError as error:
            raise PlanError(f"{path.name}: {error}, or the word space for the range that the choice declares") from None
    return found


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
        raise PlanError(f"metric.name={name}: this is never logged{near_miss(str(name), METRICS)}; choices: {listed(open_to_tuning)}")
    if name not in open_to_tuning:
        raise PlanError(f"metric.name={name}: the test set must not decide what is tuned; choices: {listed(open_to_tuning)}")
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


def seeds_of(path: Path, value: Any) -> tuple[int, ...]:
    """How many fresh seeds, or which."""
    if not isinstance(value, list):
        return tuple(range(FIRST_SEED, FIRST_SEED + whole(path, "confirm.seeds", value, least=0)))
    seeds = tuple(whole(path, "confirm.seeds", seed, least=0) for seed in value)
    if len(set(seeds)) < len(seeds):
        raise PlanError(f"{path.name}: confirm.seeds={value}: a seed stands there twice")
    return seeds


def numbers(path: Path, node: str, tree: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """A small node with its defaults filled in."""
    for key in tree:
        if key not in defaults:
            raise PlanError(f"{path.name}: {node}.{key}: no such key{near_miss(key, defaults)}; keys: {listed(defaults)}")
    return {**defaults, **tree}


def whole(path: Path, key: str, value: Any, *, least: int) -> int:
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
