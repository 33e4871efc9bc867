"""The journal: one append-only JSONL file a run, which is the truth that any tracking store is replayed from.

Every line is one JSON object with a `kind`; times (`ts`) are milliseconds since 1970.
"""

from __future__ import annotations

import errno
import json
import math
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from bakeoff.errors import FolderError
from bakeoff.run_files.json_text import parse_json
from bakeoff.run_files.run_dir import RunManifest

Status = Literal["FINISHED", "FAILED", "KILLED"]
NONFINITE = ("nan", "inf", "-inf")


class Journal:
    """The journal of a run, opened for appending.

    A resumed run repeats the steps between its checkpoint and the kill with the same values; the journal keeps each (metric, step)
    of the earlier process once. Each line is one write(2); start, params and end are on the disk when the call returns. Thread-safe.
    Every method raises `FolderError` where the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        """Open or make the file.

        Args:
            path: The journal's path in the run's folder.

        Raises:
            FolderError: The file cannot be opened.
        """
        self.path = Path(path)
        self._present: dict[str, set[int]] = {}
        self._nonfinite: set[str] = set()
        self._guard = threading.Lock()
        self._torn = False
        #: True where an earlier process has begun this journal.
        self.resumed = False
        try:
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            size = os.fstat(self._fd).st_size
            # A killed writer may have left half a line: a newline isolates it, so that readers lose that one line only.
            if size and os.pread(self._fd, 1, size - 1) != b"\n":
                os.write(self._fd, b"\n")
        except OSError as error:
            raise FolderError(f"{self.path}: the journal cannot be opened: {error.strerror}") from error
        for line in read_journal(self.path):
            self._remember(line)

    def start(self, job: RunManifest) -> None:
        """Log that the run begins, or begins again, with what its manifest says."""
        tags = {**job.tags, "kind": job.kind}
        self._append({"kind": "start", "id": job.id, "name": job.name, "experiment": job.experiment, "tags": tags, "ts": now()}, sync=True)

    def params(self, values: Mapping[str, object]) -> None:
        """Log params, which stay the same for the whole run; a value is kept as `str(value)`."""
        if values:
            self._append({"kind": "params", "values": {str(k): str(v) for k, v in values.items()}}, sync=True)

    def tags(self, values: Mapping[str, object]) -> None:
        """Log tags, which may change: the last value counts."""
        if values:
            self._append({"kind": "tags", "values": {str(k): str(v) for k, v in values.items()}})

    def metrics(self, values: Mapping[str, float], *, step: int) -> None:
        """Log metrics at a step.

        Args:
            values: Metrics by name. One that is not finite also gives the tag `nonfinite/<metric>`: its first such step.
            step: The step; what an earlier process has logged at it is left out.
        """
        fresh = {k: float(v) for k, v in values.items() if step not in self._present.get(k, ())}
        if not fresh:
            return
        json_values: dict[str, float | str] = {k: v if math.isfinite(v) else str(v) for k, v in fresh.items()}
        self._append({"kind": "metrics", "step": int(step), "ts": now(), "values": json_values})
        nonfinite = [k for k, v in fresh.items() if not math.isfinite(v) and k not in self._nonfinite]
        self._nonfinite.update(nonfinite)
        self.tags({f"nonfinite/{k}": step for k in nonfinite})

    def dataset(self, name: str, *, digest: str, source: str, context: str, profile: Mapping[str, object]) -> None:
        """Log a dataset that the run reads.

        Args:
            name: Its name.
            digest: A hash of its content.
            source: Where it lies.
            context: `training`, `validation` or `test`.
            profile: Plain JSON about it.
        """
        self._append({"kind": "dataset", "name": name, "digest": digest, "source": source, "context": context, "profile": dict(profile)})

    def artifact(self, path: Path | str, *, artifact_path: str = "") -> None:
        """Log an artifact, which the tracking store is to copy.

        Args:
            path: A file or folder within the run's folder, relative to it.
            artifact_path: The folder of the run's artifacts that it goes into; '' is their top.
        """
        source = self.path.parent / path
        relative = source.resolve().relative_to(self.path.parent.resolve())
        self._append({"kind": "artifact", "path": relative.as_posix(), "artifact_path": artifact_path, "ts": now()})

    def model(self, *, input_shape: Sequence[int], classes: int, requirements: Sequence[str], name: str = "model") -> None:
        """Log that the trained net is to be exported to the tracking store.

        Args:
            input_shape: (C, H, W) of one image.
            classes: The number of the net's outputs.
            requirements: The pip requirements of the exported model.
            name: What the store calls it.
        """
        self._append(
            {
                "kind": "model",
                "name": name,
                "input_shape": [int(n) for n in input_shape],
                "classes": int(classes),
                "requirements": list(requirements),
                "ts": now(),
            }
        )

    def end(self, status: Status, *, reason: str = "", ts: int | None = None) -> None:
        """Log the end of the run.

        Args:
            status: How it ended.
            reason: Why, in one line.
            ts: When, in milliseconds since 1970; None: now.
        """
        self._append({"kind": "end", "status": status, "ts": now() if ts is None else ts, "reason": " ".join(reason.split())}, sync=True)

    def last_step(self, metric: str) -> int | None:
        """Return the highest step of a metric that an earlier process of this run has logged; None where there is none."""
        return max(self._present[metric]) if metric in self._present else None

    def sync(self) -> None:
        """Flush to the disk: what is written after this call never outlives a power cut that this journal's lines do not."""
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise FolderError(f"{self.path}: the journal cannot be written: {error.strerror}") from error

    def close(self) -> None:
        """Flush to the disk and close; a second call does nothing."""
        with self._guard:
            if self._fd >= 0:
                os.fsync(self._fd)
                os.close(self._fd)
                self._fd = -1

    def __enter__(self) -> Journal:
        """Return the journal itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    def _remember(self, line: Mapping[str, Any]) -> None:
        if line["kind"] == "start":
            self.resumed = True
        elif line["kind"] == "metrics":
            for metric in line["values"]:
                self._present.setdefault(metric, set()).add(line["step"])
        elif line["kind"] == "tags":
            self._nonfinite.update(k.removeprefix("nonfinite/") for k in line["values"] if k.startswith("nonfinite/"))

    def _append(self, line: Mapping[str, object], *, sync: bool = False) -> None:
        data = (json.dumps(line, allow_nan=False) + "\n").encode()
        with self._guard:
            if self._torn:
                data = b"\n" + data
            try:
                written = os.write(self._fd, data)
                self._torn = written != len(data)
                if self._torn:
                    raise OSError(errno.ENOSPC, "the disk took a part of a line only (is it full?)")
                if sync:
                    os.fsync(self._fd)
            except OSError as error:
                raise FolderError(f"{self.path}: the journal cannot be written: {error.strerror}") from error


class NullJournal(Journal):
    """A journal that keeps nothing, for every rank but 0."""

    def __init__(self) -> None:
        """Open no file."""
        self.path = Path(os.devnull)
        self._present = {}
        self._nonfinite = set()
        self.resumed = False

    def artifact(self, path: Path | str, *, artifact_path: str = "") -> None:
        """Do nothing."""

    def sync(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def _append(self, line: Mapping[str, object], *, sync: bool = False) -> None:
        pass


def read_journal(path: Path) -> Iterator[dict[str, Any]]:
    """Read the lines of a journal.

    Args:
        path: The journal; a missing file has no lines.

    Yields:
        Each line but the torn and the malformed ones, and a last one that is still being written.
    """
    for _, line in scan_journal(path):
        if line is not None and is_well_formed(line):
            yield line


def is_well_formed(line: Mapping[str, Any]) -> bool:
    """Return whether readers find in a line what every line of its kind has."""
    kind, values = line["kind"], line.get("values")
    if kind in ("start", "metrics", "end") and not _is_count(line.get("ts")):
        return False
    if kind in ("params", "tags"):
        return isinstance(values, dict) and all(isinstance(value, str) for value in values.values())
    if kind == "metrics":
        return _is_count(line.get("step")) and isinstance(values, dict) and all(map(_is_metric, values.values()))
    return kind != "end" or (isinstance(line.get("status"), str) and isinstance(line.get("reason"), str))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and 0 <= value < 2**63


def _is_metric(value: object) -> bool:
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**63) or value in NONFINITE


def scan_journal(path: Path, *, offset: int = 0) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Read the lines of a journal with their places.

    Args:
        path: The journal; a missing file has no lines.
        offset: The byte at which the first line to read begins.

    Yields:
        The offset of the line's end in bytes, and the line: None for a torn or empty one.
    """
    try:
        file = open(path, "rb")  # noqa: SIM115 - the try is for the opening alone
    except FileNotFoundError:
        return
    except OSError as error:
        raise FolderError(f"{path}: the journal cannot be read: {error.strerror}") from error
    with file:
        file.seek(offset)
        for raw in file:
            if not raw.endswith(b"\n"):
                return
            offset += len(raw)
            yield offset, parse_line(raw)


def parse_line(raw: bytes) -> dict[str, Any] | None:
    """Decode one line; None where it is torn."""
    try:
        line = parse_json(raw)
    except ValueError:
        return None
    return line if isinstance(line, dict) and isinstance(line.get("kind"), str) else None


def now() -> int:
    """Return the time in milliseconds since 1970."""
    return time.time_ns() // 1_000_000
