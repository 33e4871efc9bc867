"""Every error that a user can see: its message is one line that names the key, the value, the rule and the choices."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BakeoffError(Exception):
    """The user can mend it: the shell prints the message as one line and exits with code 2."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class ConfigError(BakeoffError, ValueError):
    """A key, a value or a type in a configuration is wrong."""


class ChoiceError(ConfigError):
    """A choice, or one of its arguments, is not to be had or does not fit the others."""


class DataError(BakeoffError):
    """A dataset is missing, truncated or unreadable."""


class FolderError(BakeoffError, OSError):
    """A folder cannot be written or read."""


class BusyError(BakeoffError):
    """Another process is at work on the same thing."""


class StoreError(BakeoffError):
    """The tracking store cannot be reached or read."""


class NotFoundError(BakeoffError, LookupError):
    """There is no run, sweep or artifact of that name."""


class PortError(BakeoffError, OSError):
    """A network port is taken."""


class PlanError(ConfigError):
    """A sweep file does not make a plan that can be run."""


def near_miss(word: str, choices: Iterable[str]) -> str:
    """' (did you mean X?)' for the choice closest to `word`, or '' where none is close."""
    found = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.6)
    return f" (did you mean {found[0]}?)" if found else ""


def join_choices(choices: Iterable[str]) -> str:
    """The choices as one comma-separated string in their own order."""
    return ", ".join(choices)
