"""File locks: the kernel frees them with the process that holds them, however it dies."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bakeoff.errors import BusyError, FolderError

if TYPE_CHECKING:
    from filelock import BaseFileLock

POLL = 0.01
"""Seconds between two tries of a lock that is waited for."""
PROBE = 1.0
"""Seconds after which a lock counts as held: another process may hold it for the instant that it takes to look or to write one line."""


def new_lock(path: Path) -> BaseFileLock:
    """Return the lock of a file, which is not held yet; a symbolic link is never followed."""
    from filelock import FileLock

    # Where the file system knows no locks, filelock would otherwise take one that outlives a killed process.
    return FileLock(path, poll_interval=POLL, fallback_to_soft=False)


@contextlib.contextmanager
def hold_lock(path: Path, *, timeout: float = -1.0) -> Iterator[None]:
    """Hold a lock for the block, once no other process does.

    Args:
        path: The lock file.
        timeout: How many seconds to wait for it; -1: as long as it takes.

    Raises:
        Timeout: filelock's: another process still holds it.
        FolderError: The file cannot be opened, or is a symbolic link.
    """
    from filelock import Timeout

    lock = new_lock(path)
    try:
        lock.acquire(timeout=timeout)
    except Timeout:
        raise
    except OSError as error:
        raise FolderError(f"{path}: cannot be locked: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def exclusive_lock(path: Path, *, activity: str, advice: str = "") -> Iterator[None]:
    """Hold a lock for the block, without waiting for it.

    Args:
        path: The lock file, which keeps its holder's process id for the message.
        activity: What the holder does, as the message says it.
        advice: The end of the message.

    Raises:
        BusyError: Another process holds the lock.
        FolderError: The file cannot be opened, or is a symbolic link.
    """
    from filelock import Timeout

    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(hold_lock(path, timeout=PROBE))
        except Timeout:
            raise BusyError(f"{activity} by pid {path.read_text().strip() or 'unknown'}{advice}") from None
        path.write_text(f"{os.getpid()}\n")
        yield


def is_locked(path: Path) -> bool:
    """Return whether a living process holds the lock of a file, which may be missing, at this moment."""
    from filelock import Timeout

    if not path.exists():
        return False
    try:
        with hold_lock(path, timeout=0):
            return False
    except Timeout:
        return True
