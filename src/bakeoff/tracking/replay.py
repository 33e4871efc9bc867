"""Replays a run's journal into an MLflow store, as often as one likes and from wherever it stopped, with the same outcome.

Why that holds: a run is found again by its tag `bakeoff.id`; the store keeps an identical (metric, time, step, value) once; params,
tags, datasets and artifacts of the same content replace themselves; and the cursor moves only over what the store has taken.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

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
    open_client,
    sqlite_path,
    store_errors,
)
from bakeoff.tracking.store import run_statuses

if TYPE_CHECKING:
    from mlflow import MlflowClient

BATCH, PARAMS, TAGS = 1000, 100, 100
PARAM_LENGTH, TAG_LENGTH, DIGEST_LENGTH = 6000, 8000, 36
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
        except FolderError:
            continue  # a damaged folder, which its own replay tells
        cursor = _read_cursors(folder).get(redact(address), {})
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


def replay_run(folder: RunDir, *, uri: str | None = None, load_net: model_export.LoadNet | None = None) -> ReplayProgress:
    """Bring the store up to the journal. After an error a later replay goes on from the same place.

    Args:
        folder: The run's folder.
        uri: The store; None: see `store_of`.
        load_net: Loads the trained net of a run's folder, to be exported; None leaves nets for a later replay.

    Returns:
        What was done.

    Raises:
        StoreError: The store is away.
        FolderError: The folder is not that of a run.
    """
    address = store_of(folder, uri=uri)
    with _replay_lock(folder):
        client = open_client(address, create=True)
        with store_errors(address):
            task = _Replay(folder, client, address)
            try:
                task.run()
                if load_net is not None:
                    task.export_models(load_net)
            except _DeletedError as gone:
                task.progress.problems.append(f"{gone} was deleted in the store {redact(address)} (restore it there)")
            return task.progress


def _replay_lock(folder: RunDir) -> AbstractContextManager[None]:
    """Let the replays of one run take turns."""
    return hold_lock(folder.path / "cursor.lock")


def _read_cursors(folder: RunDir) -> dict[str, dict[str, Any]]:
    """Read cursor.json: a cursor for each store's address without secrets. Where it is missing or damaged everything is replayed again."""
    try:
        raw = parse_json(folder.cursor.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
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


def _write_cursor(folder: RunDir, uri: str, cursor: dict[str, Any]) -> None:
    """Write one store's cursor, and leave those of other stores as they are."""
    write_atomic(folder.cursor, json.dumps({**_read_cursors(folder), redact(uri): cursor}) + "\n")


class _DeletedError(Exception):
    """A user has deleted the run, or its experiment, in the store: it is not brought back behind their back."""


class _Replay:
    """One replay of one run."""

    def __init__(self, folder: RunDir, client: MlflowClient, uri: str) -> None:
        self.folder, self.client, self.uri = folder, client, uri
        self.job = folder.read_job()
        self.cursor: dict[str, Any] = {"offset": 0, "run": None, "status": "", "pending": []}
        self.cursor |= _read_cursors(folder).get(redact(uri), {})
        self.metrics: list[Any] = []
        self.tags: dict[str, str] = {}
        self.stored: set[tuple[str, int]] = set()
        self.progress = ReplayProgress(folder.path, self.job.id)

    def run(self) -> None:
        """Replay every line but those of trained nets."""
        self._check_cursor()
        offset = self.cursor["offset"]
        for offset, line in scan_journal(self.folder.journal, offset=self.cursor["offset"]):
            if line is None:
                self.progress.torn += 1
                continue
            self.progress.lines += 1
            if line["kind"] != "start" and self.cursor["run"] is None:
                self._open(self.job.tags, _int64(line.get("ts"), default=now()))  # the start line was torn
            self._replay_line(line)
            if len(self.metrics) >= BATCH:
                self._flush(offset)
        self._flush(offset)
        self._report()

    def _replay_line(self, line: dict[str, Any]) -> None:
        """Replay one line; one that is damaged is a problem that is named and left out, since it would be so the next time, too."""
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
        from mlflow.exceptions import MlflowException

        try:
            handler(line)
        except MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            self.progress.problems.append(f"{self.folder.journal}: the store refuses a line of kind {line['kind']!r} ({str(error)[:200]})")
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            if isinstance(error, BakeoffError):
                raise
            what = f"{type(error).__name__}: {error}"
            self.progress.problems.append(f"{self.folder.journal}: a damaged line of kind {line['kind']!r} is left out ({what[:200]})")

    def export_models(self, load_net: model_export.LoadNet) -> None:
        """Trained nets come after everything else, since they take seconds and nobody waits for them."""
        for line in list(self.cursor["pending"]):
            problem = model_export.log_model(self.client, self.uri, self.cursor["run"], self.folder, line, load_net=load_net)
            self.progress.problems += [problem] if problem else []
            self.cursor["pending"].remove(line)
            self._flush(self.cursor["offset"])
        self._report()

    def _report(self) -> None:
        self.progress.mlflow_id = self.cursor["run"] or ""
        self.progress.offset, self.progress.status = self.cursor["offset"], self.cursor["status"]
        self.progress.pending = len(self.cursor["pending"])

    def _check_cursor(self) -> None:
        """The store may have been thrown away or put back to an earlier state since: then everything is replayed again."""
        from mlflow.exceptions import MlflowException

        if self.cursor["run"] is None:
            return
        try:
            run = self.client.get_run(self.cursor["run"])
            check_artifact_address(self.uri, run.info.artifact_uri)
            if run.info.lifecycle_stage == "deleted":
                raise _DeletedError(f"run {self.job.id}")
            if _is_cut(self.folder, self.cursor):
                self.cursor |= {"offset": 0, "pending": []}
                # A resumed run logs the lost steps again, with the same values at another time: the store keeps the first ones.
                id, names = run.info.run_id, run.data.metrics
                self.stored = {(name, point.step) for name in names for point in self.client.get_metric_history(id, name)}
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            self.cursor = {"offset": 0, "run": None, "status": "", "pending": []}

    def _open(self, tags: dict[str, str], ts: int) -> None:
        from mlflow.entities import ViewType

        experiment = self._experiment()
        query = f"tags.`{ID_TAG}` = '{self.job.id}'"
        matches = self.client.search_runs([experiment], filter_string=query, run_view_type=ViewType.ALL, max_results=1)
        if matches and matches[0].info.lifecycle_stage == "deleted":
            raise _DeletedError(f"run {self.job.id}")
        all_tags = {**tags, "kind": self.job.kind, ID_TAG: self.job.id}
        if matches:
            run = matches[0]
            if run.info.status != "RUNNING":
                self.client.update_run(run.info.run_id, status="RUNNING")
            self.tags |= {_name(k): v for k, v in all_tags.items()}
        else:
            clean = {_name(k): v[:TAG_LENGTH] for k, v in all_tags.items()}
            run = self.client.create_run(experiment, start_time=ts, run_name=self.job.name, tags=clean)
            if self.job.kind == "summary":
                ui_tags.introduce(self.client, experiment, summary=run.info.run_id, tags=all_tags)
        check_artifact_address(self.uri, run.info.artifact_uri)
        self.cursor["run"], self.cursor["status"] = run.info.run_id, "RUNNING"

    def _experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        name = self.job.experiment
        experiment = self.client.get_experiment_by_name(name)
        if experiment is None:
            root = artifact_root(self.uri)
            location = (root / re.sub(r"[^\w.,=+@-]+", "_", name, flags=re.ASCII)).as_uri() if root else None
            try:
                return str(self.client.create_experiment(name, artifact_location=location, tags=ui_tags.KIND))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            experiment = self.client.get_experiment_by_name(name)  # another process was faster
        if experiment is None or experiment.lifecycle_stage == "deleted":
            raise _DeletedError(f"experiment {name}")
        return str(experiment.experiment_id)

    def _start(self, line: dict[str, Any]) -> None:
        self._open({k: str(v) for k, v in line["tags"].items()}, _int64(line["ts"]))

    def _params(self, line: dict[str, Any]) -> None:
        from mlflow.entities import Param
        from mlflow.exceptions import MlflowException

        params = [Param(_name(k), str(v)[:PARAM_LENGTH]) for k, v in line["values"].items()]
        try:
            for i in range(0, len(params), PARAMS):
                self.client.log_batch(self.cursor["run"], params=params[i : i + PARAMS])
        except MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            # A param cannot change in MLflow; what a resumed run has otherwise is kept as a tag beside it.
            stored = self.client.get_run(self.cursor["run"]).data.params
            fresh = [p for p in params if p.key not in stored]
            for i in range(0, len(fresh), PARAMS):
                self.client.log_batch(self.cursor["run"], params=fresh[i : i + PARAMS])
            self.tags |= {f"resumed/{p.key}": p.value for p in params if stored.get(p.key, p.value) != p.value}

    def _tags(self, line: dict[str, Any]) -> None:
        self.tags |= {_name(k): str(v) for k, v in line["values"].items()}

    def _metrics(self, line: dict[str, Any]) -> None:
        from mlflow.entities import Metric

        values = {_name(k): float(v) for k, v in line["values"].items()}
        ts, step = _int64(line["ts"]), _int64(line["step"])
        self.metrics += [Metric(k, v, ts, step) for k, v in values.items() if (k, step) not in self.stored]

    def _dataset(self, line: dict[str, Any]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(
            name=line["name"],
            digest=line["digest"][:DIGEST_LENGTH],
            source_type="local",
            source=json.dumps({"uri": line["source"]}),
            profile=json.dumps({**line["profile"], "digest": line["digest"]}),
        )
        context = InputTag("mlflow.data.context", line["context"])
        self.client.log_inputs(self.cursor["run"], datasets=[DatasetInput(dataset, tags=[context])])

    def _artifact(self, line: dict[str, Any]) -> None:
        source, target = self.folder.path / line["path"], Path(line["artifact_path"])
        if _leaves(self.folder.path, source) or target.is_absolute() or ".." in target.parts:
            self.progress.problems.append(
                f"{self.folder.journal}: artifact {line['path']}: leads out of the run's folder and is not stored"
            )
        elif source.is_dir():
            self.client.log_artifacts(self.cursor["run"], str(source), artifact_path=line["artifact_path"] or None)
        elif source.is_file():
            self.client.log_artifact(self.cursor["run"], str(source), artifact_path=line["artifact_path"] or None)
        else:
            self.progress.problems.append(f"{source}: is gone and was not stored")

    def _model(self, line: dict[str, Any]) -> None:
        if line not in self.cursor["pending"]:
            self.cursor["pending"].append(line)

    def _end(self, line: dict[str, Any]) -> None:
        if line["status"] not in get_args(Status):
            raise ValueError(f"status {line['status']!r:.60}")
        ts, reason = _int64(line["ts"]), str(line["reason"])
        self.tags["reason"] = reason
        self._send()
        self.client.set_terminated(self.cursor["run"], line["status"], end_time=ts)
        self.cursor["status"] = line["status"]

    def _send(self) -> None:
        from mlflow.entities import RunTag

        for i in range(0, len(self.metrics), BATCH):
            self._log_batch(metrics=self.metrics[i : i + BATCH])
        tags = [RunTag(k, v[:TAG_LENGTH]) for k, v in self.tags.items()]
        for i in range(0, len(tags), TAGS):
            self._log_batch(tags=tags[i : i + TAGS])
        self.metrics, self.tags = [], {}

    def _log_batch(self, **values: Any) -> None:
        """Log metrics or tags; of a batch that the store refuses, those that it takes one by one."""
        from mlflow.exceptions import MlflowException

        try:
            self.client.log_batch(self.cursor["run"], **values)
        except MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            [(kind, entries)] = values.items()
            if len(entries) == 1:
                self.progress.problems.append(f"{self.folder.journal}: the store refuses {entries[0].key[:60]!r} ({str(error)[:200]})")
                return
            for entry in entries:
                self._log_batch(**{kind: [entry]})

    def _flush(self, offset: int) -> None:
        self._send()
        before = _read_cursors(self.folder).get(redact(self.uri))
        self.cursor |= {"offset": offset, "digest": _digest(self.folder, offset)}
        if self.cursor != before:
            _write_cursor(self.folder, self.uri, self.cursor)


def _leaves(folder: Path, source: Path) -> bool:
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


def _name(key: str) -> str:
    """MLflow's names know letters, digits and _-.:/ and the space, and are at most 250 long."""
    return re.sub(r"[^\w\-.:/ ]", "_", key, flags=re.ASCII)[:250]
