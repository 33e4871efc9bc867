"""A run from Python or the shell: created, trained in this process or on several devices, tracked, and resumed."""

from __future__ import annotations

import contextlib
import shlex
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bakeoff import builders
from bakeoff.config.compose import dump_frozen, load_frozen
from bakeoff.config.schema import RunConfig, TrackingConfig
from bakeoff.config.targets import trust_word
from bakeoff.errors import FolderError, MachineError, NotFoundError, RunInterrupted, redact, signal_of
from bakeoff.run_files.journal import Journal
from bakeoff.run_files.run_dir import RunDir, RunKind, RunManifest, new_run_id
from bakeoff.tracking.client import check_usable, default_uri, pass_on_uri, usable_uri
from bakeoff.training import processes
from bakeoff.training.run_training import RunResult, train_from_dir
from bakeoff.training.writer import Writer

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext


@dataclass(frozen=True)
class TrainedRun:
    """A run that has come to its end.

    Attributes:
        result: How it ended.
        run_dir: Its directory.
        tracking_uri: The store to which it belongs.
        lagging: Whether the store has not got all of it yet.
    """

    result: RunResult
    run_dir: Path
    tracking_uri: str
    lagging: bool


def tracking_uri_of(run: RunConfig) -> str:
    """Return the store of a run: its own, or the SQLite file of the working directory."""
    return usable_uri(run.tracking.uri)


def create_run_dir(run: RunConfig, *, kind: RunKind = "single", tags: Mapping[str, str] | None = None) -> RunDir:
    """Create the directory of a validated run, with its number of CPU threads fixed.

    Args:
        run: The run.
        kind: What the run is for.
        tags: Tags of the run in the store.

    Raises:
        StoreError: The run's store can never take it.
    """
    check_usable(tracking_uri_of(run))
    if run.trainer.threads is None:
        run = run.replace(**{"trainer.threads": builders.threads_per_process(run)})
    manifest = RunManifest(
        id=new_run_id(),
        name=run.title,
        experiment=run.tracking.experiment,
        kind=kind,
        tags=dict(tags or {}),
        export_model=kind not in ("reproduction", "check"),
        tracking_uri=tracking_uri_of(run),
    )
    return RunDir.create(Path(run.tracking.folder), config_text=dump_frozen(run), job=manifest)


def train_run(run: RunConfig, *, kind: RunKind = "single", tags: Mapping[str, str] | None = None, progress: bool = False) -> TrainedRun:
    """Validate a run, train it and track it.

    Args:
        run: The run.
        kind: What the run is for.
        tags: Tags of the run in the store.
        progress: Show a progress bar.

    Raises:
        BakeoffError: The run cannot be built; nothing has been written then.
    """
    check_usable(tracking_uri_of(run))
    builders.validate_run(run)
    return train_run_dir(create_run_dir(run, kind=kind, tags=tags), run, progress=progress)


def train_run_dir(run_dir: RunDir, run: RunConfig, *, progress: bool) -> TrainedRun:
    """Train the run of a directory, from its newest checkpoint where there is one, while a writer brings it to the store.

    Args:
        run_dir: The run directory.
        run: The config in it.
        progress: Show a progress bar.

    Raises:
        MachineError: The machine failed; the run can go on.
        RunInterrupted: Ctrl-C or SIGTERM stopped it; the run can go on.
    """
    manifest = run_dir.read_job()
    uri = tracking_uri_of(run)
    pass_on_uri(uri)
    with Writer(run_dir.path.parents[1], uri=uri) as writer:
        try:
            if run.trainer.is_distributed:
                result = result_or_failure(run_dir, processes.run_distributed(run_dir.path, progress=progress))
            else:
                result = train_from_dir(run_dir.path, progress=progress)
        except MachineError as error:
            raise MachineError(f"run {manifest.id} was stopped by the machine: {error}; {way_back(run_dir)}", kind=error.kind) from error
        except KeyboardInterrupt as stop:
            interrupted = interruption(run_dir, stop)
            if run.trainer.is_distributed:
                log_killed(run_dir, str(interrupted))
            raise interrupted from None
        lagging = writer.close()
    return TrainedRun(result, run_dir.path, redact(uri), lagging)


def way_back(run_dir: RunDir) -> str:
    """Return the words that say how a stopped run goes on."""
    manifest = run_dir.read_job()
    folder = run_dir.path.parents[1]
    words = [f"tracking.uri={manifest.tracking_uri}"] if manifest.tracking_uri not in ("", default_uri(Path.cwd())) else []
    words += [f"tracking.folder={folder}"] if folder.absolute() != Path(TrackingConfig().folder).absolute() else []
    return f"{shlex.join(['bakeoff', 'train', f'resume={manifest.id}', *words])}{trust_word()} continues it"


def log_killed(run_dir: RunDir, reason: str) -> None:
    """Log the end of a run whose processes are gone, where its disk takes a line more."""
    with contextlib.suppress(FolderError), Journal(run_dir.journal) as journal:
        journal.start(run_dir.read_job())
        journal.end("KILLED", reason=reason)


def interruption(run_dir: RunDir, stop: KeyboardInterrupt) -> RunInterrupted:
    """Return the interrupt of a run, with its id and the way back."""
    number = signal_of(stop)
    cause = "Ctrl-C" if number == signal.SIGINT else number.name
    message = f"run {run_dir.read_job().id} was stopped by {cause}; {way_back(run_dir)}"
    return RunInterrupted(message, signal_number=number)


def resume_run(run_dir: RunDir, *, uri: str | None = None, progress: bool) -> TrainedRun:
    """Go on with a run that was stopped or that failed; the result of one that is done is returned as it is.

    Args:
        run_dir: The run directory.
        uri: The store that it goes on in; None: the SQLite file of the working directory.
        progress: Show a progress bar.

    Raises:
        NotFoundError: The directory is that of a check.
    """
    run, manifest = load_frozen(run_dir.read_config(), origin=str(run_dir.config)), run_dir.read_job()
    if manifest.kind == "check":
        raise NotFoundError(f"run {manifest.id}: is a check, and trains nothing; bakeoff check makes it again")
    run = run.replace(**{"tracking.uri": uri or default_uri(Path.cwd())})
    check_usable(tracking_uri_of(run))
    run_dir.readdress(tracking_uri_of(run))
    result = run_dir.read_result()
    if result is None:
        builders.validate_run(run)
    elif result["status"] == "failed":
        run_dir.result.unlink()
    return train_run_dir(run_dir, run, progress=progress)


def train_in_subprocess(run: RunConfig, *, context: ForkServerContext) -> TrainedRun:
    """Train a validated run in a process tree of its own; its failure is its result, and a run that the machine stopped is `stopped`.

    Args:
        run: The run.
        context: The fork server of `processes.forkserver_context`.

    Raises:
        MachineError: The disk is full.
        RunInterrupted: Ctrl-C or SIGTERM stopped it.
    """
    run_dir = create_run_dir(run)
    process = processes.start_child(run_dir.path, context=context)
    try:
        process.join()
    except KeyboardInterrupt as stop:
        processes.stop_child(process)
        raise interruption(run_dir, stop) from None
    try:
        result = result_or_failure(run_dir, process.exitcode)
    except MachineError as error:
        if error.kind == "disk":
            raise
        manifest = run_dir.read_job()
        result = RunResult(manifest.id, manifest.name, "stopped", f"{error}; {way_back(run_dir)}")
    return TrainedRun(result, run_dir.path, run_dir.read_job().tracking_uri, lagging=False)


def result_or_failure(run_dir: RunDir, exit_code: int | None) -> RunResult:
    """Return the result of a run whose processes are gone; one that left none has failed, which is logged then.

    Raises:
        MachineError: The machine has ended it.
    """
    content = run_dir.read_result()
    if content is not None:
        return RunResult.from_json_dict(content)
    manifest = run_dir.read_job()
    death = processes.find_death(run_dir, exit_code)
    if death.kind != "crash":
        log_killed(run_dir, death.reason)
        raise MachineError(death.reason, kind=death.kind)
    reason = f"{death.reason}; {run_dir.log}"
    with Journal(run_dir.journal) as journal:
        journal.start(manifest)
        journal.end("FAILED", reason=reason)
    return RunResult(manifest.id, manifest.name, "failed", reason)
