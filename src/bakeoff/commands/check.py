"""`bakeoff check [key=value ...]`: checks data, net, gradients and learning rate before hours are spent. No trained net is saved.

Exit code 0 where nothing is wrong, 1 where something is.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bakeoff.config.schema import RunConfig
    from bakeoff.diagnostics.checks.check_context import CheckContext, CheckResult

COLOURS = {"ok": "green", "look": "yellow", "wrong": "bold red", "info": ""}


def main(argv: list[str]) -> int:
    """Check one run, print the table, and log it as a run of kind `check`."""
    parser = argparse.ArgumentParser(prog="bakeoff check", description=__doc__)
    parser.add_argument("--json", action="store_true", help="the result as one JSON object")
    parser.add_argument("--config-dir", type=Path, help="a folder of your own, laid over conf/")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="as for bakeoff train")
    args = parser.parse_intermixed_args(argv)
    from bakeoff.config.compose import compose_config
    from bakeoff.config.targets import trust_modules
    from bakeoff.errors import ConfigError

    composed = compose_config(args.overrides, config_dir=args.config_dir)
    if composed.resume is not None:
        raise ConfigError(f"resume={composed.resume}: check trains nothing; leave resume out")
    trust_modules(composed.trust)
    run = composed.run
    from bakeoff.builders import validate_run

    validate_run(run)
    return check_run(run, as_json=args.json, command=shlex.join(["bakeoff", "check", *argv]))


def check_run(run: RunConfig, *, as_json: bool, command: str) -> int:
    """Make all checks of a valid run, and write the results to its folder, the store and the terminal; return the exit code."""
    import torch

    from bakeoff.builders import data_errors
    from bakeoff.diagnostics.checks import check_page
    from bakeoff.diagnostics.checks.check_context import CheckContext, to_json
    from bakeoff.diagnostics.checks.initialization import describe_layers
    from bakeoff.training.trainer import set_determinism, silence_lightning

    if run.trainer.threads is not None:
        torch.set_num_threads(run.trainer.threads)
    silence_lightning()
    set_determinism(run)
    start = time.perf_counter()
    context = CheckContext(run)
    with data_errors(run):
        results = list(show_progress(all_checks(context)))
    layers = describe_layers(context)
    seconds = time.perf_counter() - start
    run_dir, lagging = log_check(run, results, layers, command=command, seconds=seconds)
    summary = check_page.summarize(results)
    if as_json:
        tree = {"verdict": summary, "findings": to_json(results), "layers": layers, "folder": str(run_dir)}
        print(json.dumps(tree | {"seconds": seconds, "lagging": lagging}))
    else:
        print_tables(results, layers)
        print(f"{summary}  ({seconds:.1f} s)\n  page  {run_dir / check_page.FOLDER / 'index.html'}")
    return 1 if any(result.state == "wrong" for result in results) else 0


def all_checks(context: CheckContext) -> Iterator[tuple[str, Iterable[CheckResult]]]:
    """Yield what is checked, in words, with the results as they come."""
    from bakeoff.diagnostics.checks.dataset import check_dataset
    from bakeoff.diagnostics.checks.initialization import check_initialization
    from bakeoff.diagnostics.checks.optimization import check_gradients, check_overfit, check_rates

    yield "images", check_dataset(context)
    yield "the net at the start", check_initialization(context)
    yield "gradients", check_gradients(context)
    yield "20 examples by heart", check_overfit(context)
    yield "range of rates", check_rates(context)
    yield "cost", check_cost(context.run)


def check_cost(run: RunConfig) -> Iterator[CheckResult]:
    """Measure speed, memory and the time of the whole run by a few real steps."""
    import resource

    import torch

    from bakeoff.diagnostics.checks.check_context import CheckResult
    from bakeoff.training import cost_probe

    gpu = run.trainer.accelerator != "cpu" and torch.cuda.is_available()
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    step, total = cost_probe.measure_cost(run, max_seconds=2.0)
    # Linux gives the peak of a process in KiB.
    peak = torch.cuda.max_memory_allocated() if gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    speed = run.data.batch_size / run.trainer.devices / step
    kind = "of the GPU" if gpu else "of this process"
    figures = {"step_seconds": step, "images_per_second": speed, "memory_mb": peak / 1e6}
    yield CheckResult("speed", "info", f"{speed:,.0f} images/s, {1000 * step:.3g} ms a step", "", "", figures)
    yield CheckResult("memory", "info", f"{peak / 1e6:,.0f} MB {kind} at most")
    yield CheckResult("time of the whole run", "info", f"about {format_duration(total)}", "", "", {"run_seconds": total})


def format_duration(seconds: float) -> str:
    """Write a duration as `42 s`, `3.5 min`, `2.1 h` or `3 days`."""
    for unit, size in (("days", 172800), ("h", 7200), ("min", 120)):
        if seconds >= size:
            return f"{seconds / {'days': 86400, 'h': 3600, 'min': 60}[unit]:.1f} {unit}"
    return f"{seconds:.0f} s"


def show_progress(checks: Iterable[tuple[str, Iterable[CheckResult]]]) -> Iterator[CheckResult]:
    """Yield the results, while standard error says what is being checked."""
    from rich.console import Console

    console = Console(stderr=True)
    for name, results in checks:
        if console.is_terminal:
            with console.status(f"checking {name}"):
                yield from list(results)
        else:
            print(f"checking {name}", file=sys.stderr, flush=True)
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
        net.add_row(*(Text(cell) for cell in row))
    console.print(net)
    console.print()
    grid = Table(box=None, pad_edge=False)
    for name in ("check", "", "found", "expected"):
        grid.add_column(name)
    for result in results:
        grid.add_row(result.name, Text(result.state, style=COLOURS[result.state]), Text(result.observed), Text(result.expected))
    console.print(grid)
    for result in results:
        if result.advice:
            console.print(Text(f"{result.name}: {result.advice}"), soft_wrap=True)
    console.print()


def log_check(
    run: RunConfig, results: Sequence[CheckResult], layers: Sequence[Sequence[str]], *, command: str, seconds: float
) -> tuple[Path, bool]:
    """Store the check as a run of kind `check`, with its page, its pictures and its JSON: (run folder, whether the store lags)."""
    from bakeoff.config.schema import fingerprint
    from bakeoff.diagnostics.checks import check_page
    from bakeoff.run_files.journal import Journal
    from bakeoff.run_files.provenance import collect_provenance, provenance_tags
    from bakeoff.training import run_lifecycle
    from bakeoff.training.writer import Writer

    folder = run_lifecycle.create_run_dir(run, kind="check")
    wrong = any(result.state == "wrong" for result in results)
    with Writer(Path(run.tracking.folder)) as writer:
        with folder.locked(), Journal(folder.journal) as journal:
            job = folder.read_job()
            check = check_page.CheckReport(job.name, results, layers, command)
            journal.start(job)
            flat = {name: value for name, value in run.flat().items() if not name.startswith(("choices.", "tracking."))}
            journal.params({**run.choices, **flat})
            states = {f"check.{result.name.replace(' ', '_')}": result.state for result in results}
            journal.tags({"fingerprint": fingerprint(run), "check": check.summary, **states, **provenance_tags(collect_provenance())})
            journal.artifact("config.yaml")
            figures = {f"check/{name}": value for result in results for name, value in result.figures.items()}
            journal.metrics({**figures, "seconds": seconds}, step=0)
            check_page.write_check(folder.path / check_page.FOLDER, check)
            journal.artifact(check_page.FOLDER, artifact_path=check_page.FOLDER)
            folder.write_result({"id": job.id, "name": job.name, "status": "finished", "reason": check.summary, "wrong": wrong})
            journal.end("FINISHED", reason=check.summary)
        lagging = writer.close()
    return folder.path, lagging
