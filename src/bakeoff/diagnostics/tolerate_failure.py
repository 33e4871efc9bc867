"""What is measured within a run must not end it: a part that fails is left out, and said so."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager


class Omissions:
    """The parts that were left out, each with the reason in one line; `said` hears of each once.

    A diagnosis may fail where the training does not: torch.func knows no derivative of some activations, memory is short, a net of
    somebody's own gives tuples. Whatever a run must stop for (an interrupt, an exit) is no `Exception` and goes through.
    """

    def __init__(self, title: str, *, said: Callable[[str, str], None]) -> None:
        self.title, self.said = title, said
        self.reasons: dict[str, str] = {}

    def recall(self, known: Mapping[str, str]) -> None:
        """What an earlier process of this run has left out and said."""
        self.reasons |= known

    @contextmanager
    def sparing(self, part: str) -> Iterator[None]:
        """A block that leaves `part` out where it fails, with one line on standard error the first time."""
        try:
            yield
        except Exception as error:
            if part not in self.reasons:
                words = str(error).strip().splitlines() or [""]
                self.reasons[part] = f"{type(error).__name__}: {words[0]}".removesuffix(": ")
                self.said(part, self.reasons[part])
                print(f"{self.title}: diagnostics leave out {part}: {self.reasons[part]}", file=sys.stderr, flush=True)
