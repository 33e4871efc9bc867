"""The files of conf/: which choices a group has, and what a file says about its choice beside the arguments.

Beside `_target_` and the arguments a choice's file may hold these keys. They are taken off before anything is built or fingerprinted:

- about: one line that says what the choice is.
- space: argument -> the range in which a sweep tunes it (`config.search_space`).
- ranges: argument -> the values that it may have, as `{gt: 0}`, `{ge: 0, lt: 1}`; for a list, each of its numbers.
- added: argument -> default, for arguments that came after the first results; fingerprints leave them out at that default.
- decay_kind: for an optimizer, what its weight decay is: L2, decoupled, or in words.
- decoupled_by: the optimizer's argument that makes its weight decay decoupled.

Files in a `_base_` folder are no choices: they hold what several choices share, for the `defaults` of those.
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
from bakeoff.errors import ConfigError

BASE_FOLDER = "_base_"
DESCRIPTIVE_KEYS = ("about", "space", "ranges", "added", "decay_kind", "decoupled_by")
"""Keys of a choice's file that describe it and are no arguments."""
BOUNDS = {"gt": float.__gt__, "ge": float.__ge__, "lt": float.__lt__, "le": float.__le__}


@dataclass(frozen=True)
class ValueRange:
    """The numbers that an argument may be: above `gt`, at least `ge`, below `lt`, at most `le`; `note` says what the number is."""

    gt: float | None = None
    ge: float | None = None
    lt: float | None = None
    le: float | None = None
    note: str = ""

    def __contains__(self, value: object) -> bool:
        """Whether the value is a number in the range, or a list of such numbers."""
        if isinstance(value, list):
            return all(item in self for item in value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return all(getattr(self, name) is None or holds(float(value), float(getattr(self, name))) for name, holds in BOUNDS.items())

    def __str__(self) -> str:
        """The rule in words: `at least 0 and below 1`."""
        if self.ge is not None and self.lt is None and self.le is None:
            return f"{self.ge:g} or more{self.note and f' ({self.note})'}"
        words = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
        bounds = [f"{word} {getattr(self, name):g}" for name, word in words.items() if getattr(self, name) is not None]
        return " and ".join(bounds) + (self.note and f" ({self.note})")


@dataclass(frozen=True)
class ChoiceDescription:
    """What a choice's file says about it beside its arguments; see the module's docstring."""

    spaces: Mapping[str, SearchSpace] = field(default_factory=dict)
    ranges: Mapping[str, ValueRange] = field(default_factory=dict)
    added: Mapping[str, Any] = field(default_factory=dict)
    decay_kind: str | None = None


def choice_files(group: str, config_dir: Path | None = None) -> dict[str, Path]:
    """List the choices of a config group.

    Args:
        group: A slot or another folder of conf/; `sweep` for the shipped sweeps.
        config_dir: A folder of the user's own, whose files win over conf/.

    Returns:
        Choice -> its file, sorted by name.
    """
    folders = [package_data_dir("sweeps")] if group == "sweep" else [package_data_dir("conf") / group]
    if config_dir is not None and group != "sweep":
        folders.append(config_dir / group)
    return dict(sorted((path.stem, path) for folder in folders for path in folder.glob("*.yaml")))


def read_choice(path: Path) -> dict[str, Any]:
    """Read a choice's file with the bases of its `defaults` beneath it, not interpolated."""
    tree = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    merged: dict[str, Any] = {}
    for base in tree.pop("defaults", []):
        if isinstance(base, str) and base.endswith("@_here_"):
            merged |= read_choice(path.parent / f"{base.removesuffix('@_here_')}.yaml")
    for key, value in tree.items():
        merged[key] = {**merged[key], **value} if isinstance(value, dict) and isinstance(merged.get(key), dict) else value
    return merged


def pop_description(group: str, node: dict[str, Any]) -> ChoiceDescription:
    """Take the descriptive keys off a composed choice.

    Args:
        group: The config group, for messages.
        node: The choice's mapping; its descriptive keys are removed.

    Returns:
        What they say.

    Raises:
        ConfigError: A descriptive key has a wrong form.
    """
    taken = {key: node.pop(key, None) for key in DESCRIPTIVE_KEYS}
    for key in ("space", "ranges", "added"):
        if not isinstance(taken[key] or {}, dict):
            raise ConfigError(f"{group}.{key}={taken[key]}: must be a mapping from arguments")
    decoupled = node.get(str(taken["decoupled_by"])) is True
    return ChoiceDescription(
        spaces={name: parse_search_space(f"{group}.space.{name}", value) for name, value in (taken["space"] or {}).items()},
        ranges={name: _parse_range(f"{group}.ranges.{name}", value) for name, value in (taken["ranges"] or {}).items()},
        added=taken["added"] or {},
        decay_kind="decoupled" if decoupled else taken["decay_kind"],
    )


def _parse_range(key: str, value: Any) -> ValueRange:
    """Read `{ge: 0, lt: 1}`."""
    is_mapping = isinstance(value, dict) and bool(value) and set(value) <= {*BOUNDS, "note"}
    if not is_mapping or not all(isinstance(bound, int | float) for name, bound in value.items() if name != "note"):
        raise ConfigError(f"{key}={value}: must be such as {{ge: 0, lt: 1}}, of gt, ge, lt, le, and a note")
    return ValueRange(**value)


@functools.cache
def describe_target(slot: str, target: str) -> ChoiceDescription:
    """Return what the shipped file of a target says; an empty description where no shipped choice has that target."""
    if not (package_data_dir("conf") / slot).is_dir():
        return ChoiceDescription()
    pattern = re.compile(rf"^_target_: {re.escape(target)}\s*$", flags=re.MULTILINE)
    for path in choice_files(slot).values():
        if pattern.search(path.read_text(encoding="utf-8")):
            return pop_description(slot, read_choice(path))
    return ChoiceDescription()
