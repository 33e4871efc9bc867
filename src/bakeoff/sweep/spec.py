"""A sweep file and the words behind it on the command line -> a `Sheet`: what was asked, before anything is composed."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bakeoff.config.slots import package_data_dir
from bakeoff.errors import PlanError, join_choices, near_miss
from bakeoff.sweep import settings
from bakeoff.sweep.overrides import flat, parsed, pieces, split_word, text
from bakeoff.sweep.settings import Budget, Confirm, Prune, Tuning, Values, mapping, whole

KEYS = ("question", "factors", "metric", "margin", "blocks", "tune", "budget", "prune", "confirm", "allow", "baseline", "fixed", "scales")
NEEDED = KEYS[:3]
NODES = {"metric": ("name", "goal"), "budget": tuple(settings.BUDGET), "prune": tuple(settings.PRUNE), "confirm": tuple(settings.CONFIRM)}
SETTABLE = ("margin", "metric", "prune", "allow", "baseline", *(f"{node}.{key}" for node, keys in NODES.items() for key in keys))
RESERVED = {
    "test": "the test set is for the confirming stage, which scores it once",
    "resume": "a sweep resumes by itself: run the same line again",
    "name": "a sweep names its own runs",
    "tracking.experiment": "a sweep is an experiment of its own, <name>-<hash>",
}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class SweepSpec:
    """A sweep as it was asked for, checked as far as that goes without composing. `fixed` maps keys to override texts, in order."""

    name: str
    origin: Path
    question: str
    metric: str
    goal: str
    margin: float
    factors: Values
    blocks: Values
    tune: dict[str, tuple[Tuning, ...]]
    budget: Budget
    prune: Prune | None
    confirm: Confirm
    allow: tuple[str, ...]
    baseline: str | None
    fixed: dict[str, str]
    scale: str | None = None
    workers: int | None = None
    words: tuple[str, ...] = field(default=())

    @property
    def trials(self) -> int:
        """Tuning runs that are planned for an arm in a block, all studies together; a grid may have another number."""
        return self.budget.trials * self.budget.studies

    @property
    def seeds(self) -> tuple[int, ...]:
        """The confirming seeds of the first look."""
        return self.confirm.seeds


def read_spec(name: str, *, words: Sequence[str] = (), config_dir: str | Path | None = None) -> SweepSpec:
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
            raise PlanError(f"{path.name}: {key}: no such key{near_miss(key, KEYS)}; keys: {join_choices(KEYS)}")
    for key in NEEDED:
        if not tree.get(key):
            raise PlanError(f"{path.name}: {key}: {'this key is missing' if key not in tree else 'must not be empty'}")
    for key in ("factors", "blocks", "tune", "budget", "confirm", "fixed", "scales"):
        tree[key] = mapping(path, key, tree.get(key))
    known = {**tree["factors"], **tree["blocks"]}
    fixed = {key: text(value) for key, value in flat(tree["fixed"])}
    for key, value in [*scaled(path, tree["scales"], scale), *given.items()]:
        assign(path, tree, fixed, key, value)
    metric, goal = settings.measured(path, tree["metric"])
    factors, blocks = values(path, "factors", tree["factors"]), values(path, "blocks", tree["blocks"])
    tune = settings.tuned(path, tree["tune"], known)
    check_apart(path, factors, blocks, tune, fixed)
    return SweepSpec(
        name=path.stem,
        origin=path,
        question=" ".join(str(tree["question"]).split()),
        metric=metric,
        goal=goal,
        margin=settings.margin_of(path, tree.get("margin"), metric),
        factors=factors,
        blocks=blocks,
        tune=tune,
        budget=settings.budgeted(path, tree["budget"]),
        prune=settings.pruned(path, tree.get("prune")),
        confirm=settings.confirmed(path, tree["confirm"]),
        allow=settings.allowed(path, tree.get("allow")),
        baseline=None if tree.get("baseline") is None else str(tree["baseline"]),
        fixed=fixed,
        scale=scale,
        workers=None if workers is None else whole("workers", parsed("workers", workers), least=1),
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
    homes = [Path("sweeps"), package_data_dir("sweeps")]
    if config_dir is not None:
        homes = [Path(config_dir) / "sweeps", Path(config_dir).resolve().parent / "sweeps", *homes]
    for home in homes:
        if NAME.fullmatch(name) and (home / f"{name}.yaml").is_file():
            return home / f"{name}.yaml"
    known = sorted({path.stem for home in homes for path in home.glob("*.yaml")})
    raise PlanError(f"sweep {name}: no such sweep{near_miss(name, known)}; sweeps: {join_choices(known) or 'none'}")


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
        raise PlanError(f"{path}: not a sweep file: it must hold the keys {join_choices(NEEDED)}")
    return {str(key): value for key, value in tree.items()}


def scaled(path: Path, scales: Mapping[str, Any], scale: str | None) -> Iterator[tuple[str, str]]:
    """The settings of the scale that the command line names."""
    if scale is None:
        return
    if scale not in scales:
        raise PlanError(
            f"scale={scale}: {path.name} has no such scale{near_miss(scale, scales)}; choices: {join_choices(scales) or 'none'}"
        )
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
        if second and not isinstance(tree.get(first), dict):
            # A node may be written short: the metric's name, or the pruner's.
            tree[first] = {NODES[first][0]: tree[first]} if tree.get(first) else {}
        target = tree[first] if second else tree
        target[second or first] = [parsed(key, part) for part in parts] if len(parts) > 1 else parsed(key, value)
    elif len(parts) > 1:
        several = join_choices([*tree["factors"], *tree["blocks"]])
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
            raise PlanError(f"{key}={piece}: not among this sweep's {kind}{near_miss(piece, names)}; choices: {join_choices(names)}")
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
