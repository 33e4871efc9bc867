"""How far a sweep has been asked to go: the plan's first analysis, and the seeds and studies that `--more` has queued since."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from bakeoff.errors import FolderError, PlanError
from bakeoff.run_files.atomic import write_atomic
from bakeoff.run_files.json_text import parse_json
from bakeoff.run_files.stored_plan import ADDED_STUDIES, MAX_STUDIES
from bakeoff.sweep.plan import Plan

LOOKS = "looks.json"


@dataclass(frozen=True)
class Extent:
    """Seeds of the plan's pool, and studies of each arm in each block, up to the current analysis."""

    seeds: int
    studies: int


def reached(plan: Plan, *, folder: Path) -> Extent:
    """Return how far a sweep has been asked to go.

    Args:
        plan: The plan.
        folder: The sweep's folder.

    Raises:
        FolderError: The file that `--more` writes is damaged.
    """
    path, confirm = folder / LOOKS, plan.spec.confirm
    try:
        state = parse_json(path.read_bytes())
        seeds, studies = state["seeds"], state.get("studies", 1)
    except FileNotFoundError:
        return Extent(len(confirm.first_seeds), plan.spec.studies)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise FolderError(f'{path}: damaged; it must hold what --more has queued, as in {{"seeds": 20}}') from None
    if seeds not in confirm.analyses:
        raise FolderError(f"{path}: seeds={seeds}: not an analysis of the plan; analyses: {', '.join(map(str, confirm.analyses))}")
    counts = (1, *range(ADDED_STUDIES, MAX_STUDIES + 1, ADDED_STUDIES))
    if studies not in counts:
        raise FolderError(f"{path}: studies={studies}: --more studies never queues so many; choices: {', '.join(map(str, counts))}")
    return Extent(int(seeds), int(studies) if plan.spec.studies == 1 else plan.studies_at(seeds))


def next_analysis(plan: Plan, *, folder: Path) -> Extent | None:
    """The plan's next interim analysis; None after the last one."""
    now = reached(plan, folder=folder)
    seeds = next((seeds for seeds in plan.spec.confirm.analyses if seeds > now.seeds), None)
    if seeds is None:
        return None
    return Extent(seeds, now.studies if plan.spec.studies == 1 else plan.studies_at(seeds))


def next_studies(plan: Plan, *, folder: Path) -> Extent | None:
    """The next number of studies of a plan that holds one alone; None after the last one.

    Raises:
        PlanError: A seed would both tune and confirm.
    """
    now = reached(plan, folder=folder)
    studies = (now.studies // ADDED_STUDIES + 1) * ADDED_STUDIES
    if studies > MAX_STUDIES:
        return None
    later = Extent(now.seeds, studies)
    confirming = {*plan.spec.confirm.pool, *new_seeds(plan, Extent(now.seeds, 1), later)}
    for planned_arm in plan.planned_arms:
        twice = confirming & set(range(planned_arm.run.seed, planned_arm.run.seed + studies))
        if twice:
            raise PlanError(f"--more studies: tuning would use the confirming seed {min(twice)}: seed={planned_arm.run.seed} is too near")
    return later


def new_seeds(plan: Plan, now: Extent, later: Extent) -> tuple[int, ...]:
    """The confirming seeds that an arm has at the later of two extents and not at the earlier one, in order."""
    arms = len(plan.planned_arms)
    before = {seed for study in range(now.studies) for seed in plan.seeds_of(study * arms, now.seeds)}
    return tuple(sorted({seed for study in range(later.studies) for seed in plan.seeds_of(study * arms, later.seeds)} - before))


def queue(plan: Plan, extent: Extent, *, folder: Path) -> None:
    """Let the sweep go as far as `extent`, with all arms and blocks, so that they share every seed."""
    studies = {"studies": extent.studies} if plan.spec.studies == 1 < extent.studies else {}
    write_atomic(folder / LOOKS, json.dumps({"seeds": extent.seeds, **studies}) + "\n")
