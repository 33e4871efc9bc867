"""Composition of a `RunConfig` from conf/ and overrides: the only module that uses Hydra."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import itertools
import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bakeoff.config.choices import BASE_FOLDER, DESCRIPTIVE_KEYS, ChoiceDescription, choice_files, pop_description, read_choice
from bakeoff.config.key_names import suggest_key
from bakeoff.config.renamed_targets import current_targets
from bakeoff.config.schema import RunConfig, flatten, parse_run_config
from bakeoff.config.search_space import SearchSpace
from bakeoff.config.slots import GROUPS, SLOTS, package_data_dir
from bakeoff.config.targets import check_names_and_ranges
from bakeoff.config.user_text import check_words, check_yaml_text, parse_yaml, read_yaml_text
from bakeoff.errors import BakeoffError, ChoiceError, ConfigError, echo, join_choices, near_miss, redact, shorten

_LOGGING = {"version": 1, "root": {"level": "ERROR"}, "disable_existing_loggers": True}
HYDRA_NODES: Mapping[str, object] = {"callbacks": {}, "searchpath": [], "hydra_logging": _LOGGING, "job_logging": _LOGGING}
"""Nodes of Hydra's own that could name code, and their only values; launcher and sweeper are those that Hydra itself declares."""
REFERENCE = re.compile(r"\$\{[\w.@/\[\]-]*\}")
"""An interpolation that takes the value of another key."""
DESTINATIONS = ("tracking.uri", "tracking.folder", "hydra.run", "hydra.sweep", "hydra.output_subdir")
"""Where results go, which only the command line says."""
MAX_JOBS = 10_000
"""Runs of a -m line."""


@dataclass(frozen=True)
class ComposedConfig:
    """A composed command line: the run, the descriptions of its choices, and the keys that only concern this call."""

    run: RunConfig
    descriptions: Mapping[str, ChoiceDescription]
    """Config group -> description in the file of its choice."""
    trust: tuple[str, ...]
    """The user's modules whose names may be targets."""
    resume: str | None
    """Id of a run to resume."""

    @property
    def spaces(self) -> dict[str, SearchSpace]:
        """The search spaces that the choices declare, by dotted key."""
        return {f"{group}.{name}": space for group, about in self.descriptions.items() for name, space in about.spaces.items()}

    def check(self, run: RunConfig) -> None:
        """Check the names and ranges of another run of the same choices, such as this one with a changed value."""
        check_names_and_ranges(run, trust=self.trust, descriptions=self.descriptions)


def compose(overrides: Sequence[str] = (), *, config_dir: str | Path | None = None) -> RunConfig:
    """Compose the run of a command line `bakeoff train OVERRIDES`, checked for names, types and ranges.

    Args:
        overrides: `key=value`, as on the command line.
        config_dir: A folder of the user that takes precedence over conf/.

    Returns:
        The run's config.

    Raises:
        ConfigError: For the first error; a `ChoiceError` if it concerns a choice.
    """
    return compose_config(overrides, config_dir=config_dir).run


def compose_config(overrides: Sequence[str] = (), *, config_dir: str | Path | None = None) -> ComposedConfig:
    """Compose like `compose`, and return the choices' descriptions, `trust` and `resume` as well."""
    with hydra_session(config_dir):
        return compose_in_session(overrides)


@contextmanager
def hydra_session(config_dir: str | Path | None = None) -> Iterator[None]:
    """Set up Hydra once for many calls of `compose_in_session`; the user's `config_dir` takes precedence over conf/."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    register_search_path()
    outer_session = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(_first_folder(config_dir), version_base="1.3", job_name="bakeoff"):
            yield
    finally:
        GlobalHydra.instance().clear()
        if outer_session is not None:
            GlobalHydra.instance().initialize(outer_session)


def _first_folder(config_dir: str | Path | None) -> str:
    """Return the folder that Hydra searches first: the user's, whose files must be readable YAML, or conf/."""
    if config_dir is None:
        return str(package_data_dir("conf"))
    folder = Path(config_dir).resolve()
    if not folder.is_dir():
        raise ConfigError(f"--config-dir={config_dir}: no such folder")
    for pattern in ("*.yaml", *(f"{group}/{place}*.yaml" for group in GROUPS for place in ("", f"{BASE_FOLDER}/"))):
        for path in sorted(folder.glob(pattern)):
            read_yaml_text(path)
    _check_search_path(folder / "run.yaml")
    return str(folder)


def _check_search_path(file: Path) -> None:
    """Refuse a search path in the file that composition begins with: Hydra would import its packages before anything can be checked."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    search_path = None
    with contextlib.suppress(OSError, ValueError, yaml.YAMLError, OmegaConfBaseException):  # Hydra says what is wrong with the file
        search_path = OmegaConf.select(OmegaConf.load(file), "hydra.searchpath")
    if search_path is not None:
        raise _FixedNodeError("hydra.searchpath")


class _FixedNodeError(ConfigError):
    """Hydra's own nodes are not for users."""

    def __init__(self, key: str) -> None:
        super().__init__(f"{key}: is fixed; neither a file nor the command line may change it, for it could name code to run")


def check_hydra_nodes(overrides: Sequence[str]) -> None:
    """Compose a command line inside a `hydra_session`, and refuse values of Hydra's own nodes that could name code."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from hydra.types import RunMode

    check_words(overrides)
    loader = GlobalHydra.instance().config_loader()
    try:
        config = loader.load_configuration("run", list(overrides), run_mode=RunMode.RUN, validate_sweep_overrides=False)
    except HydraException as error:
        raise explain_hydra_error(error, overrides) from None
    _check_hydra_nodes(config)


def _check_hydra_nodes(config: Any) -> None:
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf

    declared = {name: ConfigStore.instance().load(f"hydra/{name}/basic.yaml").node for name in ("launcher", "sweeper")}
    for name, value in {**HYDRA_NODES, **declared}.items():
        if OmegaConf.to_container(config.hydra[name], resolve=False) != value:
            raise _FixedNodeError(f"hydra.{name}")


def _check_destinations(config: Any, overrides: Sequence[str]) -> None:
    """Refuse places for results that neither a shipped file of the chosen `tracking` nor the command line names."""
    from omegaconf import OmegaConf

    words = dict(word.lstrip("+").partition("=")[::2] for word in overrides)
    files = choice_files("tracking")
    local, chosen = read_choice(files["local"]), read_choice(files.get(words.get("tracking", ""), files["local"]))
    shipped = {"tracking": local | chosen, **yaml.safe_load(read_yaml_text(package_data_dir("conf") / "run.yaml"))}
    for key in DESTINATIONS:
        group, _, name = key.partition(".")
        node: Any = OmegaConf.to_container(config[group], resolve=False)
        value = node.get(name, shipped[group][name])
        if value != shipped[group][name] and not any(word == key or word.startswith(f"{key}.") for word in words):
            raise ConfigError(f"{key}={shorten(value)}: stands in a file; only the command line may say where results go")


def register_search_path() -> None:
    """Add conf/ to the search path of Hydra in this process."""
    from hydra.core.plugins import Plugins
    from hydra.plugins.search_path_plugin import SearchPathPlugin

    class PackageConf(SearchPathPlugin):
        def manipulate_search_path(self, search_path: Any) -> None:
            search_path.append("bakeoff", f"file://{package_data_dir('conf')}")

    plugins = Plugins.instance()
    if not any(plugin.__name__ == PackageConf.__name__ for plugin in plugins.discover(SearchPathPlugin)):
        plugins.register(PackageConf)


def compose_in_session(overrides: Sequence[str] = ()) -> ComposedConfig:
    """Compose a command line inside a `hydra_session`; errors are those of `compose`."""
    from hydra import compose as hydra_compose
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    check_words(overrides)
    if any(word.lstrip("+").startswith("hydra.searchpath") for word in overrides):  # before Hydra imports what it names
        raise _FixedNodeError("hydra.searchpath")
    try:
        config = hydra_compose("run", overrides=list(overrides), return_hydra_config=True)
        _check_hydra_nodes(config)
        _check_destinations(config, overrides)
        choices = {group: str(name) for group, name in config.hydra.runtime.choices.items() if group in SLOTS}
        OmegaConf.set_struct(config, False)
        del config["hydra"]
        for key, value in strings(OmegaConf.to_container(config, resolve=False)):
            if calls_resolver(value) and not any(value in word for word in overrides):
                raise ConfigError(f"{key}={value}: a file may refer to other keys only; on the command line {key}=... may say this")
        tree = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except HydraException as error:
        raise explain_hydra_error(error, overrides) from None
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key or 'config'}: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise ConfigError("--config-dir: the defaults of a chosen file name that file again") from None
    except BakeoffError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, AssertionError) as error:  # of Hydra's own, for a choice that is no text
        word = next((word for word in overrides if re.fullmatch(rf"\+*({'|'.join(GROUPS)})=(null|[\[{{].*)", word, re.DOTALL)), None)
        raise ConfigError(f"{word}: must be the name of a choice" if word else f"{type(error).__name__}: {error}") from None
    assert isinstance(tree, dict)
    if tree.get("trust") != _trust_of(overrides):
        raise ConfigError(f"trust={tree.get('trust')}: stands in a file; only the command line may trust modules")
    return _from_config_tree({str(key): value for key, value in tree.items()}, choices=choices)


def calls_resolver(text: str) -> bool:
    """Return whether OmegaConf would call a function for a text, as for `${oc.env:HOME}`, rather than look up keys alone."""
    while (simpler := REFERENCE.sub("_", text)) != text:
        text = simpler
    return "${" in text


def _trust_of(overrides: Sequence[str]) -> Any:
    """Return the value of `trust` on a command line, inside a `hydra_session`."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    words = [word for word in overrides if word.partition("=")[0].lstrip("+") == "trust"]
    return [override.value() for override in OverridesParser.create().parse_overrides(words)][-1] if words else []


def _from_config_tree(tree: dict[str, Any], *, choices: Mapping[str, str]) -> ComposedConfig:
    """Split Hydra's resolved tree into run, descriptions, `trust` and `resume`, and check the run."""
    trust, resume = tree.pop("trust", []), tree.pop("resume", None)
    if not isinstance(trust, list) or not all(isinstance(module, str) for module in trust):
        raise ConfigError(f"trust={trust}: must be a list of module names, as in trust=[mypackage.nets]")
    for module in trust:
        _check_importable(module)
    for group, name in choices.items():
        if name.endswith((".yaml", ".yml")):
            raise ChoiceError(f"{group}={name}: a choice has the name of its file without the ending: {group}={name.rpartition('.')[0]}")
        if any(part in ("", ".", "..") for part in name.split("/")):
            raise ChoiceError(f"{group}={name}: must be the name of a choice, not a path")
    tree.pop("about", None)  # of an experiment, which is merged into the top level
    nodes = {group: tree[group] for group in GROUPS if isinstance(tree.get(group), dict)}
    composed = ComposedConfig(
        descriptions={group: pop_description(group, node) for group, node in nodes.items()},
        run=parse_run_config({**tree, "choices": dict(choices)}),
        trust=tuple(trust),
        resume=None if resume is None else str(resume),
    )
    composed.check(composed.run)
    return composed


def _check_importable(module: str) -> None:
    """Check that Python finds a trusted module; packages above it are imported, the module itself is not."""
    try:
        spec = importlib.util.find_spec(module) if all(word.isidentifier() for word in module.split(".")) else None
    except (ImportError, ValueError, AttributeError):
        spec = None
    if spec is None:
        raise ConfigError(f"trust=[{module}]: Python finds no module of this name; it must be installed, or below a folder of PYTHONPATH")


def split_multirun(overrides: Sequence[str]) -> list[list[str]]:
    """Return the overrides of each job of a -m line, inside a `hydra_session`: all combinations of the values, the last key fastest.

    Raises:
        ConfigError: An override violates Hydra's grammar, or names another sweeper or launcher.
    """
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    check_words(overrides)
    values: dict[str, list[str]] = {}
    try:
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        for override in parser.parse_overrides(list(overrides)):
            key = override.get_key_element()
            if key.lstrip("+").startswith(("hydra/sweeper", "hydra/launcher", "hydra.sweeper", "hydra.launcher")):
                raise ConfigError(f"{override.input_line}: not supported; bakeoff itself runs the jobs of -m, one after the other")
            if override.is_sweep_override() and not override.is_discrete_sweep():
                raise ConfigError(f"{override.input_line}: {_list_instead(key, override.value())}")
            try:
                texts = override.sweep_string_iterator() if override.is_sweep_override() else [override.get_value_element_as_str()]
                values[key] = [f"{key}={text}" for text in itertools.islice(texts, MAX_JOBS + 1)]
            except ValueError as error:
                raise ConfigError(f"{override.input_line}: {error}") from None
            if not values[key]:
                raise ConfigError(f"{override.input_line}: holds no value; -m needs one or more, as in key=1,2,3")
    except HydraException as error:
        raise explain_hydra_error(error, overrides) from None
    jobs = math.prod(map(len, values.values()))
    if jobs > MAX_JOBS:
        raise ConfigError(f"-m: {' '.join(overrides)[:200]} makes more than {MAX_JOBS} runs")
    return [list(job) for job in itertools.product(*values.values())]


def _list_instead(key: str, interval: Any) -> str:
    """Return what to type instead of an interval, of which only a sweep can try a number."""
    low, high = float(interval.start), float(interval.end)
    middle = math.sqrt(low * high) if 0 < low < high else (low + high) / 2
    return f"-m needs a list of values, as in {key}={low:g},{middle:.3g},{high:g}; an interval is searched by a sweep, under tune"


def record_multirun(overrides: Sequence[str]) -> None:
    """Write the config of a -m line to `multirun.yaml` in the folder `hydra.sweep.dir`, as Hydra's sweeper does."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode
    from omegaconf import OmegaConf

    config = GlobalHydra.instance().config_loader().load_configuration("run", list(overrides), run_mode=RunMode.MULTIRUN)
    folder = Path(config.hydra.sweep.dir)
    folder.mkdir(parents=True, exist_ok=True)
    text = OmegaConf.to_yaml(config)
    for value in {value for _, value in strings(OmegaConf.to_container(config, resolve=False)) if value != redact(value)}:
        text = text.replace(value, redact(value))
    (folder / "multirun.yaml").write_text(text, encoding="utf-8")


def show_by_hydra(words: Sequence[str], *, config_dir: Path | None) -> int:
    """Let Hydra answer a `bakeoff train` line that runs nothing, such as --help, --cfg, --info or --shell-completion.

    `words` are the arguments of the line, `config_dir` its --config-dir. Returns the exit code.
    """
    import hydra

    register_search_path()
    # The user's folder comes first; Hydra's own flag would search it after conf/.
    flags = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    flags.add_argument("--config-dir", "-cd")
    sys.argv = ["bakeoff", *flags.parse_known_args(list(words))[1]]
    page = io.StringIO()
    code = 0
    try:
        with contextlib.redirect_stdout(page):
            hydra.main(config_path=_first_folder(config_dir), config_name="run", version_base="1.3")(lambda config: None)()
    except SystemExit as exit_request:
        code = int(exit_request.code or 0)
    finally:
        # Bases are not choices, but Hydra cannot hide a group.
        lines = [line for line in page.getvalue().splitlines(keepends=True) if not re.match(rf"\w+/{BASE_FOLDER}: ", line)]
        text = re.sub(rf"\S+/{BASE_FOLDER}\S*[ \t]?", "", "".join(lines)) if "query" in " ".join(words) else "".join(lines)
        echo(text.removesuffix("\n"))
    return code


def dump_frozen(run: RunConfig) -> str:
    """Return the run as YAML for `load_frozen`: resolved, with all defaults, and without the password of the store's address."""
    tree = run.model_dump()
    tree["tracking"]["uri"] = redact(run.tracking.uri) if run.tracking.uri is not None else None
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=120)


def load_frozen(text: str, *, origin: str) -> RunConfig:
    """Read a config that `dump_frozen` of this or an earlier version stored; nothing in it is interpolated, imported or run.

    Args:
        text: The YAML text.
        origin: The source of the text, for messages.

    Returns:
        The run's config, with checked names and ranges.

    Raises:
        ConfigError: The text is not such a config.
    """
    check_yaml_text(text, origin=origin)
    try:
        tree = parse_yaml(text)
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{origin}: not a readable config ({str(error).splitlines()[0]})") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{origin}: not a config, which is a mapping")
    for key, value in strings(tree):
        if "${" in value:
            raise ConfigError(f"{origin}: {key}={value}: a stored config must be resolved")
    try:
        run = parse_run_config(current_targets({str(key): value for key, value in tree.items()}))
        check_names_and_ranges(run)
    except ConfigError as error:
        raise ConfigError(f"{origin}: {error}") from None
    return run


def strings(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield every string of a tree, keys included, with its dotted key."""
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
    """Return the error to raise for a HydraException inside a `hydra_session`: a line that names key, value and choices."""
    from hydra.errors import MissingConfigException

    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        options = [str(option) for option in error.options or ()]
        return ChoiceError(f"{group}={name}: no such choice{near_miss(name, options)}; choices: {join_choices(options) or 'none'}")
    text = " ".join(str(error).split())
    ambiguous = re.match(r"Ambiguous value for argument '([^']+)'", text)
    ambiguous = ambiguous or re.match(r"Sweep parameters '(.+)' requires --multirun", text)
    if ambiguous:
        return ConfigError(f"{ambiguous[1]}: several values are a grid, which needs -m; write a list as key=[a,b]")
    unknown_group = re.match(r"Could not override '([^']+)'\. No match in the defaults list", text)
    cause = error.__cause__
    full_key = unknown_group[1] if unknown_group else str(getattr(cause, "full_key", "") or "")
    if full_key and (unknown_group or "is not in struct" in str(cause)):
        node = _composed_choices(overrides)
        siblings = _keys_at(node, full_key.split(".")[:-1])
        hint = suggest_key(full_key, keys=[key for key, _ in flatten(node)], siblings=siblings)
        return ConfigError(f"{full_key}: no such key{hint}")
    if full_key and cause is not None:
        return ConfigError(f"{full_key}: {str(cause).splitlines()[0]}")
    text = text.removesuffix("See https://hydra.cc/docs/1.2/advanced/override_grammar/basic for details").strip()
    override = getattr(error, "override", None)
    key, _, value = str(override).partition("=")
    if value.startswith("~"):
        text = f"a value that begins with ~ needs quotes, as in \"{key}='{value}'\""
    return ConfigError(text if override is None or override in text else f"{override}: {text}")


def _composed_choices(overrides: Sequence[str]) -> dict[str, Any]:
    """Return the tree composed with the chosen config groups but without any other override."""
    from hydra import compose as hydra_compose
    from hydra.errors import HydraException
    from omegaconf import OmegaConf

    chosen = [word for word in overrides if word.split("=")[0] in GROUPS]
    try:
        config = hydra_compose("run", overrides=chosen)
    except HydraException:
        config = hydra_compose("run")
    tree = OmegaConf.to_container(config, resolve=False)
    assert isinstance(tree, dict)
    return {
        str(name): {key: value for key, value in node.items() if key not in ("_target_", *DESCRIPTIVE_KEYS)}
        if isinstance(node, dict)
        else node
        for name, node in tree.items()
    }


def _keys_at(node: Any, parents: Sequence[str]) -> list[str]:
    """Return the keys below `parents`."""
    for parent in parents:
        node = node.get(parent) if isinstance(node, dict) else None
    return [str(key) for key in node if key != "_target_"] if isinstance(node, dict) else []
