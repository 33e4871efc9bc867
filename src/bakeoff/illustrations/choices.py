"""The choices of a slot, each composed and built through the door as a run would have it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from bakeoff.config import compose
from bakeoff.config.schema import RunConfig
from bakeoff.config.targets import build_errors
from bakeoff.errors import BakeoffError
from bakeoff.illustrations.gallery import Request

Made = TypeVar("Made")


def gathered(
    asked: Request, slot: str, make: Callable[[RunConfig], Made], *, default: Sequence[str] = (), base: Sequence[str] = ()
) -> tuple[dict[str, Made], dict[str, str]]:
    """`make(run)` for each choice of `slot` asked for, else of `default`, else of its folder; and what was left out, with why.

    Every run has the overrides `base`, then the request's own. Errors: that of a choice named in the request is raised, that of
    another is its reason to be left out.
    """
    made: dict[str, Made] = {}
    skipped: dict[str, str] = {}
    with compose.hydra_session(asked.config_dir):
        for name in asked.named(slot, default):
            try:
                run = compose.compose_in_session([*base, f"{slot}={name}", *asked.overrides]).run
                with build_errors(slot, getattr(run, slot)):
                    made[name] = make(run)
            except BakeoffError as error:
                if slot in asked.choices or asked.overrides:
                    raise
                skipped[name] = str(error)
    return made, skipped
