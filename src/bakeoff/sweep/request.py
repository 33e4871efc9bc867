"""A sweep as it is asked for: its file, with the overrides of the command line applied."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bakeoff.config.compose import calls_resolver, strings
from bakeoff.config.schema import MAX_PATH
from bakeoff.config.slots import package_data_dir
from bakeoff.config.user_text import check_words, read_yaml_text
from bakeoff.config.validation_errors import explain_validation_error
from bakeoff.errors import ConfigError, PlanError, join_choices, near_miss, shorten
from bakeoff.sweep.overrides import flat, parsed, pieces, split_word, text
from bakeoff.sweep.spec import SweepSpec

MAX_WORKERS = 256
"""Worker processes of a sweep."""
MAX_NAME = 100
"""Characters of a sweep's name, which its folders, experiment and runs have in theirs."""
SETTINGS = ("margin", "metric", "prune", "allow", "baseline", "budget", "confirm")
"""Keys of a sweep file that the command line may set, with everything below them."""
SHORT_FORMS = {"metric": "name", "prune": "by"}
"""Nodes that a file may write as one plain value, and the key that the value is for."""
RESERVED = {
    "test": "the test set is for the confirming stage, which scores it once",
    "resume": "a sweep resumes by itself: run the same command again",
    "name": "a sweep names its own runs",
    "tracking.experiment": "a sweep is an experiment of its own, <name>-<hash>",
}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
KEY = re.compile(r"(?!(?:trust|hydra)\b|tracking(?:\.uri\b|\.folder\b|$))\w+(?:[./]\w+)*")
"""A key that a sweep file may set: plain, and neither `trust`, nor where results go, nor one of Hydra's own."""
Assignments = list[tuple[str, str]]


@dataclass(frozen=True)
class SweepRequest:
    """A sweep file with the command line applied, before anything is composed.

    `fixed` maps keys of the run config to override texts, in order; `spec` has the narrowed factors and blocks.
    """

    name: str
    path: Path
    spec: SweepSpec
    fixed: dict[str, str]
    overrides: tuple[str, ...] = ()
    scale: str | None = None
    workers: int | None = None
    config_dir: str | None = None


def read_request(name: str, *, overrides: Sequence[str] = (), config_dir: str | Path | None = None) -> SweepRequest:
    """Read a sweep file and apply overrides: `fixed` values, narrower factors and blocks, and settings such as budget.trials=4.

    Args:
        name: The sweep's name, or the path of its file.
        overrides: `key=value` words; `scale=NAME` applies a named set of the file before the others.
        config_dir: A folder of the user's own, whose sweeps/ is searched first.

    Raises:
        PlanError: For the first thing that is wrong.
    """
    check_words(overrides)
    for word in overrides:
        check_functions(word)
    path = find_sweep_file(name, config_dir=config_dir)
    tree = load_sweep_file(path)
    spec = parse_spec(tree, prefix=f"{path.name}: ")
    check_keys(spec, path)
    values = dict(split_word(override) for override in overrides)
    workers, scale = values.pop("workers", None), values.pop("scale", None)
    assignments = [*scale_values(spec, scale, path), *values.items()]
    settings = [(key, value) for key, value in assignments if key.partition(".")[0] in SETTINGS]
    if settings:
        spec = parse_spec(apply_settings(tree, settings), prefix="")
    fixed = {key: text(value) for key, value in flat(spec.fixed)}
    swept: dict[str, dict[str, Any]] = {"factors": dict(spec.factors), "blocks": dict(spec.blocks)}
    for key, value in assignments:
        if key in spec.tune:
            raise PlanError(f"{key}={value}: {path.name} tunes this key; take it out of tune, or give another space there")
        part = next((part for part in swept if key in swept[part]), None)
        if part is not None:
            swept[part][key] = pick_values(key, swept[part][key], value, part)
        elif key.partition(".")[0] not in SETTINGS:
            if len(pieces(value)) > 1:
                several = join_choices([*spec.factors, *spec.blocks])
                raise PlanError(f"{key}={value}: takes one value here; several are for the factors and blocks of {path.name}: {several}")
            fixed[key] = value
    check_single_roles(spec, fixed, path)
    return SweepRequest(
        name=path.stem,
        path=path,
        spec=spec.model_copy(update=swept),
        fixed=fixed,
        overrides=tuple(overrides),
        scale=scale,
        workers=None if workers is None else parse_workers(workers),
        config_dir=None if config_dir is None else str(config_dir),
    )


def check_functions(word: str) -> None:
    """Refuse Hydra's functions, with the word to type instead."""
    key, _, value = word.partition("=")
    function = re.fullmatch(r"(choice|range|interval|glob)\((.*)\)", value, re.DOTALL)
    if function is not None:
        name, inside = function.groups()
        instead = {
            "choice": f"write {key}={inside}",
            "interval": f"an interval stands in the sweep's file, as in tune: {{{key}: {{low: 0.001, high: 1, log: true}}}}",
        }
        raise PlanError(f"{word}: {instead.get(name, f'a sweep takes a list of values, as in {key}=1,2,3')}")


def find_sweep_file(name: str, *, config_dir: str | Path | None = None) -> Path:
    """Find a sweep file by its path, or by its name in sweeps/ beside `config_dir`, in the working folder, or in the package.

    Raises:
        PlanError: There is none.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if not NAME.fullmatch(path.stem) or len(path.stem) > MAX_NAME:
            rule = f"the file's name must be up to {MAX_NAME} letters, digits, '.', '_' and '-'; it names the sweep"
            raise PlanError(f"sweep {shorten(name)}: {rule}")
        if len(name) > MAX_PATH or not path.is_file():
            raise PlanError(f"sweep {shorten(name)}: no such file")
        return path
    folders = [Path("sweeps"), package_data_dir("sweeps")]
    if config_dir is not None:
        folders = [Path(config_dir) / "sweeps", Path(config_dir).resolve().parent / "sweeps", *folders]
    for folder in folders:
        if NAME.fullmatch(name) and len(name) <= MAX_NAME and (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    names = sorted({path.stem for folder in folders for path in folder.glob("*.yaml")})
    raise PlanError(f"sweep {shorten(name)}: no such sweep{near_miss(name, names)}; sweeps: {join_choices(names) or 'none'}")


def shadowed_sweep(path: Path) -> str | None:
    """Say in one line that a sweep file has the name of a shipped one, and is taken in its place; None where it is not so."""
    shipped = package_data_dir("sweeps") / path.name
    if not shipped.is_file() or shipped.samefile(path):
        return None
    return f"{path} is taken in place of the shipped sweep {path.stem}"


def load_sweep_file(path: Path) -> dict[str, Any]:
    """Read a sweep file as plain values; by OmegaConf, since for plain YAML 1e-3 is a string.

    Raises:
        PlanError: It is no mapping, or not readable.
    """
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        config = OmegaConf.load(io.StringIO(read_yaml_text(path)))
        for key, value in strings(OmegaConf.to_container(config, resolve=False)):
            if calls_resolver(value):
                raise PlanError(f"{path.name}: {key}={value}: a sweep file may refer to other keys of its own only")
        tree = OmegaConf.to_container(config, resolve=True)
    except ConfigError as error:
        raise PlanError(str(error)) from None
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, OSError) as error:
        raise PlanError(f"{path}: not a readable sweep file ({' '.join(str(error).split())})") from None
    if not isinstance(tree, dict):
        raise PlanError(f"{path}: not a sweep file: it must hold the keys question, factors, metric")
    return {str(key): value for key, value in tree.items()}


def parse_spec(tree: Mapping[str, Any], *, prefix: str) -> SweepSpec:
    """Check the content of a sweep file.

    Args:
        tree: The file's plain values.
        prefix: What a message begins with.

    Raises:
        PlanError: For the first thing that is wrong.
    """
    try:
        return SweepSpec.model_validate(dict(tree))
    except ValidationError as error:
        raise PlanError(prefix + explain_validation_error(error, SweepSpec)) from None


def check_keys(spec: SweepSpec, path: Path) -> None:
    """Refuse keys that only the command line may set, and whatever Hydra would read as more than a key."""
    trees = [spec.fixed, spec.factors, spec.blocks, spec.tune, *spec.scales.values()]
    for key in itertools.chain.from_iterable(dict(flat(tree)) for tree in trees):
        if not KEY.fullmatch(key):
            raise PlanError(
                f"{path.name}: {key}: a sweep file cannot set this; it takes keys of the run config, and trust=[...] and where results "
                "go stand on the command line alone"
            )


def scale_values(spec: SweepSpec, scale: str | None, path: Path) -> Iterator[tuple[str, str]]:
    """The assignments of the scale that the command line names."""
    if scale is None:
        return
    if scale not in spec.scales:
        choices = join_choices(spec.scales) or "none"
        raise PlanError(f"scale={scale}: {path.name} has no such scale{near_miss(scale, spec.scales)}; choices: {choices}")
    for key, value in flat(spec.scales[scale]):
        yield key, ",".join(map(text, value)) if isinstance(value, list) else text(value)


def apply_settings(tree: Mapping[str, Any], settings: Assignments) -> dict[str, Any]:
    """The file's values with settings of the command line on top."""
    changed = dict(tree)
    for key, value in settings:
        parts = pieces(value)
        new = [parsed(key, part) for part in parts] if len(parts) > 1 else parsed(key, value)
        node, _, name = key.partition(".")
        if not name:
            changed[node] = new
            continue
        old = changed.get(node)
        short = {SHORT_FORMS[node]: old} if old and node in SHORT_FORMS else {}
        changed[node] = {**(old if isinstance(old, Mapping) else short), name: new}
    return changed


def pick_values(key: str, values: tuple[Any, ...], value: str, part: str) -> tuple[Any, ...]:
    """The values of a factor or block that the command line picks, in the file's order."""
    chosen: set[int] = set()
    for piece in pieces(value):
        matches = {i for i, choice in enumerate(values) if piece == text(choice) or parsed(key, piece) == choice}
        if not matches:
            names = [text(choice) for choice in values]
            raise PlanError(f"{key}={piece}: not among this sweep's {part}{near_miss(piece, names)}; choices: {join_choices(names)}")
        chosen |= matches
    return tuple(choice for i, choice in enumerate(values) if i in chosen)


def parse_workers(value: str) -> int:
    """The number of workers that the command line asks for."""
    workers = parsed("workers", value)
    if isinstance(workers, bool) or not isinstance(workers, int) or not 1 <= workers <= MAX_WORKERS:
        raise PlanError(f"workers={value}: must be a whole number, 1 or more and at most {MAX_WORKERS}")
    return workers


def check_single_roles(spec: SweepSpec, fixed: Mapping[str, str], path: Path) -> None:
    """A key is a factor, a block, tuned or fixed, and only one of these; some keys are none of them."""
    roles: dict[str, str] = {}
    for role, keys in (("factors", spec.factors), ("blocks", spec.blocks), ("tune", spec.tune), ("fixed", fixed)):
        for key in keys:
            if key in roles:
                raise PlanError(f"{path.name}: {key}: stands in both {roles[key]} and {role}")
            roles[key] = role
            if key in RESERVED:
                raise PlanError(f"{key}: {RESERVED[key]}")
            if role != "fixed" and key in ("seed", "data.split_seed"):
                raise PlanError(f"{path.name}: {role}.{key}: seeds are no {role}; confirm.seeds repeats every arm with fresh ones")
