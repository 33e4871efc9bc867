"""A plan as it is before anything is started: what would be compared, how, and at which cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from bakeoff.config.search_space import SearchSpace
from bakeoff.errors import PlanError
from bakeoff.sweep import worker
from bakeoff.sweep.candidates import shown
from bakeoff.sweep.plan import Plan
from bakeoff.sweep.planned_arm import WHOLE, PlannedArm
from bakeoff.sweep.progress import clock
from bakeoff.sweep.runner import from_child
from bakeoff.sweep.spec import MODELS

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext

Cost = tuple[float, float]


def block_costs(plan: Plan, *, context: ForkServerContext, probe: Callable[..., None] = worker.probe) -> dict[str, Cost]:
    """Measure (seconds a step, seconds a run) of each block, from a few real steps of its first arm in a process of its own."""
    first: dict[str, PlannedArm] = {}
    for planned_arm in plan.planned_arms:
        first.setdefault(planned_arm.block, planned_arm)
    facts = from_child(context, probe, [planned_arm.run for planned_arm in first.values()], label="the timed probe")
    if isinstance(facts, str):
        raise PlanError(facts)
    return dict(zip(first, facts, strict=True))


def expected(plan: Plan, costs: Mapping[str, Cost], *, workers: int) -> dict[str, Any]:
    """Seconds of training in all and on `workers` at a time: up to the first analysis, and with every analysis of the plan."""
    trials = sum(len(planned_arm.points) * costs[planned_arm.block][1] for planned_arm in plan.planned_arms)
    seed = sum(costs[planned_arm.block][1] for planned_arm in plan.planned_arms)
    confirm, studies = plan.spec.confirm, plan.spec.studies
    first = trials + seed * len(confirm.first_seeds)
    whole = trials * (plan.studies_at(len(confirm.pool)) // studies) + seed * len(confirm.pool)
    return {
        "workers": workers,
        "blocks": {block: {"seconds_a_step": step, "seconds_a_run": run} for block, (step, run) in costs.items()},
        "seconds": first / workers,
        "seconds_with_all_looks": whole / workers,
        "hours": first / workers / 3600,
    }


def lines(plan: Plan, cost: Mapping[str, Any]) -> list[str]:
    """The plan for a terminal, a fact a line."""
    spec, facts = plan.spec, [plan.spec.question, ""]
    arms, blocks = (
        list(dict.fromkeys(planned_arm.arm for planned_arm in plan.planned_arms)),
        list(dict.fromkeys(planned_arm.block for planned_arm in plan.planned_arms)),
    )
    facts.append(row("plan", f"{plan.title}; compared by {spec.metric.name} ({spec.metric.goal}), margin {spec.margin:g}"))
    facts.append(row("arms", f"{len(arms)}: {', '.join(arms)}"))
    if blocks != [WHOLE]:
        facts.append(row("blocks", f"{len(blocks)}: {', '.join(blocks)}"))
    facts += tuned(plan)
    each = {len(planned_arm.points) for planned_arm in plan.planned_arms}
    studies = f", {spec.studies} studies of each" if spec.studies > 1 else ""
    asked = "asked in turn" if spec.budget.sampler in MODELS else "listed in the plan"
    trials = " or ".join(map(str, sorted(each)))
    facts.append(row("trials", f"{trials} an arm and block by {spec.budget.sampler} ({asked}{studies}): {plan.trials} runs"))
    if spec.prune is not None:
        rule = f"{spec.prune.by}, from {spec.prune.warmup:.0%} of a run on; {spec.prune.audit} of an arm's pruned trials run to the end"
        facts.append(row("pruning", rule))
    facts.append(row("seeds", seeds(plan)))
    facts += sized(plan)
    if plan.margin_warning is not None:
        facts.append(row("warning", plan.margin_warning))
    for finding in plan.differs:
        facts.append(row("allowed", f"{finding.rule}: {finding.text}"))
    for block, costs in cost["blocks"].items():
        name = "" if block == WHOLE else f"{block}: "
        facts.append(row("probe", f"{name}{costs['seconds_a_step'] * 1000:.3g} ms a step, about {costs['seconds_a_run']:.3g} s a run"))
    total = f"about {cost['hours']:.2g} h ({clock(cost['seconds'])}) at workers={cost['workers']}"
    later = f"; with every interim analysis {clock(cost['seconds_with_all_looks'])}" if len(spec.confirm.analyses) > 1 else ""
    facts.append(row("cost", f"{total}{later}; pruning and diverged runs make it less"))
    return [*facts, "", f"nothing has been started; {plan.command} runs it"]


def row(head: str, text: str) -> str:
    """A fact with its name."""
    return f"{head:<9} {text}"


def tuned(plan: Plan) -> list[str]:
    """key: the space of each arm, arms with the same one together."""
    arms_by_space: dict[str, dict[str, list[str]]] = {}
    for planned_arm in plan.planned_arms:
        for key, space in planned_arm.spaces.items():
            arms = arms_by_space.setdefault(key, {}).setdefault(spelled(space), [])
            if planned_arm.arm not in arms:
                arms.append(planned_arm.arm)
    if not arms_by_space:
        return [row("tuned", "nothing")]
    lines = []
    for key, spaces in arms_by_space.items():
        lines += [row("tuned", f"{key} in {space}: {', '.join(arms)}") for space, arms in spaces.items()]
    free = [planned_arm.arm for planned_arm in plan.planned_arms if not planned_arm.spaces]
    return lines + ([row("untuned", ", ".join(dict.fromkeys(free)))] if free else [])


def spelled(space: SearchSpace) -> str:
    """A space in words."""
    if space.choices:
        return "{" + ", ".join(map(str, space.choices)) + "}"
    scale = " log" if space.log else " log in 1 - x" if space.complement else " whole" if space.integer else ""
    return f"{shown(space.low)} .. {shown(space.high)}{scale}"


def seeds(plan: Plan) -> str:
    """The confirming stage in words."""
    confirm = plan.spec.confirm
    if not confirm.first_seeds:
        return "none: no confirming stage"
    first = confirm.first_seeds
    runs = len(first) * len(plan.planned_arms)
    shared = f"{len(first)} ({first[0]} to {first[-1]}) shared by all arms: {runs} runs, each with the test set once"
    later, studies = ", ".join(map(str, confirm.analyses[1:])), plan.spec.studies
    tuned = f", each time with {studies} new studies" if studies > 1 else ""
    return f"{shared}; --more may go on to {later}{tuned}" if later else shared


def sized(plan: Plan) -> list[str]:
    """Steps and parameters, where the planned arms have been examined."""
    steps = sorted({planned_arm.steps for planned_arm in plan.planned_arms if planned_arm.steps is not None})
    counts: dict[int, list[str]] = {}
    for planned_arm in plan.planned_arms:
        if planned_arm.parameters is not None:
            counts.setdefault(planned_arm.parameters, []).append(planned_arm.title)
    run = plan.planned_arms[0].run
    facts = [row("steps", f"{' or '.join(map(str, steps))} a run, of batches of {run.data.batch_size}")] if steps else []
    shown = [f"{count:,} ({', '.join(names[:4])}{' ...' if len(names) > 4 else ''})" for count, names in counts.items()]
    return [*facts, *([row("net", f"parameters {'; '.join(shown[:6])}{' ...' if len(shown) > 6 else ''}")] if shown else [])]
