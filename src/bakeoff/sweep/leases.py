"""Locks and owners: who holds what, in a way that ends with the process that held it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bakeoff.errors import BusyError

SECONDS = 300.0
"""How long a lease holds where its owner's process cannot be looked at, on another host."""


@dataclass(frozen=True)
class Owner:
    """A worker's process, told apart from a later one with the same number by its start."""

    host: str
    pid: int
    start: float

    @classmethod
    def here(cls) -> Owner:
        """This process."""
        import psutil

        return cls(socket.gethostname(), os.getpid(), psutil.Process().create_time())


def alive(owner: Mapping[str, Any] | None, deadline: float | None) -> bool:
    """Return whether an owner is still at work.

    Args:
        owner: Host, pid and start of the owner's process. On this host the process itself is looked up.
        deadline: When the lease ends, in seconds since the epoch. It decides for owners on other hosts.
    """
    if not owner:
        return False
    if owner["host"] != socket.gethostname():
        return time.time() < (deadline or 0.0)
    import psutil

    try:
        process = psutil.Process(int(owner["pid"]))
        return abs(process.create_time() - float(owner["start"])) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Lock:
    """A file lock that the kernel frees with its holder; Optuna's own ones outlive a killed process by half a minute."""

    def __init__(self, path: Path) -> None:
        """Name the lock file; nothing is opened yet."""
        self.path, self.descriptor = path, -1

    def acquire(self) -> bool:
        """Wait for the lock and hold it."""
        self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(self.descriptor, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        """Free the lock."""
        os.close(self.descriptor)
        self.descriptor = -1


@contextlib.contextmanager
def exclusive_lock(path: Path, *, name: str) -> Iterator[None]:
    """Hold a lock for a `with` block, without waiting for it.

    Args:
        path: The lock file, which keeps its holder's process number for the message.
        name: What the lock is for, as the message calls it.

    Raises:
        BusyError: Another process holds the lock.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode().strip() or "unknown"
            raise BusyError(f"{name} is being run by pid {holder}; wait for it, or stop it with Ctrl-C there") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def truncate_torn_line(path: Path) -> None:
    """Cut off the unfinished last line of a killed process: a line appended to it would make the whole journal unreadable.

    Args:
        path: The journal, which need not exist.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            os.ftruncate(descriptor, os.pread(descriptor, size, 0).rfind(b"\n") + 1)
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
