"""What commands beside `train` and `sweep` take from the shell: flags of their own, and overrides of where things are."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from bakeoff.errors import ConfigError

if TYPE_CHECKING:
    from bakeoff.config.compose import ComposedConfig


def arguments(
    name: str,
    about: str | None,
    argv: list[str],
    *,
    more: Callable[[argparse.ArgumentParser], None] | None = None,
    keys: tuple[str, ...] = ("tracking.uri", "tracking.folder"),
    named: str | None = None,
) -> tuple[argparse.Namespace, ComposedConfig]:
    """The flags, and the composition of the `key=value` words; `ConfigError` for any other word.

    With `named` words without '=' are allowed and are `args.names`; it says in the help what they are.
    """
    from bakeoff.config.compose import compose_config

    parser = argparse.ArgumentParser(prog=f"bakeoff {name}", description=about)
    if more is not None:
        more(parser)
    parser.add_argument("--json", action="store_true", help="the result as one JSON object")
    parser.add_argument("--config-dir", help="a folder of your own, laid over conf/")
    start, word = (f"{named}; ", "NAME or key=value") if named is not None else ("", "key=value")
    parser.add_argument("overrides", nargs="*", metavar=word, help=f"{start}{', '.join(keys)}")
    args = parser.parse_intermixed_args(argv)
    args.names = [word for word in args.overrides if named is not None and "=" not in word]
    args.overrides = [word for word in args.overrides if word not in args.names]
    for word in args.overrides:
        key, equals, _ = word.partition("=")
        if not equals or not (key in keys or key == "tracking"):
            raise ConfigError(f"{word}: {name} takes {', '.join(keys)}")
    return args, compose_config(args.overrides, config_dir=args.config_dir)
