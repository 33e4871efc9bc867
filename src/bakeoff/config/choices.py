"""The files of conf/: the choices of a group, and the descriptive keys of a choice's file.

In addition to `_target_` and the arguments, a choice's file may have these keys, which are removed before anything is built or
fingerprinted:

- about: a one-line description of the choice.
- space: argument -> the range in which a sweep tunes it (`config.search_space`).
- ranges: argument -> its valid values, as `{gt: 0}`, `{ge: 0, lt: 1}`; for a list, those of each number.
- added: argument -> default, for arguments added after the first results; fingerprints omit them at that default.
- decay_kind: the kind of an optimizer's weight decay: L2, decoupled, or a description.
- decoupled_by: the optimizer's argument that makes its weight decay decoupled.

Files in a `_base_` folder are not choices: they hold the common parts of several choices, which list them in `defaults`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bakeoff.config.search_space import SearchSpace, parse_search_space
from bakeoff.config.slots import package_data_dir
from bakeoff.config.user_text import read_yaml_text
from bakeoff.errors import ConfigError, shorten

BASE_FOLDER = "_base_"
MAX_BASES = 4
"""Bases of bases of a choice."""
DESCRIPTIVE_KEYS = ("about", "space", "ranges", "added", "decay_kind", "decoupled_by")
"""Keys of a choice's file that are not arguments."""
BOUNDS = {"gt": float.__gt__, "ge": float.__ge__, "lt": float.__lt__, "le": float.__le__}


@dataclass(frozen=True)
class ValueRange:
    """The valid numbers of an argument: above `gt`, at least `ge`, below `lt`, at most `le`; `note` explains the number."""

    gt: float | None = None
    ge: float | None = None
    lt: float | None = None
    le: float | None = None
    note: str = ""

    def __contains__(self, value: object) -> bool:
        """Return whether the value is a number in the range, or a list of such numbers."""
        if isinstance(value, list):
            return all(item in self for item in value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return all(getattr(self, name) is None or holds(float(value), float(getattr(self, name))) for name, holds in BOUNDS.items())

    def __str__(self) -> str:
        """Return the rule in words: `at least 0 and below 1`."""
        if self.ge is not None and self.lt is None and self.le is None:
            return f"{self.ge:g} or more{self.note and f' ({self.note})'}"
        if self.ge is not None and self.ge == self.le:
            return f"equal to {self.ge:g}{self.note and f' ({self.note})'}"
        words = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
        bounds = [f"{word} {getattr(self, name):g}" for name, word in words.items() if getattr(self, name) is not None]
        return " and ".join(bounds) + (self.note and f" ({self.note})")


@dataclass(frozen=True)
class ChoiceDescription:
    """The descriptive keys of a choice's file; see the module's docstring."""

    spaces: Mapping[str, SearchSpace] = field(default_factory=dict)
    ranges: Mapping[str, ValueRange] = field(default_factory=dict)
    added: Mapping[str, Any] = field(default_factory=dict)
    decay_kind: str | None = None


def choice_files(group: str, config_dir: Path | None = None) -> dict[str, Path]:
    """Return choice -> file of a config group, sorted by name; `sweep` is the group of the shipped sweeps.

    Files in the user's `config_dir` take precedence over conf/.
    """
    folders = [package_data_dir("sweeps")] if group == "sweep" else [package_data_dir("conf") / group]
    if config_dir is not None and group != "sweep":
        folders.append(config_dir / group)
    return dict(sorted((path.stem, path) for folder in folders for path in folder.glob("*.yaml")))


def read_choice(path: Path, *, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read a choice's file, merged over the bases in its `defaults`, without interpolation; `above` are the files that it is a base of.

    Raises:
        ConfigError: It cannot be read, is no mapping, or is a base of itself.
    """
    if path in above or len(above) > MAX_BASES:
        raise ConfigError(f"{above[0]}: defaults: a base of itself, or more than {MAX_BASES} bases of bases")
    tree = yaml.safe_load(read_yaml_text(path)) or {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: not a choice: it must be a mapping, as in _target_: torch.nn.ReLU")
    merged: dict[str, Any] = {}
    bases = tree.pop("defaults", None) or []
    if not isinstance(bases, list):
        raise ConfigError(f"{path}: defaults={shorten(bases)}: must be a list, as in [_base_/optimizer@_here_, _self_]")
    for base in bases:
        if isinstance(base, str) and base.endswith("@_here_"):
            merged |= read_choice(path.parent / f"{base.removesuffix('@_here_')}.yaml", above=(*above, path))
    for key, value in tree.items():
        merged[key] = {**merged[key], **value} if isinstance(value, dict) and isinstance(merged.get(key), dict) else value
    return merged


def pop_description(group: str, node: dict[str, Any]) -> ChoiceDescription:
    """Remove the descriptive keys from a composed choice of a group, and return them.

    Raises:
        ConfigError: A descriptive key has a wrong form.
    """
    described = {key: node.pop(key, None) for key in DESCRIPTIVE_KEYS}
    for key in ("space", "ranges", "added"):
        if not isinstance(described[key] or {}, dict):
            raise ConfigError(f"{group}.{key}={described[key]}: must be a mapping from arguments")
    decoupled = node.get(str(described["decoupled_by"])) is True
    return ChoiceDescription(
        spaces={name: parse_search_space(f"{group}.space.{name}", value) for name, value in (described["space"] or {}).items()},
        ranges={name: _parse_range(f"{group}.ranges.{name}", value) for name, value in (described["ranges"] or {}).items()},
        added=described["added"] or {},
        decay_kind="decoupled" if decoupled else described["decay_kind"],
    )


def _parse_range(key: str, value: Any) -> ValueRange:
    """Read `{ge: 0, lt: 1}`."""
    is_mapping = isinstance(value, dict) and bool(value) and set(value) <= {*BOUNDS, "note"}
    if not is_mapping or not all(isinstance(bound, int | float) for name, bound in value.items() if name != "note"):
        raise ConfigError(f"{key}={value}: must have keys among gt, ge, lt, le and note, as in {{ge: 0, lt: 1}}")
    return ValueRange(**value)


@functools.cache
def describe_target(slot: str, target: str) -> ChoiceDescription:
    """Return the description in the shipped file of a target; empty if no shipped choice has that target."""
    if not (package_data_dir("conf") / slot).is_dir():
        return ChoiceDescription()
    pattern = re.compile(rf"^_target_: {re.escape(target)}\s*$", flags=re.MULTILINE)
    for path in choice_files(slot).values():
        if pattern.search(path.read_text(encoding="utf-8")):
            return pop_description(slot, read_choice(path))
    return ChoiceDescription()
