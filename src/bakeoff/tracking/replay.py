"""Replays a run's journal into an MLflow store, as often as one likes and from wherever it stopped, with the same outcome.

Why that holds: a run is found again by its tag `bakeoff.id`; the store keeps an identical (metric, time, step, value) once; params,
tags, datasets and artifacts of the same content replace themselves; and the cursor moves only over what the store has taken.
"""

from __future__ import annotations

import contextlib
import json
import posixpath
import re
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from filelock import Timeout

from bakeoff.errors import BakeoffError, FolderError, redact
from bakeoff.run_files.atomic import write_atomic
from bakeoff.run_files.file_locks import hold_lock
from bakeoff.run_files.journal import Status, now, scan_journal
from bakeoff.run_files.json_text import parse_json
from bakeoff.run_files.run_dir import RunDir
from bakeoff.tracking import model_export, ui_tags
from bakeoff.tracking.client import (
    ID_TAG,
    absolute_uri,
    artifact_root,
    check_artifact_address,
    default_uri,
    ensure_schema,
    open_client,
    sqlite_path,
    store_errors,
)
from bakeoff.tracking.run_store import LoggedDataset, Point, RunStore, RunUpdate, StoredRun
from bakeoff.tracking.sqlite_store import SqliteRunStore, has_known_schema
from bakeoff.tracking.store import run_statuses

NAME_LENGTH, PARAM_LENGTH, TAG_LENGTH = 250, 6000, 8000
DATASET_LENGTHS = {"name": 500, "digest": 36, "source": 65_535, "profile": 16_777_215, "context": 500}
DIGESTED = 256


@dataclass
class ReplayProgress:
    """What one replay did and where the run stands in the store."""

    folder: Path
    id: str
    mlflow_id: str = ""
    lines: int = 0
    torn: int = 0
    offset: int = 0
    status: str = ""
    pending: int = 0
    problems: list[str] = field(default_factory=list)


def store_of(folder: RunDir, *, uri: str | None = None) -> str:
    """Return the address of the store that a run is replayed into.

    Args:
        folder: The run's folder.
        uri: The address; None: the working folder's SQLite store. What the run's files say is not asked: they may be a stranger's.

    Returns:
        The address, absolute for SQLite.
    """
    return absolute_uri(uri or default_uri(Path.cwd()))


def foreign_store(folder: RunDir, *, uri: str | None = None) -> str | None:
    """Return the address that a run's files name, without secrets; None where it is that of `store_of`, or there is none."""
    named = redact(absolute_uri(folder.read_job().tracking_uri))
    return named if named and named != redact(store_of(folder, uri=uri)) else None


def is_behind(folder: RunDir, *, uri: str | None = None, models: bool = True) -> bool:
    """Return whether the journal holds something that the store has not taken yet; a line still being written does not count.

    Runs that name another store are left to it; `RunDir.readdress` brings them here.

    Args:
        folder: The run's folder.
        uri: The store; None: see `store_of`.
        models: Whether trained nets that are still to be exported count.
    """
    if foreign_store(folder, uri=uri) is not None:
        return False
    cursor = _read_cursors(folder).get(redact(store_of(folder, uri=uri)), {})
    if (models and cursor.get("pending")) or _is_cut(folder, cursor):
        return True
    return any(line is not None for _, line in scan_journal(folder.journal, offset=cursor.get("offset", 0)))


def forget_lost_runs(folders: Iterable[RunDir], *, uri: str | None = None, files_only: bool = False) -> None:
    """Ask the stores which runs they have, and drop the cursors of those that one has lost or had put back, so that they are replayed.

    Args:
        folders: The folders of the runs.
        uri: The store; None: see `store_of`.
        files_only: Ask SQLite files alone, which takes milliseconds.

    Raises:
        StoreError: A store does not answer.
    """
    statuses: dict[str, dict[str, str]] = {}
    for folder in folders:
        try:
            address = store_of(folder, uri=uri)
            cursor = _read_cursors(folder).get(redact(address), {})
        except FolderError:
            continue  # a damaged folder, which its own replay tells
        if not cursor.get("run") or (files_only and sqlite_path(address) is None):
            continue
        if address not in statuses:
            statuses[address] = run_statuses(address)
        status = statuses[address].get(cursor["run"])
        if status is None or (cursor["status"] != "RUNNING" and status != cursor["status"]):
            with _replay_lock(folder):
                cursors = _read_cursors(folder)
                cursors.pop(redact(address), None)
                write_atomic(folder.cursor, json.dumps(cursors) + "\n")


def replay_run(folder: RunDir, *, uri: str | None = None, write_model: model_export.WriteModel | None = None) -> ReplayProgress:
    """Bring the store up to the journal. After an error a later replay goes on from the same place.

    Args:
        folder: The run's folder.
        uri: The store; None: see `store_of`.
        write_model: Writes the files of a trained net that a run's folder lacks; None leaves nets for a later replay.

    Returns:
        What was done.

    Raises:
        StoreError: The store is away.
        FolderError: The folder is not that of a run.
    """
    (outcome,) = replay_runs([folder], uri=uri, write_model=write_model).values()
    if isinstance(outcome, BakeoffError):
        raise outcome
    return outcome


def replay_runs(
    folders: Sequence[RunDir], *, uri: str | None = None, write_model: model_export.WriteModel | None = None
) -> dict[Path, ReplayProgress | BakeoffError]:
    """Bring the store up to some of the journals, written together where the store can, as `replay_run` does.

    Args:
        folders: The runs' folders, at least one. As many are replayed as the store takes together and no other process is replaying.
        uri: The store; None: see `store_of`.
        write_model: See `replay_run`.

    Returns:
        Folder -> what was done, or why nothing could be, of those that were replayed: the first one at least.

    Raises:
        StoreError: The store is away.
    """
    address = store_of(folders[0], uri=uri)
    outcomes: dict[Path, ReplayProgress | BakeoffError] = {}
    locked: list[RunDir] = []
    with open_run_store(address) as store, contextlib.ExitStack() as locks:
        for folder in folders[: store.runs]:
            try:
                # Nobody waits for one folder while holding another.
                locks.enter_context(_replay_lock(folder, timeout=0 if locked else -1))
                locked.append(folder)
            except FolderError as error:
                outcomes[folder.path] = error
            except Timeout:
                continue
        return outcomes | (_replay_together(locked, store, address, write_model) if locked else {})


def _replay_together(
    folders: Sequence[RunDir], store: RunStore, uri: str, write_model: model_export.WriteModel | None
) -> dict[Path, ReplayProgress | BakeoffError]:
    """Replay runs together, and one by one where one of them is in the others' way."""
    try:
        return {task.folder.path: task.progress for task in _replay(folders, store, uri, write_model)}
    except BakeoffError as error:
        if len(folders) == 1:
            return {folders[0].path: error}
        if isinstance(error.__cause__, sqlite3.OperationalError):
            raise  # locked, or the disk is full: the same for all of them
    return {path: outcome for folder in folders for path, outcome in _replay_together([folder], store, uri, write_model).items()}


def _replay(folders: Sequence[RunDir], store: RunStore, uri: str, write_model: model_export.WriteModel | None) -> list[_Replay]:
    with store_errors(uri):
        tasks = [_Replay(folder, store, uri) for folder in folders]
        unread = [task for task in tasks if task.check_cursor()]
        while unread:
            reading = [task for task in unread if task.read()]
            unopened = [task for task in unread if task.run is None and task.start is not None]
            if unopened:
                with store.transaction():
                    for task in unopened:
                        task.open()
            for task in unread:
                task.upload()
            with store.transaction():
                for task in unread:
                    task.write()
            for task in unread:
                task.save()
            unread = [task for task in reading if task.run is not None]
        for task in tasks:
            if write_model is not None:
                task.export_models(write_model)
            task.report()
        return tasks


@contextlib.contextmanager
def open_run_store(uri: str) -> Iterator[RunStore]:
    """Open the store at an address for writing, and make it where it is a fresh one."""
    ensure_schema(uri)
    file = sqlite_path(uri)
    with store_errors(uri), contextlib.ExitStack() as stack:
        if file is not None and has_known_schema(file):
            yield stack.enter_context(contextlib.closing(SqliteRunStore(file)))
        else:
            from bakeoff.tracking.mlflow_store import MlflowRunStore

            yield MlflowRunStore(open_client(uri))


def _replay_lock(folder: RunDir, *, timeout: float = -1.0) -> contextlib.AbstractContextManager[None]:
    """Let the replays of one run take turns."""
    return hold_lock(folder.path / "cursor.lock", timeout=timeout)


def _read_cursors(folder: RunDir) -> dict[str, dict[str, Any]]:
    """Read cursor.json: a cursor for each store's address without secrets. Where it is missing or damaged everything is replayed again."""
    try:
        raw = parse_json(folder.cursor.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    except OSError as error:
        raise FolderError(f"{folder.cursor}: cannot be read: {error.strerror}") from error
    cursors = raw.items() if isinstance(raw, dict) else ()
    return {address: cursor for address, cursor in cursors if isinstance(cursor, dict) and _is_cursor(cursor)}


def _is_cursor(cursor: dict[str, Any]) -> bool:
    offset, run, pending = cursor.get("offset"), cursor.get("run"), cursor.get("pending", [])
    texts = ["" if run is None else run, cursor.get("status"), cursor.get("digest", "")]
    return (
        isinstance(offset, int)
        and 0 <= offset < 2**63
        and all(isinstance(text, str) for text in texts)
        and isinstance(pending, list)
        and all(isinstance(line, dict) for line in pending)
    )


def _is_cut(folder: RunDir, cursor: dict[str, Any]) -> bool:
    """Whether the journal is not the one that the cursor is of: a power cut has taken what the store has."""
    offset = cursor.get("offset", 0)
    if not offset or not folder.journal.exists():
        return False
    return folder.journal.stat().st_size < offset or cursor.get("digest", "") not in ("", _digest(folder, offset))


def _digest(folder: RunDir, offset: int) -> str:
    """A checksum of what stands right before an offset of the journal; '' at its beginning."""
    if not offset:
        return ""
    with open(folder.journal, "rb") as file:
        file.seek(max(0, offset - DIGESTED))
        return f"{zlib.crc32(file.read(min(offset, DIGESTED))):08x}"


class _Replay:
    """One replay of one run: read some lines, open the run, upload its artifacts, write the rest, save the cursor, and so on."""

    def __init__(self, folder: RunDir, store: RunStore, uri: str) -> None:
        self.folder, self.store, self.uri = folder, store, uri
        self.job = folder.read_job()
        self.cursors = _read_cursors(folder)
        self.cursor: dict[str, Any] = {"offset": 0, "run": None, "status": "", "pending": []} | self.cursors.get(redact(uri), {})
        self.cursor["pending"] = list(self.cursor["pending"])
        self.run: StoredRun | None = None
        self.start: tuple[dict[str, str], int] | None = None
        self.update, self.artifacts = RunUpdate(), list[tuple[Path, str]]()
        self.stored: set[tuple[str, int]] = set()
        self.progress = ReplayProgress(folder.path, self.job.id)

    def check_cursor(self) -> bool:
        """The store may have been thrown away or put back to an earlier state since: then everything is replayed again.

        Returns:
            Whether there is a run to go on with, which a user has not deleted.
        """
        if self.cursor["run"] is not None:
            self.run = self.store.get_run(self.cursor["run"])
            if self.run is None:
                self.cursor = {"offset": 0, "run": None, "status": "", "pending": []}
                return True
            check_artifact_address(self.uri, self.run.artifact_uri)
            if self.run.is_deleted:
                return self._leave(f"run {self.job.id}")
            if _is_cut(self.folder, self.cursor):
                self.cursor |= {"offset": 0, "pending": []}
                # A resumed run logs the lost steps again, with the same values at another time: the store keeps the first ones.
                self.stored = self.store.get_points(self.run.id)
        return True

    def read(self) -> bool:
        """Read lines, as many as the store takes at a time; return whether there may be more."""
        self.start, self.update, self.artifacts = None, RunUpdate(), []
        for offset, line in scan_journal(self.folder.journal, offset=self.cursor["offset"]):
            self.cursor["offset"] = offset
            if line is None:
                self.progress.torn += 1
                continue
            self.progress.lines += 1
            if line["kind"] != "start" and self.run is None and self.start is None:  # the start line was torn
                self.start = (self._start_tags(self.job.tags), _int64(line.get("ts"), default=now()))
            self._read_line(line)
            if len(self.update.points) >= self.store.points:
                break
        return len(self.update.points) >= self.store.points

    def open(self) -> None:
        """Find the run in the store, or make it."""
        assert self.start is not None
        tags, ts = self.start
        experiment = self._experiment()
        run = None if experiment is None else self.store.find_run(experiment, self.job.id)
        if run is not None and run.is_deleted:
            self._leave(f"run {self.job.id}")
        if experiment is None or (run is not None and run.is_deleted):
            return
        if run is None:
            run = self.store.create_run(experiment, start_time=ts, name=self.job.name, tags=tags)
            if self.job.kind == "summary":
                ui_tags.introduce(self.store, experiment, summary=run.id, tags=tags)
        else:
            self.update.tags = tags | self.update.tags
        check_artifact_address(self.uri, run.artifact_uri)
        self.run = run
        self.cursor["run"], self.cursor["status"] = run.id, "RUNNING"
        # One that was FINISHED, say, goes on; what is RUNNING need not be told.
        self.update.status = self.update.status or "RUNNING"
        if self.update.status == run.status:
            self.update.status = ""

    def upload(self) -> None:
        """Copy artifacts; readers who see the end of a run find them."""
        if self.run is not None:
            for source, target in self.artifacts:
                self.store.upload(self.run, source, artifact_path=target)

    def write(self) -> None:
        """Write everything else."""
        if self.run is not None:
            self.progress.problems += [f"{self.folder.journal}: {refused}" for refused in self.store.update_run(self.run.id, self.update)]
            self.cursor["status"] = self.update.status or self.cursor["status"]

    def save(self) -> None:
        """Move the cursor over what the store has taken."""
        self.cursor |= {"digest": _digest(self.folder, self.cursor["offset"])}
        if self.cursor != self.cursors.get(redact(self.uri)):
            self.cursors[redact(self.uri)] = self.cursor | {"pending": list(self.cursor["pending"])}
            # Not flushed to the disk: an older or empty cursor only has lines replayed again.
            write_atomic(self.folder.cursor, json.dumps(self.cursors) + "\n", sync=False)

    def export_models(self, write_model: model_export.WriteModel) -> None:
        """Trained nets come after everything else, since they may take seconds and nobody waits for them."""
        for line in list(self.cursor["pending"]) if self.run is not None else ():
            assert self.run is not None
            problem = model_export.log_model(self.store, self.run, self.folder, line, write_model=write_model)
            self.progress.problems += [problem] if problem else []
            self.cursor["pending"].remove(line)
            self.save()

    def report(self) -> None:
        """Fill in where the run stands."""
        self.progress.mlflow_id = self.cursor["run"] or ""
        self.progress.offset, self.progress.status = self.cursor["offset"], self.cursor["status"]
        self.progress.pending = len(self.cursor["pending"])

    def _leave(self, name: str) -> bool:
        """Leave alone what a user has deleted in the store: it is not brought back behind their back."""
        self.progress.problems.append(f"{name} was deleted in the store {redact(self.uri)} (restore it there)")
        self.run = None
        return False

    def _experiment(self) -> str | None:
        """Return the id of the run's experiment, which is made where it is missing; None where a user has deleted it."""
        name = self.job.experiment
        experiment = self.store.find_experiment(name)
        if experiment is None:
            root = artifact_root(self.uri)
            location = (root / re.sub(r"[^\w.,=+@-]+", "_", name, flags=re.ASCII)).as_uri() if root else None
            id = self.store.create_experiment(name, artifact_location=location, tags=ui_tags.KIND)
            experiment = self.store.find_experiment(name) if id is None else (id, False)
        if experiment is None or experiment[1]:
            self._leave(f"experiment {name}")
            return None
        return experiment[0]

    def _read_line(self, line: dict[str, Any]) -> None:
        """Take in one line; one that is damaged is a problem that is named and left out, since it would be so the next time, too."""
        handlers = {
            "start": self._start,
            "params": self._params,
            "tags": self._tags,
            "metrics": self._metrics,
            "dataset": self._dataset,
            "artifact": self._artifact,
            "model": self._model,
            "end": self._end,
        }
        handler = handlers.get(line["kind"])
        if handler is None:
            self.progress.problems.append(f"{self.folder.journal}: unknown kind of line {line['kind'][:60]!r}")
            return
        try:
            handler(line)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            what = f"{type(error).__name__}: {error}"
            self.progress.problems.append(f"{self.folder.journal}: a damaged line of kind {line['kind']!r} is left out ({what[:200]})")

    def _start(self, line: dict[str, Any]) -> None:
        tags, ts = self._start_tags(line["tags"]), _int64(line["ts"])
        if self.run is None and self.start is None:
            self.start = (tags, ts)
        else:
            self.update.tags |= tags
        self.update.status = "RUNNING"

    def _start_tags(self, tags: Mapping[str, object]) -> dict[str, str]:
        return dict(self._named({**tags, "kind": self.job.kind, ID_TAG: self.job.id}, TAG_LENGTH))

    def _params(self, line: dict[str, Any]) -> None:
        for key, value in self._named(line["values"], PARAM_LENGTH):
            # A param cannot change in MLflow; what a resumed run has otherwise is kept as a tag beside it.
            if self.update.params.setdefault(key, value) != value:
                self.update.tags[f"resumed/{key}"] = value

    def _tags(self, line: dict[str, Any]) -> None:
        self.update.tags |= dict(self._named(line["values"], TAG_LENGTH))

    def _metrics(self, line: dict[str, Any]) -> None:
        ts, step = _int64(line["ts"]), _int64(line["step"])
        values = {key: float(value) for key, value in line["values"].items()}
        names = zip(self._names(values), values.values(), strict=True)
        self.update.points += [Point(name, value, ts, step) for name, value in names if name and (name, step) not in self.stored]

    def _named(self, values: Mapping[str, object], length: int) -> Iterator[tuple[str, str]]:
        """Yield texts by name, both as MLflow takes them."""
        names = zip(self._names(values), values.values(), strict=True)
        return ((name, _text(value)[:length]) for name, value in names if name)

    def _names(self, keys: Iterable[str]) -> Iterator[str]:
        """Yield a name of letters, digits, _-.:/ and spaces for each key, as MLflow takes it; '' where there is none."""
        for key in keys:
            name = re.sub(r"[^\w\-.:/ ]", "_", key, flags=re.ASCII)[:NAME_LENGTH]
            if posixpath.normpath(name) != name or name.startswith(("..", "/")) or name == ".":
                self.progress.problems.append(f"{self.folder.journal}: {key[:60]!r} is no name for a param, a tag or a metric")
                name = ""
            yield name

    def _dataset(self, line: dict[str, Any]) -> None:
        values = {
            "name": _text(line["name"]),
            "digest": line["digest"][: DATASET_LENGTHS["digest"]],
            "source": json.dumps({"uri": line["source"]}),
            "profile": json.dumps({**line["profile"], "digest": line["digest"]}),
            "context": _text(line["context"]),
        }
        for key, value in values.items():
            if len(value) > DATASET_LENGTHS[key]:
                raise ValueError(f"{key} is longer than {DATASET_LENGTHS[key]}")
        self.update.datasets.append(LoggedDataset(**values))

    def _artifact(self, line: dict[str, Any]) -> None:
        source, target = self.folder.path / line["path"], line["artifact_path"]
        if leaves(self.folder.path, source) or target.startswith(("/", "..")) or posixpath.normpath(target or "-") != (target or "-"):
            self.progress.problems.append(
                f"{self.folder.journal}: artifact {line['path']}: leads out of the run's folder and is not stored"
            )
        elif "\0" in target or target == ".":
            raise ValueError(f"artifact_path {target!r:.60}")
        elif source.is_dir() or source.is_file():
            self.artifacts.append((source, target))
        else:
            self.progress.problems.append(f"{source}: is gone and was not stored")

    def _model(self, line: dict[str, Any]) -> None:
        if line not in self.cursor["pending"]:
            self.cursor["pending"].append(line)

    def _end(self, line: dict[str, Any]) -> None:
        if line["status"] not in get_args(Status):
            raise ValueError(f"status {line['status']!r:.60}")
        ts, reason = _int64(line["ts"]), _text(line["reason"])[:TAG_LENGTH]
        self.update.tags["reason"], self.update.status, self.update.end_time = reason, line["status"], ts


def leaves(folder: Path, source: Path) -> bool:
    """Return whether a file, or anything below a folder, lies outside a run's folder once links are followed."""
    root = folder.resolve()
    return any(not path.resolve().is_relative_to(root) for path in (source, *source.rglob("*")))


def _int64(value: object, *, default: int | None = None) -> int:
    """Return a whole number that a store can hold; for any other value the default, or ValueError."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        if default is not None:
            return default
        raise ValueError(f"{value!r:.60} is no whole number from 0 to 2^63")
    return value


def _text(value: object) -> str:
    """Return a value as text that a database takes: JSON may hold halves of characters."""
    return str(value).encode("utf-8", "replace").decode()
