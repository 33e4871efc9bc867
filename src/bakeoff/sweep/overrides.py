"""`key=value` words of a command line: taking them apart, and writing values as Hydra reads them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from bakeoff.errors import PlanError

PLAIN = re.compile(r"[A-Za-z_./][A-Za-z0-9_./@+-]*")
LITERALS = ("true", "false", "null", "nan", "inf")


def split_word(word: str) -> tuple[str, str]:
    """Split one override into (key, value); a `+` before the key is dropped. `PlanError` for anything else."""
    key, equals, value = word.partition("=")
    key = key.lstrip("+")
    if not equals or not key or key.startswith("~"):
        raise PlanError(f"{word}: not understood; a sweep takes overrides of the form key=value")
    return key, value


def pieces(value: str) -> list[str]:
    """The value's parts between commas that stand outside all brackets and quotes."""
    parts, depth, quote, start = [], 0, "", 0
    for place, letter in enumerate(value):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in "[{(":
            depth += 1
        elif letter in "]})":
            depth -= 1
        elif letter == "," and depth == 0:
            parts.append(value[start:place].strip())
            start = place + 1
    return [*parts, value[start:].strip()]


def parsed(key: str, value: str) -> Any:
    """A value's text as OmegaConf reads it: 1e-3 is a number. Text that it cannot read stays text."""
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        tree = OmegaConf.to_container(OmegaConf.create(f"value: {value}"), resolve=True)
    except (yaml.YAMLError, OmegaConfBaseException, ValueError):
        return value
    assert isinstance(tree, dict), key
    return tree.get("value")


def text(value: Any) -> str:
    """A value as an override's text, which Hydra reads back as the same value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(text, value)) + "]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{text(item)}" for key, item in value.items()) + "}"
    word = str(value)
    if PLAIN.fullmatch(word) and word.lower() not in LITERALS:
        return word
    return "'" + word.replace("\\", "\\\\").replace("'", "\\'") + "'"


def flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and their values."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
