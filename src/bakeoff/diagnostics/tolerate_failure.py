"""Diagnostics must not end a run: a part that fails is skipped and reported once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from bakeoff.errors import echo


class FailureTolerance:
    """Skips the parts that fail, and stores the reason for each.

    Diagnostics may fail where training does not: torch.func cannot differentiate some activations, memory is short, a user's net returns
    tuples. An interrupt or an exit is not an `Exception` and is not caught.
    """

    def __init__(self, title: str, *, on_skip: Callable[[str, str], None]) -> None:
        """Set the run's name for messages, and a function that is called once for each skipped part with its name and the reason."""
        self.title, self.on_skip = title, on_skip
        self.skipped: dict[str, str] = {}

    def restore(self, skipped: Mapping[str, str]) -> None:
        """Add the parts (name -> reason) that an earlier process of this run skipped and reported."""
        self.skipped |= skipped

    @contextmanager
    def tolerate(self, part: str) -> Iterator[None]:
        """Skip the rest of the block if it raises, and print a line on standard error the first time."""
        try:
            yield
        except Exception as error:
            if part not in self.skipped:
                first_line = next(iter(str(error).strip().splitlines()), "")
                self.skipped[part] = f"{type(error).__name__}: {first_line}".removesuffix(": ")
                self.on_skip(part, self.skipped[part])
                echo(f"{self.title}: diagnostics skip {part}: {self.skipped[part]}", err=True)
