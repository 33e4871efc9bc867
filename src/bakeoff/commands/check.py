"""`bakeoff check [key=value ...]`: before hours are spent, whether data, net, gradients and rate are in order. Trains nothing that is kept.

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
    from bakeoff.diagnostics.checks.context import CheckContext, CheckResult

COLOURS = {"ok": "green", "look": "yellow", "wrong": "bold red", "told": ""}


def main(argv: list[str]) -> int:
    """Check one run, print the table, and keep it in the store as a run of kind `check`."""
    parser = argparse.ArgumentParser(prog="bakeoff check", description=__doc__)
    parser.add_argument("--json", action="store_true", help="the result as one JSON object")
    parser.add_argument("--config-dir", type=Path, help="a folder of your own, laid over conf/")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="as for bakeoff train")
    args = parser.parse_intermixed_args(argv)
    from bakeoff.commands.train import trust
    from bakeoff.config.compose import compose_config
    from bakeoff.errors import ConfigError

    composed = compose_config(args.overrides, config_dir=args.config_dir)
    if composed.resume is not None:
        raise ConfigError(f"resume={composed.resume}: check trains nothing; leave resume out")
    trust([composed.trust])
    run = composed.run
    from bakeoff.training import run_lifecycle

    run_lifecycle.validate_run(run)
    return report(run, as_json=args.json, line=shlex.join(["bakeoff", "check", *argv]))


def report(run: RunConfig, *, as_json: bool, line: str) -> int:
    """All checks of a run whose door is passed, into its folder, the store and the terminal."""
    import torch

    from bakeoff.diagnostics.checks import context as bench_of
    from bakeoff.diagnostics.checks import page
    from bakeoff.diagnostics.checks.start import shapes
    from bakeoff.training.run_training import set_determinism, silence_lightning

    if run.trainer.threads is not None:
        torch.set_num_threads(run.trainer.threads)
    silence_lightning()
    set_determinism(run)
    began = time.perf_counter()
    bench = bench_of.CheckContext(run)
    found = list(progress(all_checks(bench)))
    layers = shapes(bench)
    seconds = time.perf_counter() - began
    folder, lagging = keep(run, found, layers, line=line, seconds=seconds)
    if as_json:
        tree = {"verdict": page.verdict(found), "findings": bench_of.plain(found), "layers": layers, "folder": str(folder)}
        print(json.dumps(tree | {"seconds": seconds, "lagging": lagging}))
    else:
        table(found, layers)
        print(f"{page.verdict(found)}  ({seconds:.1f} s)\n  page  {folder / page.FOLDER / 'index.html'}")
    return 1 if any(each.state == "wrong" for each in found) else 0


def all_checks(bench: CheckContext) -> Iterator[tuple[str, Iterable[CheckResult]]]:
    """What is looked at, in words, and the findings as they come."""
    from bakeoff.diagnostics.checks.images import check_images
    from bakeoff.diagnostics.checks.learning import check_gradients, check_overfit, check_rates
    from bakeoff.diagnostics.checks.start import check_start

    yield "images", check_images(bench)
    yield "the net at the start", check_start(bench)
    yield "gradients", check_gradients(bench)
    yield "20 examples by heart", check_overfit(bench)
    yield "range of rates", check_rates(bench)
    yield "cost", check_cost(bench.run)


def check_cost(run: RunConfig) -> Iterator[CheckResult]:
    """Speed, memory and the time of the whole run, from a few real steps."""
    import resource

    import torch

    from bakeoff.diagnostics.checks.context import CheckResult
    from bakeoff.training import cost_probe

    gpu = run.trainer.accelerator != "cpu" and torch.cuda.is_available()
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    step, whole = cost_probe.measure_cost(run, seconds=2.0)
    # Linux tells the peak of a process in KiB.
    peak = torch.cuda.max_memory_allocated() if gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    speed = run.data.batch_size / run.trainer.devices / step
    kind = "of the GPU" if gpu else "of this process"
    figures = {"step_seconds": step, "images_per_second": speed, "memory_mb": peak / 1e6}
    yield CheckResult("speed", "told", f"{speed:,.0f} images/s, {1000 * step:.3g} ms a step", "", "", figures)
    yield CheckResult("memory", "told", f"{peak / 1e6:,.0f} MB {kind} at most")
    yield CheckResult("time of the whole run", "told", f"about {lasting(whole)}", "", "", {"run_seconds": whole})


def lasting(seconds: float) -> str:
    """`42 s`, `3.5 min`, `2.1 h`, `3 days`."""
    for unit, size in (("days", 172800), ("h", 7200), ("min", 120)):
        if seconds >= size:
            return f"{seconds / {'days': 86400, 'h': 3600, 'min': 60}[unit]:.1f} {unit}"
    return f"{seconds:.0f} s"


def progress(checks: Iterable[tuple[str, Iterable[CheckResult]]]) -> Iterator[CheckResult]:
    """The findings, while standard error says what is being looked at."""
    from rich.console import Console

    console = Console(stderr=True)
    for words, found in checks:
        if console.is_terminal:
            with console.status(f"checking {words}"):
                yield from list(found)
        else:
            print(f"checking {words}", file=sys.stderr, flush=True)
            yield from found


def table(found: Sequence[CheckResult], layers: Sequence[Sequence[str]]) -> None:
    """The layers, the findings, and below them what to do, on standard output."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from bakeoff.diagnostics.checks.page import LAYERS

    console = Console()
    net = Table(box=None, pad_edge=False)
    for name in LAYERS:
        net.add_column(name, justify="right" if name in LAYERS[3:] else "left")
    for row in layers:
        net.add_row(*(Text(cell) for cell in row))
    console.print(net)
    console.print()
    grid = Table(box=None, pad_edge=False)
    for name in ("check", "", "found", "expected"):
        grid.add_column(name)
    for each in found:
        grid.add_row(each.name, Text(each.state, style=COLOURS[each.state]), Text(each.found), Text(each.expected))
    console.print(grid)
    for each in found:
        if each.advice:
            console.print(Text(f"{each.name}: {each.advice}"), soft_wrap=True)
    console.print()


def keep(run: RunConfig, found: Sequence[CheckResult], layers: Sequence[Sequence[str]], *, line: str, seconds: float) -> tuple[Path, bool]:
    """(folder, whether the store lags): the check as a run of kind `check`, with its page, its pictures and its JSON."""
    from bakeoff.config.schema import fingerprint
    from bakeoff.diagnostics.checks import page
    from bakeoff.runs.journal import Journal
    from bakeoff.runs.provenance import collect_provenance, provenance_tags
    from bakeoff.tracking.writer import Writer
    from bakeoff.training import run_lifecycle

    folder = run_lifecycle.create_run_dir(run, kind="check")
    wrong = any(each.state == "wrong" for each in found)
    with Writer(Path(run.tracking.folder)) as writer:
        with folder.locked(), Journal(folder.journal) as journal:
            job = folder.read_job()
            journal.start(job)
            flat = {name: value for name, value in run.flat().items() if not name.startswith(("choices.", "tracking."))}
            journal.params({**run.choices, **flat})
            states = {f"check.{each.name.replace(' ', '_')}": each.state for each in found}
            journal.tags({"fingerprint": fingerprint(run), "check": page.verdict(found), **states, **provenance_tags(collect_provenance())})
            journal.artifact("config.yaml")
            figures = {f"check/{name}": value for each in found for name, value in each.figures.items()}
            journal.metrics({**figures, "seconds": seconds}, step=0)
            page.write(folder.path / page.FOLDER, job.name, found, layers, line=line)
            journal.artifact(page.FOLDER, artifact_path=page.FOLDER)
            folder.write_result({"id": job.id, "name": job.name, "status": "finished", "reason": page.verdict(found), "wrong": wrong})
            journal.end("FINISHED", reason=page.verdict(found))
        lagging = writer.close()
    return folder.path, lagging
