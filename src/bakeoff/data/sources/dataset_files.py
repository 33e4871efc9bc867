"""Finding, fetching, reading and checking dataset files: every failure is one line that says which file and what to do."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bakeoff.errors import DataError


def locate(
    name: str,
    *,
    root: Path,
    find: Callable[[Path], Path | None],
    download: Callable[[Path], object] | None,
    looked_for: str,
    hint: str = "",
) -> Path:
    """Return where a dataset's files are, downloading them first where they are missing.

    Args:
        name: The dataset.
        root: The folder to look in.
        find: Root -> the folder or archive of the files, or None.
        download: Puts the files into root, one process at a time; None to leave that.
        looked_for: What `find` looks for, in words.
        hint: What else the user may do, in words.

    Raises:
        DataError: The files are missing, or the download failed.
    """
    root = Path(root).expanduser()
    if find(root) is None and download is not None:
        _download(name, root=root, find=find, download=download)
    path = find(root)
    if path is None:
        raise DataError(f"root={root}: holds no {name} (looked for {looked_for}): set download=true, or root=FOLDER with the files{hint}")
    return path


def locate_torchvision(name: str, dataset: Any, *, root: Path, download: bool, member: str) -> Path:
    """Return the extracted folder of torchvision's class `dataset`, else its archive; root may hold it or be it.

    A folder of another name is taken where it has the file `member`.
    """

    def find(root: Path) -> Path | None:
        for folder in (root / dataset.base_folder, root):
            if (folder.name == dataset.base_folder and folder.is_dir()) or (folder / member).is_file():
                return folder
        for archive in (root / dataset.filename, root):
            if archive.name == dataset.filename and archive.is_file():
                return archive
        return None

    def fetch(root: Path) -> None:
        dataset(str(root), download=True)

    looked_for = f"{dataset.base_folder}/ and {dataset.filename}"
    return locate(name, root=root, find=find, download=fetch if download else None, looked_for=looked_for)


def read_file(path: Path) -> bytes:
    """Return all bytes of a file, or raise the DataError that names it."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error


def check_md5(data: bytes, *, expected: str, path: Path, subject: str = "") -> bytes:
    """Return the bytes of a file where their MD5 sum (hex) is the expected one; `subject` says which bytes these are.

    Raises:
        DataError: The sum is another.
    """
    actual = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if actual != expected:
        raise damaged(path, f", expected md5 {expected}{subject}, found {actual} ({len(data)} bytes)")
    return data


def damaged(path: Path, detail: str) -> DataError:
    """Return the error for a file whose content is wrong."""
    return DataError(f"{path}: truncated or damaged{detail}: put the right file there, or delete it and set download=true")


def unreadable(path: Path | str, error: OSError) -> DataError:
    """Return the error for a file or folder that the system cannot read."""
    return DataError(f"{path}: cannot be read ({error.strerror or error})")


def _download(name: str, *, root: Path, find: Callable[[Path], Path | None], download: Callable[[Path], object]) -> None:
    from filelock import FileLock

    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{name}.lock"):
            if find(root) is not None:  # another process was faster
                return
            try:
                download(root)
            except (OSError, RuntimeError, EOFError) as error:  # URLError and timeouts are OSErrors; a wrong checksum is a RuntimeError
                reason = " ".join(str(error).split()) or type(error).__name__
                shortened = reason if len(reason) <= 200 else reason[:200] + "..."
                raise DataError(f"root={root}: the download of {name} failed ({shortened})") from error
    except PermissionError as error:
        raise DataError(f"root={root}: cannot be written ({error.strerror})") from error
