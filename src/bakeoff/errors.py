"""Every error that a user can see: its message is one line that names the key, the value, the rule and the choices."""

from __future__ import annotations

import difflib
import re
import signal
import sys
from collections.abc import Callable, Iterable

_USER_INFO = re.compile(r"(?<=://)(?:\S*@|[^\s/:@]*:(?!\d+(?:[/?#\s:,;)'\"]|$))[^\n]*@)")
_SECRET_NAME = r"(?:pass(?:word|wd)?|pwd|(?:api|access|secret|account|private)[_-]?key|secret|token|odbc_connect)"
_ADDRESS = re.compile(r"(?:[\w.]+=)?[a-z][\w+.-]*://[^\n]*")


def printable(text: str) -> str:
    """Return a text, of one or more lines, in which characters that a terminal would obey or could not show are spelt out."""
    return "".join(letter if letter.isprintable() or letter in "\n\t\xa0" else ascii(letter)[1:-1] for letter in text)


def echo(text: object, *, err: bool = False) -> None:
    """Print a text to standard output or standard error at once, as `printable` spells it: all of bakeoff's output but JSON and tables."""
    print(printable(str(text)), file=sys.stderr if err else sys.stdout, flush=True)


def redact_text(text: str) -> str:
    """Return a text without the user names, passwords, keys and tokens of the addresses in it."""
    return re.sub(rf"({_SECRET_NAME}=)[^&\s]+", r"\1***", _USER_INFO.sub("***@", text), flags=re.IGNORECASE)


def redact(address: str) -> str:
    """Return an address, alone or as `key=address`, without user name, password, keys and tokens; of another text, those of `redact_text`.

    A password may contain any character; in a text, only an address without spaces has an end.
    """
    if _ADDRESS.fullmatch(address):
        address = re.sub(rf"({_SECRET_NAME}=)[^&]+", r"\1***", re.sub(r"(?<=://).*@", "***@", address), flags=re.IGNORECASE)
    return redact_text(address)


class BakeoffError(Exception):
    """An error that the user can mend: the shell prints its message as one line and exits with code 2."""

    def __init__(self, message: str) -> None:
        """Put the message on one line, without passwords and without characters that a terminal would obey or could not show."""
        super().__init__(printable(" ".join(redact_text(message).split())))


class ConfigError(BakeoffError, ValueError):
    """A key, a value or a type in a configuration is wrong."""


class ChoiceError(ConfigError):
    """A choice, or one of its arguments, does not exist or does not fit the others."""


class ArgumentError(BakeoffError, ValueError):
    """An argument of a net, a component or a dataset is out of its range or does not fit the others.

    Code that knows no configuration raises it. The message names arguments as `name=value`, or in backticks where no value follows;
    `name_keys` puts the configuration's keys in their place.
    """


class DataError(BakeoffError):
    """A dataset is missing, truncated or unreadable; its message may name arguments as that of `ArgumentError` does."""


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


class MachineError(BakeoffError):
    """The machine failed and not the run, which can go on once the machine is well: the shell exits with code 75."""

    def __init__(self, message: str, *, kind: str) -> None:
        """Put the message on one line; `kind` is a `machine.FaultKind`."""
        super().__init__(message)
        self.kind = kind


class RunInterrupted(KeyboardInterrupt):
    """A run was stopped by a signal and can go on: the shell prints the message and exits with 128 + the signal's number."""

    def __init__(self, message: str, *, signal_number: signal.Signals) -> None:
        """Keep which signal it was."""
        super().__init__(message)
        self.signal_number = signal_number


def interrupt_on_signal(number: int, frame: object) -> None:
    """Turn a signal into the KeyboardInterrupt of Ctrl-C, with the signal's name."""
    raise KeyboardInterrupt(signal.Signals(number).name)


def signal_of(stop: KeyboardInterrupt) -> signal.Signals:
    """Return the signal that `interrupt_on_signal` turned into an interrupt, SIGINT for Ctrl-C."""
    return signal.SIGTERM if str(stop) == signal.SIGTERM.name else signal.SIGINT


SHOWN = 60
"""The maximum number of characters of a wrong value in a message."""


def shorten(value: object) -> str:
    """Return a value for a message; an empty string is quoted."""
    text = repr(value) if isinstance(value, str) and not value else str(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def near_miss(word: str, choices: Iterable[str]) -> str:
    """Return ' (did you mean X?)' for the choice closest to `word`, or '' where none is close."""
    matches = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.6)
    return f" (did you mean {matches[0]}?)" if matches else ""


def join_choices(choices: Iterable[str]) -> str:
    """Join the choices with commas, in their own order."""
    return ", ".join(choices)


def check_argument(name: str, value: object, *, fits: bool, rule: str) -> None:
    """Check one argument of a component.

    Args:
        name: the argument.
        value: what was passed.
        fits: whether the value obeys the rule.
        rule: the rule in words.

    Raises:
        ArgumentError: the value does not fit.
    """
    if not fits:
        raise ArgumentError(f"{name}={value}: {rule}")


ARGUMENT = re.compile(r"`(\w+)`|(?<![^\s(])([a-z]\w*)(?==)")
"""An argument as the message of an `ArgumentError` names it."""


def name_keys(message: str, key_of: Callable[[str], str]) -> str:
    """Return a message with each argument that it names replaced by `key_of(argument)`, its key in the configuration."""
    return ARGUMENT.sub(lambda match: key_of(match[1] or match[2]), message)
