"""One run from Python or the shell: a run folder, a writer beside it, and the training in this process or on several devices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bakeoff import builders
from bakeoff.config.compose import dump_frozen, load_frozen
from bakeoff.config.schema import RunConfig
from bakeoff.errors import NotFoundError
from bakeoff.runs.journal import Journal
from bakeoff.runs.run_dir import RunDir, RunKind, RunManifest, new_run_id
from bakeoff.tracking.store import default_uri
from bakeoff.tracking.writer import Writer
from bakeoff.training.run_training import RunResult, train_from_dir

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext


@dataclass(frozen=True)
class TrainedRun:
    """A run's result and where it lies; `lagging` where the store has not yet got all of it."""

    result: RunResult
    folder: Path
    uri: str
    lagging: bool


def tracking_uri_of(run: RunConfig) -> str:
    """The store of a run: its own, or the SQLite file of the working folder."""
    return run.tracking.uri or default_uri(Path.cwd())


def create_run_dir(run: RunConfig, *, kind: RunKind = "single", tags: Mapping[str, str] | None = None) -> RunDir:
    """A folder for a run that is `ready`, its number of CPU threads pinned."""
    if run.trainer.threads is None:
        run = run.replace(**{"trainer.threads": builders.threads_per_process(run)})
    job = RunManifest(
        id=new_run_id(),
        name=run.title,
        experiment=run.tracking.experiment,
        kind=kind,
        tags=dict(tags or {}),
        export_model=kind not in ("reproduction", "check"),
        tracking_uri=tracking_uri_of(run),
    )
    return RunDir.create(Path(run.tracking.folder), config_text=dump_frozen(run), job=job)


def train_run(run: RunConfig, *, kind: RunKind = "single", tags: Mapping[str, str] | None = None, progress: bool = False) -> TrainedRun:
    """Train `run` and track it. Raises `BakeoffError` before anything is written where the run cannot be built."""
    builders.validate_run(run)
    return train_run_dir(create_run_dir(run, kind=kind, tags=tags), run, progress=progress)


def train_run_dir(folder: RunDir, run: RunConfig, *, progress: bool) -> TrainedRun:
    """Train the run of a folder, from its newest checkpoint where there is one, while a writer brings it to the store."""
    from bakeoff.training import processes

    job = folder.read_job()
    with Writer(Path(run.tracking.folder)) as writer:
        if run.trainer.devices > 1 or run.trainer.strategy == "ddp":
            processes.run_distributed(folder.path, progress=progress)
            result = result_or_failure(folder)
        else:
            result = train_from_dir(folder.path, progress=progress)
        lagging = writer.close()
    return TrainedRun(result, folder.path, job.tracking_uri, lagging)


def resume_run(folder: RunDir, *, progress: bool) -> TrainedRun:
    """Go on with a run that was stopped, or that failed; one that is done is only told again."""
    run = load_frozen(folder.config.read_text(), origin=str(folder.config))
    if folder.read_job().kind == "check":
        raise NotFoundError(f"run {folder.read_job().id}: is a check, and trains nothing; bakeoff check makes it again")
    before = folder.read_result()
    if before is not None and before["status"] == "failed":
        folder.result.unlink()
    elif before is None:
        builders.validate_run(run)
    return train_run_dir(folder, run, progress=progress)


def train_in_subprocess(run: RunConfig, *, context: ForkServerContext) -> TrainedRun:
    """Train a run that is `ready` in a process tree of its own; its failure is its result."""
    from bakeoff.training import processes

    folder = create_run_dir(run)
    process = processes.start_child(folder.path, context=context)
    process.join()
    return TrainedRun(result_or_failure(folder), folder.path, folder.read_job().tracking_uri, lagging=False)


def result_or_failure(folder: RunDir) -> RunResult:
    """The result of a run whose processes are gone; one that left none has failed, and says so in its journal."""
    from bakeoff.training import processes

    tree = folder.read_result()
    if tree is not None:
        return RunResult.from_json_dict(tree)
    job = folder.read_job()
    reason = f"its process ended without a result; {folder.log} {processes.last_log_line(folder)}".strip()
    with Journal(folder.journal) as journal:
        journal.start(job)
        journal.end("FAILED", reason=reason)
    return RunResult(job.id, job.name, "failed", reason)
