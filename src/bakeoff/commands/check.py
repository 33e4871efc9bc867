"""`bakeoff check [key=value ...]`: checks data, net, gradients and learning rate before a long run. No trained net is saved.

Exit code 0 where nothing is wrong, 1 where something is.
"""

from __future__ import annotations

import functools
import json
import shlex
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bakeoff.commands.arguments import CommandParser
from bakeoff.errors import ConfigError, echo, printable

if TYPE_CHECKING:
    from bakeoff.config.schema import RunConfig
    from bakeoff.diagnostics.checks.check_context import CheckResult

COST_SECONDS = 2.0
"""How long the cost of a step is measured at most."""
COLOURS = {"ok": "green", "look": "yellow", "wrong": "bold red", "info": ""}


def main(argv: list[str]) -> int:
    """Check one run, print the table, and log it as a run of kind `check`."""
    parser = CommandParser(prog="bakeoff check", description=__doc__)
    parser.add_argument("--json", action="store_true", help="the result as one JSON object")
    parser.add_argument("--config-dir", type=Path, help="a folder of your own configs, searched before conf/")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="as for bakeoff train")
    args = parser.parse_intermixed_args(argv)
    from bakeoff.config.compose import compose_config
    from bakeoff.config.targets import trust_modules

    composed = compose_config(args.overrides, config_dir=args.config_dir)
    if composed.resume is not None:
        raise ConfigError(f"resume={composed.resume}: check trains nothing; leave resume out")
    trust_modules(composed.trust)
    run = composed.run
    from bakeoff.tracking.client import check_usable, usable_uri

    check_usable(usable_uri(run.tracking.uri))
    from bakeoff.builders import validate_run

    validate_run(run)
    return check_run(run, as_json=args.json, command=shlex.join(["bakeoff", "check", *argv]))


def check_run(run: RunConfig, *, as_json: bool, command: str) -> int:
    """Make all checks of a valid run, and write the results to its folder, the store and the terminal; return the exit code."""
    from bakeoff.builders import data_errors
    from bakeoff.diagnostics.checks.check_context import CheckContext, to_json
    from bakeoff.diagnostics.checks.check_page import FOLDER, CheckReport
    from bakeoff.diagnostics.checks.check_run import all_checks, log_check
    from bakeoff.diagnostics.checks.initialization import describe_layers
    from bakeoff.training.cost_probe import measure_cost
    from bakeoff.training.run_lifecycle import create_run_dir, tracking_uri_of
    from bakeoff.training.trainer import set_determinism, silence_lightning
    from bakeoff.training.writer import EXIT_LAGGING, Writer

    silence_lightning()
    set_determinism(run)
    start = time.perf_counter()
    context = CheckContext(run)
    with data_errors(run):
        results = list(show_progress(all_checks(context, measure_cost=functools.partial(measure_cost, max_seconds=COST_SECONDS))))
    layers = describe_layers(context)
    seconds = time.perf_counter() - start
    run_dir = create_run_dir(run, kind="check")
    check = CheckReport(run_dir.read_job().name, results, layers, command)
    with Writer(Path(run.tracking.folder), uri=tracking_uri_of(run)) as writer:
        log_check(run_dir, run, check, seconds=seconds)
        lagging = writer.close()
    if as_json:
        tree = {"verdict": check.summary, "findings": to_json(results), "layers": layers, "folder": str(run_dir.path)}
        print(json.dumps(tree | {"seconds": seconds, "lagging": lagging}))
    else:
        print_tables(results, layers)
        echo(f"{check.summary}  ({seconds:.1f} s)\n  page  {run_dir.path / FOLDER / 'index.html'}")
    return 1 if check.is_wrong else EXIT_LAGGING if lagging else 0


def show_progress(checks: Iterable[tuple[str, Iterable[CheckResult]]]) -> Iterator[CheckResult]:
    """Yield the results, while standard error says what is being checked."""
    from rich.console import Console

    console = Console(stderr=True)
    for name, results in checks:
        if console.is_terminal:
            with console.status(f"checking {name}"):
                yield from list(results)
        else:
            echo(f"checking {name}", err=True)
            yield from results


def print_tables(results: Sequence[CheckResult], layers: Sequence[Sequence[str]]) -> None:
    """Print the layers, the results, and below them what to do."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from bakeoff.diagnostics.checks.check_page import LAYER_COLUMNS

    console = Console()
    net = Table(box=None, pad_edge=False)
    for name in LAYER_COLUMNS:
        net.add_column(name, justify="right" if name in LAYER_COLUMNS[3:] else "left")
    for row in layers:
        net.add_row(*(Text(printable(cell)) for cell in row))
    console.print(net)
    console.print()
    grid = Table(box=None, pad_edge=False)
    for name in ("check", "", "found", "expected"):
        grid.add_column(name)
    for result in results:
        observed, expected = (Text(printable(text)) for text in (result.observed, result.expected))
        grid.add_row(result.name, Text(result.state, style=COLOURS[result.state]), observed, expected)
    console.print(grid)
    for result in results:
        if result.advice:
            console.print(Text(printable(f"{result.name}: {result.advice}")), soft_wrap=True)
    console.print()
