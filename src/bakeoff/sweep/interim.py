"""How many confirming seeds a sweep has been asked for: those of its plan's first analysis, and those that `--more` has queued since."""

from __future__ import annotations

import json
from pathlib import Path

from bakeoff.errors import FolderError, PlanError
from bakeoff.run_files.atomic import write_atomic
from bakeoff.sweep.plan import Plan

LOOKS = "looks.json"


def reached(plan: Plan, *, folder: Path) -> int:
    """Seeds of an arm in a block up to the current interim analysis."""
    path = folder / LOOKS
    try:
        count = json.loads(path.read_text(encoding="utf-8"))["seeds"]
    except FileNotFoundError:
        return len(plan.spec.confirm.first_seeds)
    except (ValueError, KeyError, TypeError):
        raise FolderError(f'{path}: damaged; it must hold the seeds that --more has queued, as in {{"seeds": 20}}') from None
    if count not in plan.spec.confirm.analyses:
        raise FolderError(
            f"{path}: seeds={count}: not an analysis of the plan; analyses: {', '.join(map(str, plan.spec.confirm.analyses))}"
        )
    return int(count)


def following(plan: Plan, *, folder: Path) -> int | None:
    """Seeds of the next interim analysis; None after the last one."""
    now = reached(plan, folder=folder)
    return next((seeds for seeds in plan.spec.confirm.analyses if seeds > now), None)


def queue(plan: Plan, *, folder: Path) -> tuple[int, ...]:
    """Go on to the next analysis for all arms and blocks, so that they share every seed; return the seeds that are new."""
    now, then = reached(plan, folder=folder), following(plan, folder=folder)
    if then is None:
        raise PlanError(f"--more: the plan's last analysis, at confirm.max_seeds={now}, is done")
    write_atomic(folder / LOOKS, json.dumps({"seeds": then}) + "\n")
    return plan.spec.confirm.pool[now:then]
