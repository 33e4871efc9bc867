"""conf/ and overrides -> `Run`. The only room that composes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bakeoff.config.renamed_targets import current_targets
from bakeoff.config.schema import RunConfig, parse_run_config
from bakeoff.config.slots import GROUPS, SLOTS, package_data_dir
from bakeoff.errors import ChoiceError, ConfigError, join_choices, near_miss

DESCRIPTIVE_KEYS = ("about", "space")
"""Keys of a leaf file that describe it and are no arguments."""


@dataclass(frozen=True)
class SearchSpace:
    """A search range that a choice declares for one of its arguments, or that a sweep gives.

    Where there are `choices`, the values are those, and low and high are the first and the last of their numbers. With `complement`
    1 - x is what is even on a logarithmic scale, as for momenta near 1.
    """

    low: float
    high: float
    log: bool = False
    integer: bool = False
    choices: tuple[str | int | float | bool, ...] = ()
    complement: bool = False


@dataclass(frozen=True)
class ComposedConfig:
    """A composed command line: the run, the spaces that its choices declare (by dotted key), and what belongs to this call alone."""

    run: RunConfig
    spaces: dict[str, SearchSpace]
    trust: tuple[str, ...]
    resume: str | None


def compose(overrides: Sequence[str] = (), *, config_dir: str | Path | None = None) -> RunConfig:
    """The run that a command line `bakeoff train OVERRIDES` describes; checked for names, types and ranges.

    Raises `ConfigError` or `ChoiceError` with one line for the first thing that is wrong.
    """
    return compose_config(overrides, config_dir=config_dir).run


def compose_config(overrides: Sequence[str] = (), *, config_dir: str | Path | None = None) -> ComposedConfig:
    """As `compose`, with the declared search spaces, `trust` and `resume`."""
    with hydra_session(config_dir):
        return compose_in_session(overrides)


@contextmanager
def hydra_session(config_dir: str | Path | None = None) -> Iterator[None]:
    """Hydra set up once for many `composed_here` calls; a folder of the user's own lies over conf/."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    register_search_path()
    top = package_data_dir("conf") if config_dir is None else Path(config_dir).resolve()
    if not top.is_dir():
        raise ConfigError(f"--config-dir={config_dir}: no such folder")
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(top), version_base="1.3", job_name="bakeoff"):
            yield
    finally:
        GlobalHydra.instance().clear()
        if before is not None:
            GlobalHydra.instance().initialize(before)


def register_search_path() -> None:
    """Let every Hydra of this process look into conf/ after its own first folder."""
    from hydra.core.plugins import Plugins
    from hydra.plugins.search_path_plugin import SearchPathPlugin

    class Beneath(SearchPathPlugin):
        def manipulate_search_path(self, search_path: Any) -> None:
            search_path.append("bakeoff", f"file://{package_data_dir('conf')}")

    plugins = Plugins.instance()
    if not any(plugin.__name__ == Beneath.__name__ for plugin in plugins.discover(SearchPathPlugin)):
        plugins.register(Beneath)


def compose_in_session(overrides: Sequence[str] = ()) -> ComposedConfig:
    """One composition inside `session`."""
    from hydra import compose as hydra_compose
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        config = hydra_compose("run", overrides=list(overrides), return_hydra_config=True)
        choices = {group: str(name) for group, name in config.hydra.runtime.choices.items() if group in SLOTS}
        OmegaConf.set_struct(config, False)
        del config["hydra"]
        tree = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except HydraException as error:
        raise explain_hydra_error(error, overrides) from None
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key or 'config'}: {str(error).splitlines()[0]}") from None
    assert isinstance(tree, dict)
    return from_config_tree({str(key): value for key, value in tree.items()}, choices=choices)


def from_config_tree(tree: dict[str, Any], *, choices: Mapping[str, str]) -> ComposedConfig:
    """A composition from Hydra's finished tree."""
    from bakeoff.config.targets import check_target_names

    trust, resume = tree.pop("trust", []), tree.pop("resume", None)
    if not isinstance(trust, list) or not all(isinstance(home, str) for home in trust):
        raise ConfigError(f"trust={trust}: must be a list of module names, as in trust=[mypackage.nets]")
    tree.pop("about", None)  # of an experiment, which lies over the whole config
    spaces: dict[str, SearchSpace] = {}
    for group in GROUPS:
        node = tree.get(group)
        if not isinstance(node, dict):
            continue
        node.pop("about", None)
        for name, value in (node.pop("space", None) or {}).items():
            spaces[f"{group}.{name}"] = parse_search_space(f"{group}.space.{name}", value)
    run = parse_run_config({**tree, "choices": dict(choices)})
    check_target_names(run, trust=tuple(trust))
    return ComposedConfig(run=run, spaces=spaces, trust=tuple(trust), resume=None if resume is None else str(resume))


def parse_search_space(key: str, value: Any) -> SearchSpace:
    """A search space from `{low: 1e-4, high: 1, log: true}`, or from `{choices: [a, b]}`."""
    if isinstance(value, Mapping) and "choices" in value:
        items = value["choices"]
        plain = isinstance(items, list) and all(isinstance(item, str | int | float) for item in items)
        if len(value) > 1 or not plain or len({repr(item) for item in items}) < max(2, len(items)):
            raise ConfigError(f"{key}={value}: must be {{choices: [a, b]}} with two or more plain values, none of them twice")
        return SearchSpace(low=0.0, high=len(items) - 1.0, integer=True, choices=tuple(items))
    if not isinstance(value, Mapping) or not {"low", "high"} <= set(value) or not set(value) <= {"low", "high", "log", "complement"}:
        raise ConfigError(f"{key}={value}: must be {{low: 1e-4, high: 1, log: true}}, or with complement: true for 1 - x on a log scale")
    low, high, log, complement = value["low"], value["high"], value.get("log", False), value.get("complement", False)
    numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in (low, high))
    if not numbers or not low < high or not isinstance(log, bool) or (log and low <= 0):
        raise ConfigError(f"{key}={value}: must have numbers low < high, and low > 0 where log is true")
    if not isinstance(complement, bool) or (complement and (log or high >= 1)):
        raise ConfigError(f"{key}={value}: complement: true is for 1 - x on a log scale: high must be below 1, and log is left out")
    whole = isinstance(low, int) and isinstance(high, int) and not (log or complement)
    return SearchSpace(low=float(low), high=float(high), log=log, integer=whole, complement=complement)


def dump_frozen(run: RunConfig) -> str:
    """The run as YAML, whole and resolved: what `load_frozen` reads."""
    return yaml.safe_dump(run.model_dump(), sort_keys=False, allow_unicode=True, width=120)


def load_frozen(text: str, *, origin: str) -> RunConfig:
    """A run from a stored config, which must be whole and resolved; nothing in it is interpolated, imported or run.

    Raises `ConfigError` for anything else; `origin` says in messages where the text came from.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from bakeoff.config.targets import check_target_names

    try:
        tree = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    except (yaml.YAMLError, OmegaConfBaseException, ValueError) as error:
        raise ConfigError(f"{origin}: not a readable config ({str(error).splitlines()[0]})") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{origin}: not a config")
    for key, value in strings(tree, ""):
        if "${" in value:
            raise ConfigError(f"{origin}: {key}={value}: a stored config must be resolved")
    try:
        run = parse_run_config(current_targets({str(key): value for key, value in tree.items()}))
        check_target_names(run)
    except ConfigError as error:
        raise ConfigError(f"{origin}: {error}") from None
    return run


def strings(node: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every string of a tree, keys included, with the dotted key where it stands."""
    if isinstance(node, str):
        yield path, node
    elif isinstance(node, Mapping):
        for name, value in node.items():
            yield path or str(name), str(name)
            yield from strings(value, f"{path}.{name}".lstrip("."))
    elif isinstance(node, list | tuple):
        for value in node:
            yield from strings(value, path)


def explain_hydra_error(error: Exception, overrides: Sequence[str]) -> ConfigError:
    """Hydra's complaint in this project's one line."""
    from hydra.errors import MissingConfigException

    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        options = [str(option) for option in error.options or ()]
        return ChoiceError(f"{group}={name}: no such choice{near_miss(name, options)}; choices: {join_choices(options) or 'none'}")
    text = " ".join(str(error).split())
    several = re.match(r"Ambiguous value for argument '([^']+)'", text)
    if several:
        return ConfigError(f"{several[1]}: several values make a grid, which -m asks for; a list is written key=[a,b]")
    group_error = re.match(r"Could not override '([^']+)'\. No match in the defaults list", text)
    cause = error.__cause__
    full_key = group_error[1] if group_error else str(getattr(cause, "full_key", "") or "")
    if full_key and (group_error or "is not in struct" in str(cause)):
        *parents, last = full_key.split(".")
        siblings = keys_at(parents, overrides)
        return ConfigError(f"{full_key}: no such key{near_miss(last, siblings)}; keys: {join_choices(siblings)}")
    if full_key and cause is not None:
        return ConfigError(f"{full_key}: {str(cause).splitlines()[0]}")
    return ConfigError(text.removesuffix("See https://hydra.cc/docs/1.2/advanced/override_grammar/basic for details").strip())


def keys_at(parents: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """The keys beside a misspelt one: of the same choices, composed without any other override."""
    from hydra import compose as hydra_compose
    from hydra.errors import HydraException

    chosen = [word for word in overrides if word.split("=")[0] in GROUPS]
    try:
        node: Any = hydra_compose("run", overrides=chosen)
    except HydraException:
        node = hydra_compose("run")
    for parent in parents:
        node = node.get(parent) if hasattr(node, "get") else None
    return [str(key) for key in node if str(key) not in ("_target_", *DESCRIPTIVE_KEYS)] if hasattr(node, "keys") else []
