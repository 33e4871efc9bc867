"""How many confirming seeds a sweep has been asked for: the first look of its plan, and those that `--more` has queued since."""

from __future__ import annotations

import json
from pathlib import Path

from bakeoff.errors import FolderError, PlanError
from bakeoff.runs.atomic import write_atomic
from bakeoff.sweep.plan import Plan

LOOKS = "looks.json"


def reached(plan: Plan, *, folder: Path) -> int:
    """Seeds of an arm in a block up to the look that is under way, or done."""
    path = folder / LOOKS
    try:
        count = json.loads(path.read_text(encoding="utf-8"))["seeds"]
    except FileNotFoundError:
        return len(plan.spec.confirm.first_seeds)
    except (ValueError, KeyError, TypeError):
        raise FolderError(f'{path}: damaged; it must hold the seeds that --more has queued, as in {{"seeds": 20}}') from None
    if count not in plan.spec.confirm.analyses:
        raise FolderError(f"{path}: seeds={count}: no look of the plan; looks: {', '.join(map(str, plan.spec.confirm.analyses))}")
    return int(count)


def following(plan: Plan, *, folder: Path) -> int | None:
    """Seeds of the next look; None behind the last one."""
    now = reached(plan, folder=folder)
    return next((look for look in plan.spec.confirm.analyses if look > now), None)


def queue(plan: Plan, *, folder: Path) -> tuple[int, ...]:
    """Go on to the next look, for all arms and blocks, so that every seed is shared by all; gives the seeds that are new."""
    now, then = reached(plan, folder=folder), following(plan, folder=folder)
    if then is None:
        raise PlanError(f"--more: the last look of the plan, at confirm.max_seeds={now}, is done")
    write_atomic(folder / LOOKS, json.dumps({"seeds": then}) + "\n")
    return plan.spec.confirm.pool[now:then]
