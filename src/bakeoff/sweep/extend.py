"""`--more`: the seeds that a sweep's report asks for, queued as the next interim analysis of its plan."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bakeoff.errors import PlanError
from bakeoff.sweep import interim, leases
from bakeoff.sweep.plan import Plan
from bakeoff.sweep.runner import LOCK
from bakeoff.sweep.sweep_dir import PLAN, siblings
from bakeoff.tracking.client import default_uri

if TYPE_CHECKING:
    from bakeoff.report import Report

OPEN = ("under-powered",)
"""Grades of a verdict that more seeds may change."""


@dataclass(frozen=True)
class Queued:
    """What `--more` did, in one line; `seeds` is empty where nothing is asked for."""

    seeds: tuple[int, ...]
    line: str


def extend_sweep(plan: Plan) -> Queued:
    """Ask the report whether it needs more seeds, and queue the next analysis for all arms, so that they share every seed.

    `PlanError` where this plan has not been run, or its current analysis is not complete; nothing is queued then, nor beyond `max_seeds`.
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
        report = verdict(plan)
        now, then = interim.reached(plan, folder=folder), interim.following(plan, folder=folder)
        if report.verdict.grade not in OPEN:
            return Queued((), f"{plan.title}: nothing is asked for after {now} seeds: {report.verdict.headline}")
        if then is None:
            return Queued((), f"{plan.title}: the plan ends at confirm.max_seeds={now}: {report.verdict.headline}")
        seeds = interim.queue(plan, folder=folder)
    runs = len(seeds) * len(plan.planned_arms)
    return Queued(seeds, f"{plan.title}: queued {runs} runs: seeds {seeds[0]} to {seeds[-1]} for {len(plan.planned_arms)} arms and blocks")


def remaining(plan: Plan, *, folder: Path) -> int:
    """Runs that are planned and not done."""
    from bakeoff.sweep.trial_queue import TrialQueue

    return sum(arm_progress.left for arm_progress in TrialQueue(plan, folder=folder).arms_progress())


def verdict(plan: Plan) -> Report:
    """The report of the plan as its store has it."""
    from bakeoff.report import build_report

    uri = plan.site.tracking.uri or default_uri(Path.cwd())
    return build_report(plan.name, uri=uri, out=Path("reports") / plan.title, sweep_hash=plan.hash)
