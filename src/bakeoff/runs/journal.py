"""The journal: one append-only JSONL file a run, which is the truth that any tracking store is replayed from.

Every line is one JSON object with a `kind`; times (`ts`) are milliseconds since 1970.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from bakeoff.errors import FolderError
from bakeoff.runs.run_dir import RunManifest

Status = Literal["FINISHED", "FAILED", "KILLED"]


class Journal:
    """Appends to a run's journal, and, opened again after a kill, leaves out the metrics that are already there.

    A resumed run repeats the steps between its checkpoint and the kill with the same values; the journal keeps each (metric, step)
    of the earlier process once. One write(2) a line; start, params and end are on the disk when the call returns. Thread-safe.
    FolderError where the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
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
        """The run begins, or begins again."""
        tags = {**job.tags, "kind": job.kind}
        self._append({"kind": "start", "id": job.id, "name": job.name, "experiment": job.experiment, "tags": tags, "ts": now()}, sync=True)

    def params(self, values: Mapping[str, object]) -> None:
        """Names and values that stay the same for the whole run; values are kept as str(value)."""
        if values:
            self._append({"kind": "params", "values": {str(k): str(v) for k, v in values.items()}}, sync=True)

    def tags(self, values: Mapping[str, object]) -> None:
        """Names and values that may change; the last one counts."""
        if values:
            self._append({"kind": "tags", "values": {str(k): str(v) for k, v in values.items()}})

    def metrics(self, values: Mapping[str, float], *, step: int) -> None:
        """Numbers at a step; a metric that is not finite also gives the tag `nonfinite/<metric>` = its first such step."""
        fresh = {k: float(v) for k, v in values.items() if step not in self._present.get(k, ())}
        if not fresh:
            return
        told: dict[str, float | str] = {k: v if math.isfinite(v) else str(v) for k, v in fresh.items()}
        self._append({"kind": "metrics", "step": int(step), "ts": now(), "values": told})
        broken = [k for k, v in fresh.items() if not math.isfinite(v) and k not in self._nonfinite]
        self._nonfinite.update(broken)
        self.tags({f"nonfinite/{k}": step for k in broken})

    def dataset(self, name: str, *, digest: str, source: str, context: str, profile: Mapping[str, object]) -> None:
        """A dataset that the run reads: `context` is training, validation or test; `profile` is plain JSON about it."""
        self._append({"kind": "dataset", "name": name, "digest": digest, "source": source, "context": context, "profile": dict(profile)})

    def artifact(self, path: Path | str, *, artifact_path: str = "") -> None:
        """A file or folder of the run folder, to be stored under `artifact_path` ('' is the run's own top). It must lie there."""
        source = self.path.parent / path
        relative = source.resolve().relative_to(self.path.parent.resolve())
        self._append({"kind": "artifact", "path": relative.as_posix(), "artifact_path": artifact_path, "ts": now()})

    def model(self, *, input_shape: Sequence[int], classes: int, requirements: Sequence[str], name: str = "model") -> None:
        """The trained net is to be exported to the tracking store.

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

    def end(self, status: Status, *, reason: str = "") -> None:
        """The run is over: FINISHED, FAILED or KILLED, and why in one line."""
        self._append({"kind": "end", "status": status, "ts": now(), "reason": " ".join(reason.split())}, sync=True)

    def last_step(self, metric: str) -> int | None:
        """The highest step of a metric that an earlier process of this run has written; None where there is none."""
        return max(self._present[metric]) if metric in self._present else None

    def close(self) -> None:
        """Flushes to the disk and closes; a second call does nothing."""
        with self._guard:
            if self._fd >= 0:
                os.fsync(self._fd)
                os.close(self._fd)
                self._fd = -1

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
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
                    raise OSError(0, "the disk took a part of a line only (is it full?)")
                if sync:
                    os.fsync(self._fd)
            except OSError as error:
                raise FolderError(f"{self.path}: the journal cannot be written: {error.strerror}") from error


class NullJournal(Journal):
    """A journal that keeps nothing, for every rank but 0."""

    def __init__(self) -> None:
        self.path = Path(os.devnull)
        self._present = {}
        self._nonfinite = set()
        self.resumed = False

    def artifact(self, path: Path | str, *, artifact_path: str = "") -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""

    def _append(self, line: Mapping[str, object], *, sync: bool = False) -> None:
        pass


def read_journal(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a journal; torn ones, and a last one that is still being written, are left out. A missing file has none."""
    for _, line in scan_journal(path):
        if line is not None:
            yield line


def scan_journal(path: Path, *, offset: int = 0) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """(offset of the line's end in bytes, the line; None for a torn or empty one) from a line's start at `offset` on."""
    try:
        file = open(path, "rb")  # noqa: SIM115 - the try is for the opening alone
    except FileNotFoundError:
        return
    with file:
        file.seek(offset)
        for raw in file:
            if not raw.endswith(b"\n"):
                return
            offset += len(raw)
            yield offset, _parse(raw)


def _parse(raw: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(raw)
    except ValueError:
        return None
    return line if isinstance(line, dict) and isinstance(line.get("kind"), str) else None


def now() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000
