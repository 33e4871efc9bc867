"""`bakeoff sweep NAME [key=value ...]`: runs a comparison from sweeps/, or resumes it where it stopped.

key=value words win over the file's `fixed`, narrow its factors and blocks (optimizer=sgd,adam), set its numbers (budget.trials=4,
confirm.seeds=3), and say workers=N and scale=NAME. docs/sweeps.md says what a sweep file may hold.
"""

from __future__ import annotations

import argparse
import json
import signal
from typing import TYPE_CHECKING, Any

from bakeoff.commands.arguments import CommandParser
from bakeoff.errors import echo, interrupt_on_signal, redact

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext

    from bakeoff.config.compose import ComposedConfig
    from bakeoff.sweep.extend import What
    from bakeoff.sweep.plan import Plan
    from bakeoff.sweep.request import SweepRequest
    from bakeoff.sweep.runner import SweepOutcome


def main(argv: list[str]) -> int:
    """Plan, check everything, run what is left, and print the verdict."""
    parser = CommandParser(prog="bakeoff sweep", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", metavar="NAME", help="the sweep: a file of sweeps/ by its name, or a path to one")
    parser.add_argument("--json", action="store_true", help="the result as one JSON object")
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--plan", action="store_true", help="print what would be run and its cost, and stop")
    kinds.add_argument(
        "--more",
        action="store_true",
        help="run the further seeds, or studies, that the report of a finished sweep asks for; --more studies: tune each arm several times "
        "anew, and confirm what each study finds",
    )
    parser.add_argument("--config-dir", help="a folder of your own configs, searched before conf/; so is sweeps/ inside or beside it")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parser.parse_intermixed_args(argv)
    # Not an optional value of --more, which would take any word behind it.
    what: What = next((word for word in args.overrides if args.more and word in ("seeds", "studies")), "asked")
    overrides = [word for word in args.overrides if word != what]
    # Whoever ends the command from outside gets the same clean stop as Ctrl-C.
    signal.signal(signal.SIGTERM, interrupt_on_signal)

    from bakeoff.config.targets import trust_modules
    from bakeoff.sweep.fairness import FairnessError
    from bakeoff.sweep.plan import make_plan
    from bakeoff.sweep.request import find_sweep_file, shadowed_sweep
    from bakeoff.sweep.resources import Resources, allot_resources
    from bakeoff.sweep.runner import run_sweep, validate_arms
    from bakeoff.sweep.worker import PRELOAD
    from bakeoff.tracking.client import check_usable, usable_uri
    from bakeoff.training import processes
    from bakeoff.training.writer import EXIT_LAGGING

    note = shadowed_sweep(find_sweep_file(args.name, config_dir=args.config_dir))
    if note is not None:
        echo(f"bakeoff: {note}", err=True)
    prepared: list[tuple[Any, Resources]] = []

    def early(request: SweepRequest, first: ComposedConfig) -> None:
        # The fork server imports for seconds, meanwhile the other arms are composed.
        check_usable(usable_uri(first.run.tracking.uri))
        trust_modules(first.trust)
        jobs = max(1, len(request.spec.factors)) * request.spec.trials
        resources = allot_resources(first.run, workers=request.workers, jobs=jobs)
        prepared.append((processes.forkserver_context(threads=resources.threads, preload=PRELOAD), resources))

    try:
        plan = make_plan(args.name, overrides=overrides, config_dir=args.config_dir, early=early)
        (context, resources) = prepared[0]
        plan = validate_arms(plan, context=context)
    except FairnessError as error:
        for line in error.lines:
            echo(f"bakeoff: {line}", err=True)
        return 2
    if args.plan:
        print_preview(plan, context=context, workers=resources.workers, as_json=args.json)
        return 0
    if args.more:
        from bakeoff.sweep.extend import extend_sweep

        queued = extend_sweep(plan, what=what)
        echo(queued.line, err=args.json)
        if not queued.seeds:
            return 0
    try:
        outcome = run_sweep(plan, context=context, resources=resources)
    except KeyboardInterrupt as stop:
        echo(f"stopped{f' by {stop}' if str(stop) else ''}; the same command continues: {plan.command}", err=True)
        raise
    print_outcome(outcome, as_json=args.json)
    if outcome.lagging:
        return EXIT_LAGGING
    return 0 if any(arm_progress.best is not None for arm_progress in outcome.arms_progress) else 1


def print_preview(plan: Plan, *, context: ForkServerContext, workers: int, as_json: bool) -> None:
    """Print the plan and its cost; nothing is written anywhere."""
    from bakeoff.sweep.cost_preview import block_costs, expected, lines

    cost = expected(plan, block_costs(plan, context=context), workers=workers)
    facts = {"runs": plan.runs, "cost": cost, "warning": plan.margin_warning}
    if as_json:
        print(json.dumps({**plan.tree(), **facts}))
    else:
        echo("\n".join(lines(plan, cost)))


def print_outcome(outcome: SweepOutcome, *, as_json: bool) -> None:
    """Print the verdict and the table on standard output, and what to do next on standard error."""
    plan, report = outcome.plan, outcome.report
    if outcome.problem:
        echo(f"bakeoff: no report yet: {outcome.problem}; try later: bakeoff report {plan.title}", err=True)
    if as_json:
        tree = {
            "sweep": plan.name,
            "hash": plan.hash,
            "experiment": plan.title,
            "tracking_uri": redact(outcome.uri),
            "cells": [arm_progress.tree() for arm_progress in outcome.arms_progress],
            "report": None if report is None else report.plain(),
        }
        print(json.dumps(tree))
        return
    if report is not None:
        from bakeoff.report import render_terminal

        echo(render_terminal(report))
    else:
        from rich.console import Console

        from bakeoff.sweep.progress import progress_table

        Console().print(progress_table(plan, outcome.arms_progress))
    echo("in the store: bakeoff ui", err=True)
