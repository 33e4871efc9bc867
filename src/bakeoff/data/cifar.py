"""CIFAR-10 and CIFAR-100 in their python form: the tar.gz as published, or the folder taken out of it."""

from __future__ import annotations

import io
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bakeoff.data import dataset_files

Name = Literal["cifar10", "cifar100"]
Part = tuple[NDArray[np.uint8], NDArray[np.int64]]


def load(name: Name, *, root: Path, download: bool) -> tuple[Part, Part, tuple[str, ...]]:
    """(train images uint8[50000, 3, 32, 32], labels int64), (test images, labels), class names. Errors: DataError."""
    from torchvision.datasets import CIFAR10, CIFAR100

    kind = CIFAR10 if name == "cifar10" else CIFAR100
    root = Path(root).expanduser()
    place = _place(kind, root)
    if place is None and download:
        dataset_files.fetch(name, root=root, get=lambda: kind(str(root), download=True), there=lambda: _place(kind, root) is not None)
        place = _place(kind, root)
    if place is None:
        raise dataset_files.missing(name, root=root, looked_for=f"{kind.base_folder}/ and {kind.filename}")
    member = _from_folder(place) if place.is_dir() else _from_archive(place, kind)
    meta = member(kind.meta["filename"], kind.meta["md5"])
    train = [member(file, expected) for file, expected in kind.train_list]
    test = [member(file, expected) for file, expected in kind.test_list]
    return _part(train), _part(test), tuple(str(c) for c in meta[kind.meta["key"]])


def _place(kind: Any, root: Path) -> Path | None:
    """The extracted folder, else the archive; root may hold it or be it."""
    for folder in (root / kind.base_folder, root):
        if (folder.name == kind.base_folder and folder.is_dir()) or (folder / kind.meta["filename"]).is_file():
            return folder
    for archive in (root / kind.filename, root):
        if archive.name == kind.filename and archive.is_file():
            return archive
    return None


def _from_folder(folder: Path) -> Callable[[str, str], dict[str, Any]]:
    def member(file: str, expected: str) -> dict[str, Any]:
        path = folder / file
        return _unpickle(dataset_files.verify(dataset_files.read(path), expected=expected, path=path))

    return member


def _from_archive(path: Path, kind: Any) -> Callable[[str, str], dict[str, Any]]:
    data = dataset_files.verify(dataset_files.read(path), expected=kind.tgz_md5, path=path)
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as tar:
        held = {m.name: stream.read() for m in tar if (stream := tar.extractfile(m)) is not None}

    def member(file: str, expected: str) -> dict[str, Any]:
        inside = f"{kind.base_folder}/{file}"
        return _unpickle(dataset_files.verify(held[inside], expected=expected, path=path / inside))

    return member


def _unpickle(data: bytes) -> dict[str, Any]:
    # Safe only because the checksum comes first: these are the authors' own bytes. latin1: they were written by Python 2.
    entry: dict[str, Any] = pickle.loads(data, encoding="latin1")
    return entry


def _part(entries: list[dict[str, Any]]) -> Part:
    x = np.concatenate([entry["data"] for entry in entries]).reshape(-1, 3, 32, 32)
    y = np.concatenate([entry["labels" if "labels" in entry else "fine_labels"] for entry in entries])
    return x, y.astype(np.int64)
