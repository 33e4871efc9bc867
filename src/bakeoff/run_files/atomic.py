"""Atomic writes: a reader, a kill or a power cut sees the old content of a file or the new one, and nothing between."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_atomic(
    path: Path, *chunks: str | bytes | memoryview, draft: Path | None = None, backup: Path | None = None, sync: bool = True
) -> None:
    """Write a file beside its place, flush it to the disk, and rename it.

    Args:
        path: The file to write or to replace.
        chunks: Its content; text is encoded as UTF-8.
        draft: The name that the unfinished file has. By default it is a fresh one, so that several writers can be at work. A writer
            that holds a lock passes a fixed name, so that it overwrites what a killed one has left.
        backup: Where the file that is at `path` goes, if there is one; by default it is thrown away.
        sync: Whether to flush it: without that, a power cut may leave an empty file, which its readers have to bear.

    Raises:
        OSError: The file cannot be written; what was at `path` is still there.
    """
    draft = draft or path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with open(draft, "wb") as file:
            for chunk in chunks:
                file.write(chunk.encode() if isinstance(chunk, str) else chunk)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        if backup is not None and path.exists():
            os.replace(path, backup)
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    if sync:
        sync_dir(path.parent)


def sync_dir(path: Path) -> None:
    """Flush a directory to the disk: without it a power cut can undo a rename."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
