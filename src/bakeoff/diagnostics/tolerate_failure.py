"""Diagnostics must not end a run: a part that fails is skipped, and named once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager


class FailureTolerance:
    """Skips the parts that fail and keeps the reason of each in one line.

    Diagnostics may fail where training does not: torch.func has no derivative of some activations, memory is short, a user's net returns
    tuples. An interrupt or an exit is no `Exception` and passes through.
    """

    def __init__(self, title: str, *, on_skip: Callable[[str, str], None]) -> None:
        """Start with nothing skipped.

        Args:
            title: The run's name, for the line on standard error.
            on_skip: Called once a part, with its name and the reason.
        """
        self.title, self.on_skip = title, on_skip
        self.skipped: dict[str, str] = {}

    def restore(self, skipped: Mapping[str, str]) -> None:
        """Take over the parts (name -> reason) that an earlier process of this run has skipped and named."""
        self.skipped |= skipped

    @contextmanager
    def tolerate(self, part: str) -> Iterator[None]:
        """Leave the rest of the block out where it raises, and print one line on standard error the first time."""
        try:
            yield
        except Exception as error:
            if part not in self.skipped:
                first_line = next(iter(str(error).strip().splitlines()), "")
                self.skipped[part] = f"{type(error).__name__}: {first_line}".removesuffix(": ")
                self.on_skip(part, self.skipped[part])
                print(f"{self.title}: diagnostics leave out {part}: {self.skipped[part]}", file=sys.stderr, flush=True)
