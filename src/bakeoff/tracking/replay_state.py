"""How far each store has taken a run's journal: cursor.json in the run's folder, and the lock of whoever moves it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from typing import Any

from bakeoff.runs.atomic import write_atomic
from bakeoff.runs.run_dir import RunDir
from bakeoff.tracking.client import redact


@contextlib.contextmanager
def alone(folder: RunDir) -> Iterator[None]:
    """Two replays of one run take turns."""
    fd = os.open(folder.path / "cursor.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def read_cursors(folder: RunDir) -> dict[str, dict[str, Any]]:
    """One cursor a store, by its address without secrets; a missing or damaged file only means that everything is told again."""
    try:
        raw = json.loads(folder.cursor.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return raw if isinstance(raw, dict) else {}


def write_cursor(folder: RunDir, uri: str, cursor: dict[str, Any]) -> None:
    """Puts one store's cursor there and leaves those of other stores as they are."""
    write_atomic(folder.cursor, json.dumps({**read_cursors(folder), redact(uri): cursor}) + "\n")
