"""Targets that have moved since results were first recorded.

Fingerprints, plan hashes and stored configs use the name under which a target was first recorded, so that moving code does not change
the identity of a result.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RENAMED_TARGETS = {"bakeoff.arms.": "bakeoff.components."}
"""Prefix of a recorded `_target_` -> its present prefix."""


def current_targets(config: Any) -> Any:
    """Return a copy of a stored config in which every `_target_` has its present name."""
    return _map_targets(config, RENAMED_TARGETS)


def recorded_targets(config: Any) -> Any:
    """Return a copy of a config in which every `_target_` has the name under which results were first recorded."""
    return _map_targets(config, {present: recorded for recorded, present in RENAMED_TARGETS.items()})


def _map_targets(node: Any, prefixes: Mapping[str, str]) -> Any:
    if isinstance(node, Mapping):
        return {key: _renamed(value, prefixes) if key == "_target_" else _map_targets(value, prefixes) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return type(node)(_map_targets(item, prefixes) for item in node)
    return node


def _renamed(target: Any, prefixes: Mapping[str, str]) -> Any:
    for prefix, replacement in prefixes.items():
        if isinstance(target, str) and target.startswith(prefix):
            return replacement + target.removeprefix(prefix)
    return target
