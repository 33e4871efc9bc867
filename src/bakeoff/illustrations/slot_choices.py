"""The choices of a slot, each composed, checked and built as a run would have it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from bakeoff.config import compose
from bakeoff.config.schema import RunConfig
from bakeoff.config.targets import build_errors
from bakeoff.errors import BakeoffError
from bakeoff.illustrations.gallery import Request

Built = TypeVar("Built")


def build_choices(
    request: Request, slot: str, build: Callable[[RunConfig], Built], *, default: Sequence[str] = (), base: Sequence[str] = ()
) -> tuple[dict[str, Built], dict[str, str]]:
    """Build every choice of a slot that a request names, else those of `default`, else all of the slot's folder.

    Args:
        request: The request; its overrides hold for every choice.
        slot: The slot.
        build: Makes of a run what is wanted of the choice.
        default: Choices to build where the request names none.
        base: Overrides that come before the request's own.

    Returns:
        Choice -> what was built, and choice -> why it was left out.

    Raises:
        BakeoffError: A choice that the request names, or any choice where it has overrides, cannot be built.
    """
    built: dict[str, Built] = {}
    skipped: dict[str, str] = {}
    with compose.hydra_session(request.config_dir):
        for name in request.choices_of(slot, default):
            try:
                run = compose.compose_in_session([*base, f"{slot}={name}", *request.overrides]).run
                with build_errors(slot, getattr(run, slot)):
                    built[name] = build(run)
            except BakeoffError as error:
                if slot in request.choices or request.overrides:
                    raise
                skipped[name] = str(error)
    return built, skipped
