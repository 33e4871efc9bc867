"""Limits of the text that people write: YAML files, and the `key=value` words of a command line.

What is too large, too deep or no text is refused before a parser sees it, since parsers answer it with a traceback or not at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from bakeoff.errors import ConfigError, shorten

MAX_FILE_BYTES = 256 * 1024
"""Size of a YAML file."""
MAX_DEPTH = 20
"""Mappings and lists within each other."""
MAX_NODES = 20_000
"""Values of a YAML file, once its aliases are replaced by what they stand for."""
MAX_DIGITS = 40
"""Characters of a whole number."""
MAX_WORD_LENGTH = 8_000
"""Characters of a word of the command line."""
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
FLOAT_TAG, TIMESTAMP_TAG = "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp"
FLOAT = re.compile(
    r"""[-+]?[0-9]+(_[0-9]+)*\.[0-9_]*([eE][-+]?[0-9]+)?$|[-+]?[0-9]+(_[0-9]+)*[eE][-+]?[0-9]+$|\.[0-9]+(_[0-9]+)*([eE][-+][0-9]+)?$
    |[-+]?[0-9]+(_[0-9]+)*(:[0-5]?[0-9])+\.[0-9_]*$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$""",
    re.VERBOSE,
)
"""What OmegaConf takes for a float: plain YAML reads 1e-3 as a text."""
SURROGATE = re.compile("[\ud800-\udfff]")
WHOLE_NUMBER = re.compile(r"[-+]?(0[xXbBoO][0-9a-fA-F_]+|[0-9][0-9_:]*)")


def read_yaml_text(path: Path) -> str:
    """Return the text of a YAML file that someone wrote, once it is within the limits and its syntax is right.

    Raises:
        ConfigError: It cannot be read, or breaks a rule, which the message names with its line.
    """
    if path.exists() and not path.is_file():
        raise ConfigError(f"{path}: is no file")  # a named pipe would be waited for
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigError(f"{path}: too large; a YAML file may have {MAX_FILE_BYTES // 1024} KiB")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}: line {line}: byte {raw[error.start]:#04x} is not UTF-8; save the file as UTF-8") from None
    check_yaml_text(text, origin=str(path))
    return text


def check_yaml_text(text: str, *, origin: str) -> None:
    """Check the syntax and the limits of a YAML text without building anything from it.

    Args:
        text: The text.
        origin: Where it came from, for messages.

    Raises:
        ConfigError: It breaks a rule.
    """
    if len(text) > MAX_FILE_BYTES:
        raise ConfigError(f"{origin}: too large; a YAML text may have {MAX_FILE_BYTES // 1024} KiB")
    if SURROGATE.search(text):
        raise ConfigError(f"{origin}: holds half of a surrogate pair, which is no character")
    try:
        _check_events(yaml.parse(text, Loader=LOADER), origin)
    except yaml.MarkedYAMLError as error:
        mark, problem = error.problem_mark, error.problem or error.context or "not YAML"
        line = f"line {mark.line + 1}: " if mark is not None else ""
        hint = "; indent by spaces, not tabs" if "'\\t'" in problem else ""
        raise ConfigError(f"{origin}: {line}{problem}{hint}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{origin}: not a YAML text ({' '.join(str(error).split())})") from None


def _check_events(events: Iterable[yaml.Event], origin: str) -> None:
    """Follow the events of a YAML parser, counting an alias as what it stands for."""
    sizes: dict[str | None, int] = {}
    open_nodes: list[tuple[str | None, int]] = []
    count = 0
    for event in events:
        place = f"{origin}: line {event.start_mark.line + 1 if event.start_mark is not None else 1}"
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            sizes[anchor] = count - before
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise ConfigError(f"{place}: *{event.anchor} stands for itself, or for nothing above it")
            count += sizes[event.anchor]
        elif isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, count))
            count += 1
        elif isinstance(event, yaml.ScalarEvent):
            _check_scalar(event, place, alone=not open_nodes)
            sizes[event.anchor] = 1
            count += 1
        tag = getattr(event, "tag", None)
        if tag not in (None, "!"):
            raise ConfigError(f"{place}: the tag {shorten(tag)} is not supported; write plain values")
        if len(open_nodes) > MAX_DEPTH:
            raise ConfigError(f"{place}: nested too deeply; {MAX_DEPTH} levels are the limit")
        if count > MAX_NODES:
            raise ConfigError(f"{place}: too many values, aliases included; {MAX_NODES} are the limit")


def _check_scalar(event: yaml.ScalarEvent, place: str, *, alone: bool) -> None:
    """Refuse halves of surrogate pairs, whole numbers of more digits than a parser takes, and a text alone.

    OmegaConf would read the latter as YAML once more, without these checks.
    """
    if alone and event.value:
        raise ConfigError(f"{place}: not a mapping, as in key: value, but {shorten(event.value)}")
    if SURROGATE.search(event.value):
        raise ConfigError(f"{place}: holds half of a surrogate pair, which is no character")
    if not event.style and len(event.value) > MAX_DIGITS and WHOLE_NUMBER.fullmatch(event.value):
        raise ConfigError(f"{place}: {shorten(event.value)}: a whole number may have {MAX_DIGITS} digits; quote it if it is a name")


class ConfigLoader(LOADER):  # type: ignore[misc]  # one of two classes
    """Reads YAML as OmegaConf does, which has it parsed by Python code: 30 times as slow as the C library."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse keys that occur twice."""
        names: set[str | None] = set()
        for key, _ in node.value:
            if key.tag == yaml.resolver.BaseResolver.DEFAULT_SCALAR_TAG and key.value in names:
                raise yaml.constructor.ConstructorError(None, None, f"found duplicate key {key.value}", key.start_mark)
            names.add(key.value if isinstance(key.value, str) else None)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping


ConfigLoader.add_implicit_resolver(FLOAT_TAG, FLOAT, list("-+0123456789."))
ConfigLoader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in resolvers if tag != TIMESTAMP_TAG]
    for letter, resolvers in ConfigLoader.yaml_implicit_resolvers.items()
}


def parse_yaml(text: str) -> Any:
    """Return what OmegaConf would read from a YAML text that `check_yaml_text` has passed: 1e-3 is a number, a date is a text.

    Raises:
        YAMLError: Its keys occur twice, or cannot be keys.
    """
    return yaml.load(text, Loader=ConfigLoader)


def check_words(words: Iterable[str]) -> None:
    """Check `key=value` words of a command line before any parser sees them.

    Raises:
        ConfigError: A word has no key, is too long or too deep, or holds characters that no text has.
    """
    for word in words:
        shown, (key, equals, value) = shorten(word), word.partition("=")
        if len(word) > MAX_WORD_LENGTH:
            raise ConfigError(f"{shown}: too long; a word may have {MAX_WORD_LENGTH} characters")
        if SURROGATE.search(word) or "\0" in word:
            raise ConfigError(f"{shown}: holds bytes that are no UTF-8 text")
        if key.startswith("~"):
            raise ConfigError(f"{shown}: a key cannot be taken out; give it another value, as in {key[1:] or 'key'}=VALUE")
        if not equals or not key.strip("+"):
            raise ConfigError(f"{shown or repr(word)}: not understood; overrides are of the form key=value")
        if key.count(".") >= MAX_DEPTH or _bracket_depth(value) > MAX_DEPTH:
            raise ConfigError(f"{shown}: nested too deeply; {MAX_DEPTH} levels are the limit")
        if re.search(rf"(?<![\w.])[0-9][0-9_]{{{MAX_DIGITS},}}(?![\w.])", value):
            raise ConfigError(f"{shown}: a whole number may have {MAX_DIGITS} digits; quote it if it is a name")


def _bracket_depth(value: str) -> int:
    """Return how many brackets are open at most at one place of a text."""
    depth = deepest = 0
    for letter in value:
        depth += (letter in "[{(") - (letter in "]})")
        deepest = max(deepest, depth)
    return deepest
