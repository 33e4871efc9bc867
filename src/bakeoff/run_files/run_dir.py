"""Run folders: the one place on disk where everything about a run lives until, and after, the store has it."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError

from bakeoff.config.validation_errors import explain_validation_error
from bakeoff.errors import FolderError, NotFoundError, near_miss, redact
from bakeoff.run_files import file_locks
from bakeoff.run_files.atomic import sync_dir, write_atomic
from bakeoff.run_files.json_text import parse_json

RunKind = Literal["single", "trial", "confirm", "audit", "reproduction", "summary", "check"]
KINDS: tuple[str, ...] = get_args(RunKind)
ID_LENGTH = 12
PREFIX_LENGTH = 6
EXPORTED_WEIGHTS, EXPORTED_NET = "weights.safetensors", "model/data/model.pt2"
"""In `RunDir.export`: the weights of a trained net, and the net traced by torch.export."""


def new_run_id() -> str:
    """Return a fresh run id: 12 hexadecimal digits from the operating system's randomness, never from a seeded stream."""
    return secrets.token_hex(ID_LENGTH // 2)


@dataclass(frozen=True)
class RunManifest:
    """What a run is called and where it belongs, as job.json in its folder keeps it (the recipe itself is config.yaml)."""

    id: str
    name: str
    experiment: str
    kind: RunKind = "single"
    tags: dict[str, str] = field(default_factory=dict)
    export_model: bool = False
    tracking_uri: str = ""

    def __post_init__(self) -> None:
        """Check the id and the kind."""
        assert re.fullmatch(rf"[0-9a-f]{{{ID_LENGTH}}}", self.id), f"a run id is {ID_LENGTH} hex digits, not {self.id!r}"
        assert self.kind in KINDS, self.kind

    def to_json(self) -> str:
        """Return the text of job.json, without the password of the store's address."""
        return json.dumps({**dataclasses.asdict(self), "tracking_uri": redact(self.tracking_uri)}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> RunManifest:
        """Parse the text of job.json.

        Args:
            text: The text; keys of a later version are ignored.

        Returns:
            The manifest.

        Raises:
            FolderError: The text is damaged.
        """
        try:
            return _MANIFEST.validate_python(parse_json(text))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise FolderError(f"job.json is damaged: {': '.join(map(str, (*first['loc'], first['msg'])))}") from None
        except ValueError as error:
            raise FolderError(f"job.json is damaged: {error}") from None


_MANIFEST = TypeAdapter(RunManifest)


class _StoredResult(BaseModel):
    """What result.json holds, as far as anyone reads it; numbers that are not finite are strings."""

    id: str
    name: str
    status: Literal["finished", "diverged", "failed", "pruned", "stopped"]
    reason: str | None = None
    metrics: dict[str, float] = {}
    best: dict[str, float] = {}
    steps: int = 0
    epochs: int = 0
    seconds: float = 0.0
    images_per_second: float = 0.0


@dataclass(frozen=True)
class RunDir:
    """`<root>/<experiment>/<name>-<id>/`: paths of its files, its making, its lock and its result."""

    path: Path

    @property
    def config(self) -> Path:
        """The frozen, fully resolved recipe."""
        return self.path / "config.yaml"

    @property
    def job(self) -> Path:
        """Id, name, experiment, kind and tags: a `RunManifest`."""
        return self.path / "job.json"

    @property
    def journal(self) -> Path:
        """The run's append-only truth."""
        return self.path / "journal.jsonl"

    @property
    def cursor(self) -> Path:
        """How far the store has replayed the journal."""
        return self.path / "cursor.json"

    @property
    def checkpoints(self) -> Path:
        """last.ckpt, last-1.ckpt and best.ckpt."""
        return self.path / "checkpoints"

    @property
    def export(self) -> Path:
        """Files of the trained net from the end of the training until the store has them."""
        return self.path / "export"

    @property
    def result(self) -> Path:
        """Written once, at the end: it decides whether the run is done, never an exit code."""
        return self.path / "result.json"

    @property
    def log(self) -> Path:
        """What the training process printed."""
        return self.path / "log.txt"

    @property
    def lock(self) -> Path:
        """Held by the process that trains, which touches it as it makes steps."""
        return self.path / "lock"

    @classmethod
    def create(cls, root: Path, *, config_text: str, job: RunManifest) -> RunDir:
        """Make the folder of a new run; a kill leaves it complete or not there.

        Args:
            root: The folder of all runs.
            config_text: The text of config.yaml.
            job: The run's manifest.

        Returns:
            The new folder.

        Raises:
            FolderError: `root` cannot be written.
        """
        parent = Path(root) / _safe(job.experiment)
        final = parent / f"{_safe(job.name)}-{job.id}"
        draft = parent / f".{final.name}.{os.getpid()}"
        try:
            parent.mkdir(parents=True, exist_ok=True)
            draft.mkdir()
            try:
                (draft / "checkpoints").mkdir()
                write_atomic(draft / "config.yaml", config_text)
                write_atomic(draft / "job.json", job.to_json())
                os.rename(draft, final)
            except OSError:
                shutil.rmtree(draft, ignore_errors=True)
                raise
            sync_dir(parent)
        except OSError as error:
            raise FolderError(f"tracking.folder={root}: cannot make a run folder there: {error.strerror or error}") from error
        return cls(final)

    def read_config(self) -> str:
        """Read the text of config.yaml.

        Raises:
            FolderError: The file is missing or unreadable.
        """
        try:
            return self.config.read_text(encoding="utf-8")
        except OSError as error:
            raise FolderError(f"{self.config}: cannot be read, and the run cannot go on without it: {error.strerror}") from error

    def read_job(self) -> RunManifest:
        """Read the run's manifest.

        Returns:
            The content of job.json.

        Raises:
            FolderError: The file is missing or damaged.
        """
        try:
            text = self.job.read_bytes()
        except OSError as error:
            raise FolderError(f"{self.path}: no run folder: job.json: {error.strerror}") from error
        try:
            return RunManifest.from_json(text)
        except FolderError as error:
            raise FolderError(f"{self.path}: {error}") from error

    def readdress(self, uri: str) -> None:
        """Name another store in the run's manifest: a resumed run may have another than before."""
        job = self.read_job()
        if redact(job.tracking_uri) != redact(uri):
            write_atomic(self.job, dataclasses.replace(job, tracking_uri=uri).to_json())

    def read_result(self) -> dict[str, Any] | None:
        """Read the run's result.

        Returns:
            The content of result.json; None while there is none.

        Raises:
            FolderError: The file is damaged.
        """
        try:
            raw = parse_json(self.result.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise FolderError(f"{self.result}: cannot be read: {error}") from error
        if not isinstance(raw, dict):
            raise FolderError(f"{self.result}: expected a JSON object, found {type(raw).__name__}")
        try:
            _StoredResult.model_validate(raw)
        except ValidationError as error:
            raise FolderError(f"{self.result}: {explain_validation_error(error, _StoredResult)}") from None
        return raw

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write result.json in one piece; non-finite numbers must have been turned into strings."""
        write_atomic(self.result, json.dumps(dict(result), indent=2, allow_nan=False) + "\n")

    def locked(self) -> AbstractContextManager[None]:
        """Lock the folder for the process that trains; the lock ends with the process, however it dies.

        Raises:
            BusyError: Another process holds it; the message names its pid.
        """
        return file_locks.exclusive_lock(self.lock, activity=f"run {self.path.name} is being trained")

    def beat(self) -> None:
        """Show that the process that trains has made a step."""
        os.utime(self.lock)

    def last_beat(self) -> int | None:
        """Return when the process that trains last showed that it makes steps, in nanoseconds; None before its start."""
        try:
            return self.lock.stat().st_mtime_ns
        except FileNotFoundError:
            return None

    def busy(self) -> bool:
        """Return whether a living process holds the lock at this moment."""
        return file_locks.is_locked(self.lock)


def iter_run_dirs(root: Path) -> Iterator[RunDir]:
    """List the complete run folders.

    Args:
        root: The folder of all runs; it may be missing.

    Yields:
        The folders, in the order of their paths.
    """
    for job in sorted(Path(root).glob("[!.]*/[!.]*/job.json")):
        yield RunDir(job.parent)


def find_run_dir(root: Path, run_id: str) -> RunDir:
    """Find the folder of a run.

    Args:
        root: The folder of all runs.
        run_id: The run's id, or a unique beginning of at least 6 digits.

    Returns:
        The folder.

    Raises:
        NotFoundError: There is no such run, or more than one; the message names the near miss.
    """
    run_dirs = {folder.path.name.rpartition("-")[2]: folder for folder in iter_run_dirs(root)}
    if run_id in run_dirs:
        return run_dirs[run_id]
    matches = [name for name in run_dirs if name.startswith(run_id)] if len(run_id) >= PREFIX_LENGTH else []
    if len(matches) == 1:
        return run_dirs[matches[0]]
    if matches:
        raise NotFoundError(f"run {run_id}: {len(matches)} runs in {root} begin like this: {', '.join(sorted(matches)[:5])}")
    raise NotFoundError(f"run {run_id}: no such run in tracking.folder={root}{near_miss(run_id, run_dirs)}")


def _safe(name: str) -> str:
    """Make a folder name of any text: separators and control characters become '_'; long ones are cut (255 bytes is the limit)."""
    cleaned = re.sub(r"[^\w.,=+@-]+", "_", name, flags=re.ASCII).lstrip(".")
    return cleaned[:120] or "_"
