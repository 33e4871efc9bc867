"""One run from Python or the shell: a run folder, a writer beside it, and the training in this process or on several devices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bakeoff import build
from bakeoff.composition import frozen_text, load_frozen
from bakeoff.errors import ConfigError, NotFoundError
from bakeoff.recipe import Run
from bakeoff.tracking.folders import Job, Kind, RunFolder, new_id
from bakeoff.tracking.journal import Journal
from bakeoff.tracking.store import default_uri
from bakeoff.tracking.writer import Writer
from bakeoff.training.fullbatch import check_batch
from bakeoff.training.run import Result, execute

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext

    from bakeoff.data.module import ImageData


@dataclass(frozen=True)
class Outcome:
    """A run's result and where it lies; `lagging` where the store has not yet got all of it."""

    result: Result
    folder: Path
    uri: str
    lagging: bool


def store_uri(run: Run) -> str:
    """The store of a run: its own, or the SQLite file of the working folder."""
    return run.tracking.uri or default_uri(Path.cwd())


def ready(run: Run) -> ImageData:
    """The whole door, and the data, read and split: what is wrong is told before any folder is made."""
    from bakeoff.data.module import load

    build.check(run)
    data = build.make_data(run)
    agree(run, "num_classes", len(load(data.source)[0].classes))  # before the setup, which decodes some of the images
    data.setup("fit")
    agree(run, "channels", data.channels)
    check_batch(run, images=data.n_train)
    return data


def agree(run: Run, key: str, found: int) -> None:
    """Errors: ConfigError where the run's data.<key> is not what the dataset has."""
    told, source = getattr(run.data, key), run.data.source["_target_"].rpartition(".")[2]
    if told != found:
        raise ConfigError(f"data.{key}={told}: {source} has {found} in data.root={run.data.root}: set data.{key}={found}")


def open_run(run: Run, *, kind: Kind = "single", tags: Mapping[str, str] | None = None) -> RunFolder:
    """A folder for a run that is `ready`, its number of CPU threads pinned."""
    if run.trainer.threads is None:
        run = run.replace(**{"trainer.threads": max(1, build.cores() // run.trainer.devices)})
    job = Job(
        id=new_id(),
        name=run.title,
        experiment=run.tracking.experiment,
        kind=kind,
        tags=dict(tags or {}),
        export_model=kind not in ("reproduction", "check"),
        tracking_uri=store_uri(run),
    )
    return RunFolder.create(Path(run.tracking.folder), config_text=frozen_text(run), job=job)


def train(run: Run, *, kind: Kind = "single", tags: Mapping[str, str] | None = None, progress: bool = False) -> Outcome:
    """Train `run` and track it. Raises `BakeoffError` before anything is written where the run cannot be built."""
    ready(run)
    return carry_on(open_run(run, kind=kind, tags=tags), run, progress=progress)


def carry_on(folder: RunFolder, run: Run, *, progress: bool) -> Outcome:
    """Train the run of a folder, from its newest checkpoint where there is one, while a writer brings it to the store."""
    from bakeoff.training import launch

    job = folder.read_job()
    with Writer(Path(run.tracking.folder)) as writer:
        if run.trainer.devices > 1 or run.trainer.strategy == "ddp":
            launch.alone(folder.path, progress=progress)
            result = ended(folder)
        else:
            result = execute(folder.path, progress=progress)
        lagging = writer.close()
    return Outcome(result, folder.path, job.tracking_uri, lagging)


def take_up(folder: RunFolder, *, progress: bool) -> Outcome:
    """Go on with a run that was stopped, or that failed; one that is done is only told again."""
    run = load_frozen(folder.config.read_text(), origin=str(folder.config))
    if folder.read_job().kind == "check":
        raise NotFoundError(f"run {folder.read_job().id}: is a check, and trains nothing; bakeoff check makes it again")
    before = folder.read_result()
    if before is not None and before["status"] == "failed":
        folder.result.unlink()
    elif before is None:
        ready(run)
    return carry_on(folder, run, progress=progress)


def apart(run: Run, *, context: ForkServerContext) -> Outcome:
    """Train a run that is `ready` in a process tree of its own; its failure is its result."""
    from bakeoff.training import launch

    folder = open_run(run)
    process = launch.child(folder.path, context=context)
    process.join()
    return Outcome(ended(folder), folder.path, folder.read_job().tracking_uri, lagging=False)


def ended(folder: RunFolder) -> Result:
    """The result of a run whose processes are gone; one that left none has failed, and says so in its journal."""
    from bakeoff.training import launch

    tree = folder.read_result()
    if tree is not None:
        return Result.of(tree)
    job = folder.read_job()
    reason = f"its process ended without a result; {folder.log} {launch.last_words(folder)}".strip()
    with Journal(folder.journal) as journal:
        journal.start(job)
        journal.end("FAILED", reason=reason)
    return Result(job.id, job.name, "failed", reason)
