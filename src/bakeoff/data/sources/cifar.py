"""CIFAR-10 and CIFAR-100 in their python form: the tar.gz as published, or the folder taken out of it."""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

from bakeoff.data.sources.base import Images, LabelledArrays
from bakeoff.data.sources.dataset_files import check_md5, locate_torchvision, read_file


def cifar10(*, root: Path, download: bool) -> Images:
    """Load CIFAR-10: 50,000 + 10,000 colour 32x32 images in 10 classes.

    Files: cifar-10-python.tar.gz, or the folder cifar-10-batches-py taken out of it, in root; or root is one of the two.
    Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images (2009).
    """
    from torchvision.datasets import CIFAR10

    return _load("cifar10", CIFAR10, root=root, download=download)


def cifar100(*, root: Path, download: bool) -> Images:
    """Load CIFAR-100: 50,000 + 10,000 colour 32x32 images in 100 (fine) classes.

    Files: cifar-100-python.tar.gz, or the folder cifar-100-python taken out of it, in root; or root is one of the two.
    Source: as for CIFAR-10.
    """
    from torchvision.datasets import CIFAR100

    return _load("cifar100", CIFAR100, root=root, download=download)


def _load(name: str, dataset: Any, *, root: Path, download: bool) -> Images:
    path = locate_torchvision(name, dataset, root=root, download=download, member=dataset.meta["filename"])
    sums = dict([*dataset.train_list, *dataset.test_list, (dataset.meta["filename"], dataset.meta["md5"])])
    folder = path if path.is_dir() else path / dataset.base_folder
    contents = {file: read_file(path / file) for file in sums} if path.is_dir() else _read_archive(path, dataset)
    entries = {file: _unpickle(check_md5(contents[file], expected=expected, path=folder / file)) for file, expected in sums.items()}
    train, test = (_join([entries[file] for file, _ in files]) for files in (dataset.train_list, dataset.test_list))
    return Images.from_arrays(train, test, tuple(str(label) for label in entries[dataset.meta["filename"]][dataset.meta["key"]]))


def _read_archive(path: Path, dataset: Any) -> dict[str, bytes]:
    data = check_md5(read_file(path), expected=dataset.tgz_md5, path=path)
    prefix = f"{dataset.base_folder}/"
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as tar:
        return {entry.name.removeprefix(prefix): stream.read() for entry in tar if (stream := tar.extractfile(entry)) is not None}


def _unpickle(data: bytes) -> dict[str, Any]:
    # Safe only because the checksum comes first: these are the authors' own bytes. latin1: they were written by Python 2.
    entry: dict[str, Any] = pickle.loads(data, encoding="latin1")
    return entry


def _join(entries: list[dict[str, Any]]) -> LabelledArrays:
    x = np.concatenate([entry["data"] for entry in entries]).reshape(-1, 3, 32, 32)
    y = np.concatenate([entry["labels" if "labels" in entry else "fine_labels"] for entry in entries])
    return x, y.astype(np.int64)
