"""STL-10's binary files: images of 3 x 96 x 96 bytes, each channel column by column, and labels 1..10; in a tar.gz or out of it."""

from __future__ import annotations

import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bakeoff.data import dataset_files
from bakeoff.errors import DataError

CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
Part = tuple[NDArray[np.uint8], NDArray[np.int64]]


def load(root: Path, *, download: bool) -> tuple[Part, Part]:
    """(train images uint8[5000, 3, 96, 96], labels int64 0..9), (8000 test images, labels). Errors: DataError."""
    from torchvision.datasets import STL10

    root = Path(root).expanduser()
    place = _place(STL10, root)
    if place is None and download:
        dataset_files.fetch("stl10", root=root, get=lambda: STL10(str(root), download=True), there=lambda: _place(STL10, root) is not None)
        place = _place(STL10, root)
    if place is None:
        raise dataset_files.missing("stl10", root=root, looked_for=f"{STL10.base_folder}/ and {STL10.filename}")
    sums = {file: expected for file, expected in [*STL10.train_list, *STL10.test_list] if not file.startswith("unlabeled")}
    held = {file: dataset_files.read(place / file) for file in sums} if place.is_dir() else _from_archive(place, STL10, set(sums))
    for file, expected in sums.items():
        inside = file if place.is_dir() else f"{STL10.base_folder}/{file}"
        dataset_files.verify(held[file], expected=expected, path=place / inside)
    return _part(held["train_X.bin"], held["train_y.bin"]), _part(held["test_X.bin"], held["test_y.bin"])


def _place(kind: Any, root: Path) -> Path | None:
    """The extracted folder, else the archive; root may hold it or be it."""
    for folder in (root / kind.base_folder, root):
        if (folder.name == kind.base_folder and folder.is_dir()) or (folder / "train_X.bin").is_file():
            return folder
    for archive in (root / kind.filename, root):
        if archive.name == kind.filename and archive.is_file():
            return archive
    return None


def _from_archive(path: Path, kind: Any, wanted: set[str]) -> dict[str, bytes]:
    """The wanted members by name. The archive is read as a stream, up to the last of them: most of it is images without labels."""
    held: dict[str, bytes] = {}
    try:
        with tarfile.open(path, mode="r|gz") as tar:
            for member in tar:
                name = member.name.removeprefix("./").removeprefix(f"{kind.base_folder}/")
                if name in wanted and (stream := tar.extractfile(member)) is not None:
                    held[name] = stream.read()
                if len(held) == len(wanted):
                    break
    except (tarfile.TarError, zlib.error, EOFError) as error:
        raise DataError(f"{path}: truncated or damaged ({error}): put the right file there, or delete it and set download=true") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    absent = sorted(wanted - set(held))
    if absent:
        raise DataError(
            f"{path}: truncated or damaged (holds no {absent[0]}): put the right file there, or delete it and set download=true"
        )
    return held


def _part(images: bytes, labels: bytes) -> Part:
    x = np.frombuffer(images, dtype=np.uint8).reshape(-1, 3, 96, 96).transpose(0, 1, 3, 2)
    return np.ascontiguousarray(x), np.frombuffer(labels, dtype=np.uint8).astype(np.int64) - 1
