"""The choices of a slot, each composed, checked and built as in a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from bakeoff.config import compose
from bakeoff.config.schema import RunConfig
from bakeoff.config.targets import build_errors
from bakeoff.errors import BakeoffError, ChoiceError
from bakeoff.illustrations.gallery import Request

Built = TypeVar("Built")


def build_choices(
    request: Request, slot: str, build: Callable[[RunConfig], Built], *, base: Sequence[str] = ()
) -> tuple[dict[str, Built], dict[str, str]]:
    """Build the choices of a slot that a request names, or all of them if it names none.

    Args:
        request: The request, whose overrides apply to every choice.
        slot: The slot.
        build: Called with the run of each choice.
        base: Overrides that precede those of the request.

    Returns:
        Choice -> result of `build`, and choice -> why it was left out.

    Raises:
        BakeoffError: A choice cannot be built and the request names it or has overrides, or no choice can be built.
    """
    built: dict[str, Built] = {}
    skipped: dict[str, str] = {}
    with compose.hydra_session(request.config_dir):
        for name in request.choices_of(slot):
            try:
                run = compose.compose_in_session([*base, f"{slot}={name}", *request.overrides]).run
                with build_errors(slot, getattr(run, slot)):
                    built[name] = build(run)
            except BakeoffError as error:
                if slot in request.choices or request.overrides:
                    raise
                skipped[name] = str(error)
    check_drawable(request, built, skipped)
    return built, skipped


def check_drawable(request: Request, built: Mapping[str, object], skipped: Mapping[str, str]) -> None:
    """Raise a ChoiceError that lists the reasons if nothing was built."""
    if not built:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
        raise ChoiceError(f"show {request.name}: nothing can be drawn; {reasons}")
