"""`--more`: the seeds that a sweep's report asks for, queued as the next interim analysis of its plan, or further tuning studies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bakeoff.errors import PlanError
from bakeoff.sweep import interim, leases
from bakeoff.sweep.interim import Extent
from bakeoff.sweep.plan import Plan
from bakeoff.sweep.runner import LOCK
from bakeoff.sweep.sweep_dir import PLAN, siblings
from bakeoff.tracking.client import default_uri

if TYPE_CHECKING:
    from bakeoff.report import Report

AS_TUNED = ("as tuned", "tie as tuned")
"""Grades of a verdict that holds for the settings that one study found: only further studies may change it."""
OPEN = ("under-powered", *AS_TUNED)
"""Grades of a verdict that more runs may change."""
What = Literal["asked", "seeds", "studies"]


@dataclass(frozen=True)
class Queued:
    """What `--more` did, in one line; `seeds` is empty where nothing is asked for."""

    seeds: tuple[int, ...]
    line: str


def extend_sweep(plan: Plan, *, what: What = "asked") -> Queued:
    """Queue the next analysis, or further studies, for all arms and blocks, so that they share every seed.

    Args:
        plan: The plan as the command line makes it.
        what: `seeds` for the next analysis, if the report asks for it; `studies` for further studies where the plan holds one alone
            (else they come with the next analysis); `asked` for the one of these that the report asks for.

    Raises:
        PlanError: The plan has not been run, its current analysis is not complete, or studies are asked for and it tunes nothing.
    """
    folder = Path(plan.site.tracking.folder) / plan.title
    if not (folder / PLAN).exists():
        beside = siblings(plan, root=folder.parent)
        raise PlanError(f"--more: {plan.title} has not been run yet; {plan.command} runs it{f' ({beside[0]})' if beside else ''}")
    if not plan.spec.confirm.first_seeds:
        raise PlanError("--more: confirm.seeds=0: this plan has no confirming stage")
    with leases.exclusive_lock(folder / LOCK, name=f"sweep {plan.title}"):
        left = remaining(plan, folder=folder)
        if left:
            raise PlanError(f"--more: {left} runs of the current analysis are still to come; {plan.command} runs them first")
        fixed_studies = plan.spec.studies == 1
        if what == "studies" and fixed_studies:
            return extend_studies(plan, folder=folder)
        verdict = current_report(plan).verdict
        if verdict.grade in AS_TUNED and what == "asked" and fixed_studies:
            return extend_studies(plan, folder=folder)
        now, later = interim.reached(plan, folder=folder), interim.next_analysis(plan, folder=folder)
        if verdict.grade not in OPEN or (verdict.grade in AS_TUNED and fixed_studies):
            return Queued((), f"{plan.title}: nothing is asked for after {now.seeds} seeds: {verdict.headline}")
        if later is None:
            return Queued((), f"{plan.title}: the plan ends at confirm.max_seeds={now.seeds}: {verdict.headline}")
        return queue(plan, now, later, folder=folder)


def extend_studies(plan: Plan, *, folder: Path) -> Queued:
    """Queue further studies of a plan that holds one alone: each is tuned anew, and confirmed on seeds of its own."""
    if not any(planned_arm.spaces for planned_arm in plan.planned_arms):
        raise PlanError(f"--more studies: {plan.title} tunes nothing, so there is no luck of tuning; --more adds seeds")
    now, later = interim.reached(plan, folder=folder), interim.next_studies(plan, folder=folder)
    if later is None:
        return Queued((), f"{plan.title}: each arm has been tuned in {now.studies} studies; there are no more")
    return queue(plan, now, later, folder=folder)


def queue(plan: Plan, now: Extent, later: Extent, *, folder: Path) -> Queued:
    """Queue what comes between two extents, and say so."""
    interim.queue(plan, later, folder=folder)
    seeds, arms = interim.new_seeds(plan, now, later), len(plan.planned_arms)
    studies = later.studies - now.studies
    if not studies:
        line = f"queued {len(seeds) * arms} runs: seeds {seeds[0]} to {seeds[-1]} for {arms} arms and blocks"
    else:
        trials = " or ".join(map(str, sorted({studies * plan.trials_a_study(arm_index) for arm_index in range(arms)})))
        line = f"queued {studies} studies: {trials} tuning and {len(seeds)} confirm runs for each of {arms} arms and blocks"
    return Queued(seeds, f"{plan.title}: {line}")


def remaining(plan: Plan, *, folder: Path) -> int:
    """Runs that are planned and not done."""
    from bakeoff.sweep.trial_queue import TrialQueue

    return sum(arm_progress.left for arm_progress in TrialQueue(plan, folder=folder).arms_progress())


def current_report(plan: Plan) -> Report:
    """The report of the plan as its store has it."""
    from bakeoff.report import build_report

    uri = plan.site.tracking.uri or default_uri(Path.cwd())
    return build_report(plan.name, uri=uri, out=Path("reports") / plan.title, sweep_hash=plan.hash)
