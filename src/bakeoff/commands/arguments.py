"""The command-line arguments of commands that train no new run: flags of their own, and overrides of where things are."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from bakeoff.errors import ConfigError, join_choices, near_miss

if TYPE_CHECKING:
    from bakeoff.config.compose import ComposedConfig


class CommandParser(argparse.ArgumentParser):
    """A parser of a command's words whose errors are a `ConfigError` of one line; flags are never abbreviated."""

    def __init__(self, *, prog: str, **settings: Any) -> None:
        """Make a parser with argparse's settings."""
        super().__init__(prog=prog, allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Raise the error; argparse would print the usage and leave the process."""
        flags = [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]
        word = message.rpartition(": ")[2].split(" ")[0].partition("=")[0] if message.startswith("unrecognized") else ""
        choices = f"{near_miss(word, flags)}; flags: {join_choices(flags)}" if word else ""
        raise ConfigError(f"{self.prog}: {message}{choices}")


def parse_arguments(
    name: str,
    about: str | None,
    argv: list[str],
    *,
    add_flags: Callable[[argparse.ArgumentParser], None] | None = None,
    keys: tuple[str, ...] = ("tracking.uri", "tracking.folder"),
    names_help: str | None = None,
) -> tuple[argparse.Namespace, ComposedConfig]:
    """Parse a command's flags and compose its `key=value` words.

    Args:
        name: The command.
        about: Its help.
        argv: The words behind it.
        add_flags: Adds the command's own flags to the parser.
        keys: The keys that it takes.
        names_help: Says in the help what words without `=` are; they are then `args.names`, and refused otherwise.

    Returns:
        The flags, and the composition.

    Raises:
        ConfigError: There is another word.
    """
    from bakeoff.config.compose import compose_config

    parser = CommandParser(prog=f"bakeoff {name}", description=about)
    if add_flags is not None:
        add_flags(parser)
    parser.add_argument("--json", action="store_true", help="the result as one JSON object")
    parser.add_argument("--config-dir", help="a folder of your own configs, searched before conf/")
    names_prefix, metavar = (f"{names_help}; ", "NAME or key=value") if names_help is not None else ("", "key=value")
    parser.add_argument("overrides", nargs="*", metavar=metavar, help=f"{names_prefix}{', '.join(keys)}")
    args = parser.parse_intermixed_args(argv)
    args.names = [word for word in args.overrides if names_help is not None and "=" not in word]
    args.overrides = [word for word in args.overrides if word not in args.names]
    for word in args.overrides:
        key, equals, _ = word.partition("=")
        if not equals or not (key in keys or key == "tracking"):
            raise ConfigError(f"{word}: {name} takes {', '.join(keys)}")
    return args, compose_config(args.overrides, config_dir=args.config_dir)


def named_folder(folder: str, overrides: Sequence[str]) -> Path:
    """Return the folder of the runs; one that is named on the command line must exist, `ConfigError` else."""
    root = Path(folder)
    if any(word.startswith("tracking.folder=") for word in overrides) and not root.is_dir():
        raise ConfigError(f"tracking.folder={folder}: no such folder")
    return root
