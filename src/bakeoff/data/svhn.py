"""SVHN's cropped digits: MATLAB files of `X` uint8[32, 32, 3, N] and `y` [N, 1], in which the digit 0 has the label 10."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bakeoff.data import dataset_files
from bakeoff.errors import DataError

Part = tuple[NDArray[np.uint8], NDArray[np.int64]]


def load(root: Path, *, download: bool, extra: bool) -> tuple[Part, Part]:
    """(train images uint8[N, 3, 32, 32], labels int64 0..9), (test images, labels). Errors: DataError."""
    from torchvision.datasets import SVHN
    from torchvision.datasets.utils import download_url

    root = Path(root).expanduser()
    wanted = {name: SVHN.split_list[name] for name in ("train", "test", *(["extra"] if extra else []))}

    def place() -> Path | None:
        """The first folder that holds any of the files."""
        return next((at for at in (root, root / "svhn") if any((at / file).is_file() for _, file, _ in wanted.values())), None)

    def lacking() -> list[str]:
        return [name for name, (_, file, _) in wanted.items() if not ((place() or root) / file).is_file()]

    def get() -> None:
        for name in lacking():
            url, file, expected = wanted[name]
            download_url(url, str(place() or root), file, expected)

    if download and lacking():
        dataset_files.fetch("svhn", root=root, get=get, there=lambda: not lacking())
    folder = place()
    if folder is None:
        raise dataset_files.missing("svhn", root=root, looked_for=" and ".join(file for _, file, _ in wanted.values()))
    if lacking():
        file = wanted[lacking()[0]][1]
        raise DataError(f"{folder / file}: missing beside the other files of svhn: put it there, or set download=true")
    parts = {name: _read(folder / file, expected) for name, (_, file, expected) in wanted.items()}
    train = parts["train"]
    if extra:
        train = np.concatenate([train[0], parts["extra"][0]]), np.concatenate([train[1], parts["extra"][1]])
    return train, parts["test"]


def _read(path: Path, expected: str) -> Part:
    from scipy.io import loadmat

    held = loadmat(io.BytesIO(dataset_files.verify(dataset_files.read(path), expected=expected, path=path)))
    labels = held["y"].reshape(-1).astype(np.int64) % 10
    return np.ascontiguousarray(held["X"].transpose(3, 2, 0, 1)), labels
