"""Reading, checking and fetching dataset files: every failure is one line that says which file and what to do."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from bakeoff.errors import DataError


def md5(data: bytes) -> str:
    """The MD5 sum (hex) of some bytes: the checksum that the datasets' authors and torchvision publish."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def read(path: Path) -> bytes:
    """All bytes of a file. Errors: DataError that names it."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def verify(data: bytes, *, expected: str, path: Path, what: str = "") -> bytes:
    """`data` itself where its MD5 sum is the expected one; `what` says of what in the file it is. Errors: DataError with both sums."""
    actual = md5(data)
    if actual != expected:
        raise DataError(
            f"{path}: truncated or damaged, expected md5 {expected}{what}, found {actual} ({len(data)} bytes): "
            "put the right file there, or delete it and set download=true"
        )
    return data


def missing(name: str, *, root: Path, looked_for: str, hint: str = "") -> DataError:
    """The error for a dataset that is not there."""
    return DataError(f"root={root}: holds no {name} (looked for {looked_for}): set download=true, or root=FOLDER with the files{hint}")


def fetch(name: str, *, root: Path, get: Callable[[], object], there: Callable[[], bool]) -> None:
    """Run a torchvision download into root, one process at a time. Errors: DataError where it fails."""
    from filelock import FileLock

    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{name}.lock"):
            if there():  # another process was faster
                return
            try:
                get()
            except (OSError, RuntimeError, EOFError) as error:  # URLError and timeouts are OSErrors; a wrong checksum is a RuntimeError
                raise DataError(f"root={root}: the download of {name} failed ({_short(error)})") from error
    except PermissionError as error:
        raise DataError(f"root={root}: cannot be written ({error.strerror})") from error


def _short(error: BaseException) -> str:
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= 200 else words[:200] + "..."
