"""Locks and owners: who holds what, in a way that ends with the process that held it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bakeoff.run_files import file_locks

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


def exclusive_lock(path: Path, *, name: str) -> AbstractContextManager[None]:
    """Hold a lock for a `with` block, without waiting for it.

    Args:
        path: The lock file.
        name: What the lock is for, as the message calls it.

    Raises:
        BusyError: Another process holds the lock.
    """
    return file_locks.exclusive_lock(path, activity=f"{name} is being run", advice="; wait for it, or stop it with Ctrl-C there")


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
