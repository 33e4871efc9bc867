"""Targets that have moved since results were first recorded.

Fingerprints, plan hashes and stored configs name a target as it was first recorded, so that a move of code changes no result's identity.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RENAMED_TARGETS = {"bakeoff.arms.": "bakeoff.components."}
"""Beginning of a recorded `_target_` -> what stands in its place today."""


def current_targets(config: Any) -> Any:
    """Return a copy of a stored config in which every `_target_` has today's name."""
    return _map_targets(config, RENAMED_TARGETS)


def recorded_targets(config: Any) -> Any:
    """Return a copy of a config in which every `_target_` has the name under which results were first recorded."""
    return _map_targets(config, {today: recorded for recorded, today in RENAMED_TARGETS.items()})


def _map_targets(node: Any, beginnings: Mapping[str, str]) -> Any:
    if isinstance(node, Mapping):
        return {key: _renamed(value, beginnings) if key == "_target_" else _map_targets(value, beginnings) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return type(node)(_map_targets(item, beginnings) for item in node)
    return node


def _renamed(target: Any, beginnings: Mapping[str, str]) -> Any:
    if not isinstance(target, str):
        return target
    for beginning, replacement in beginnings.items():
        if target.startswith(beginning):
            return replacement + target.removeprefix(beginning)
    return target
