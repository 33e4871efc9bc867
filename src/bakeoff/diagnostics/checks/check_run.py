"""All checks of a run in order, the last of which is its cost, and the run of kind `check` that stores their results."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterable, Iterator

import torch

from bakeoff.config.schema import RunConfig, fingerprint
from bakeoff.diagnostics.checks import check_page
from bakeoff.diagnostics.checks.check_context import CheckContext, CheckResult
from bakeoff.diagnostics.checks.dataset import check_dataset
from bakeoff.diagnostics.checks.initialization import check_initialization
from bakeoff.diagnostics.checks.optimization import check_gradients, check_overfit, check_rates
from bakeoff.run_files.journal import Journal
from bakeoff.run_files.provenance import collect_provenance, provenance_tags
from bakeoff.run_files.run_dir import RunDir

MeasureCost = Callable[[RunConfig], tuple[float, float]]
"""Returns the seconds of an optimizer step and of the run."""


def all_checks(context: CheckContext, *, measure_cost: MeasureCost) -> Iterator[tuple[str, Iterable[CheckResult]]]:
    """Yield the subject and the results of each group of checks."""
    yield "images", check_dataset(context)
    yield "the initial net", check_initialization(context)
    yield "gradients", check_gradients(context)
    yield "memorizing 20 examples", check_overfit(context)
    yield "learning rates", check_rates(context)
    yield "cost", check_cost(context.run, measure_cost)


def check_cost(run: RunConfig, measure_cost: MeasureCost) -> Iterator[CheckResult]:
    """Measure speed, memory and the time of the run."""
    gpu = run.trainer.accelerator != "cpu" and torch.cuda.is_available()
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    step, total = measure_cost(run)
    # Linux reports the peak memory of a process in KiB.
    peak = torch.cuda.max_memory_allocated() if gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    speed = run.data.batch_size / run.trainer.devices / step
    kind = "of the GPU" if gpu else "of this process"
    figures = {"step_seconds": step, "images_per_second": speed, "memory_mb": peak / 1e6}
    yield CheckResult("speed", "info", f"{speed:,.0f} images/s, {1000 * step:.3g} ms per step", "", "", figures)
    yield CheckResult("memory", "info", f"at most {peak / 1e6:,.0f} MB {kind}")
    yield CheckResult("time of the whole run", "info", f"about {format_duration(total)}", "", "", {"run_seconds": total})


def format_duration(seconds: float) -> str:
    """Write a duration as `42 s`, `3.5 min`, `2.1 h` or `3 days`."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def log_check(run_dir: RunDir, run: RunConfig, check: check_page.CheckReport, *, seconds: float) -> None:
    """Store a check in the folder and journal of a run of kind `check`, with its page, pictures, JSON and duration."""
    with run_dir.locked(), Journal(run_dir.journal) as journal:
        manifest = run_dir.read_job()
        journal.start(manifest)
        journal.params(run.params())
        states = {f"check.{result.name.replace(' ', '_')}": result.state for result in check.results}
        journal.tags({"fingerprint": fingerprint(run), "check": check.summary, **states, **provenance_tags(collect_provenance())})
        journal.artifact("config.yaml")
        figures = {f"check/{name}": value for result in check.results for name, value in result.figures.items()}
        journal.metrics({**figures, "seconds": seconds}, step=0)
        check_page.write_check(run_dir.path / check_page.FOLDER, check)
        journal.artifact(check_page.FOLDER, artifact_path=check_page.FOLDER)
        ending = {"id": manifest.id, "name": manifest.name, "status": "finished", "reason": check.summary, "wrong": check.is_wrong}
        run_dir.write_result(ending)
        journal.end("FINISHED", reason=check.summary)
