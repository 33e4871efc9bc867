"""STL-10's binary files: images of 3 x 96 x 96 bytes, each channel column by column, and labels 1..10; in a tar.gz or out of it."""

from __future__ import annotations

import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from bakeoff.data.sources.base import Images, LabelledArrays
from bakeoff.data.sources.dataset_files import check_md5, damaged, locate_torchvision, read_file, unreadable

CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")


def stl10(*, root: Path, download: bool) -> Images:
    """Load STL-10: 5,000 + 8,000 colour 96x96 images in 10 classes; its 100,000 images without labels are left out.

    Files: stl10_binary.tar.gz, or the folder stl10_binary taken out of it, in root; or root is one of the two.
    Source: A. Coates, H. Lee, A. Y. Ng, An Analysis of Single-Layer Networks in Unsupervised Feature Learning (2011).
    """
    from torchvision.datasets import STL10

    path = locate_torchvision("stl10", STL10, root=root, download=download, member="train_X.bin")
    sums = {file: expected for file, expected in [*STL10.train_list, *STL10.test_list] if not file.startswith("unlabeled")}
    contents = {file: read_file(path / file) for file in sums} if path.is_dir() else _read_archive(path, STL10, set(sums))
    folder = path if path.is_dir() else path / STL10.base_folder
    for file, expected in sums.items():
        check_md5(contents[file], expected=expected, path=folder / file)
    train, test = (_parse(contents[f"{part}_X.bin"], contents[f"{part}_y.bin"]) for part in ("train", "test"))
    return Images.from_arrays(train, test, CLASSES)


def _read_archive(path: Path, dataset: Any, files: set[str]) -> dict[str, bytes]:
    """Return some files by name. The archive is read as a stream, up to the last of them: most of it is images without labels."""
    contents: dict[str, bytes] = {}
    try:
        with tarfile.open(path, mode="r|gz") as tar:
            for member in tar:
                name = member.name.removeprefix("./").removeprefix(f"{dataset.base_folder}/")
                if name in files and (stream := tar.extractfile(member)) is not None:
                    contents[name] = stream.read()
                if len(contents) == len(files):
                    break
    except (tarfile.TarError, zlib.error, EOFError) as error:
        raise damaged(path, f" ({error})") from error
    except OSError as error:
        raise unreadable(path, error) from error
    absent = sorted(files - set(contents))
    if absent:
        raise damaged(path, f" (holds no {absent[0]})")
    return contents


def _parse(images: bytes, labels: bytes) -> LabelledArrays:
    x = np.frombuffer(images, dtype=np.uint8).reshape(-1, 3, 96, 96).transpose(0, 1, 3, 2)
    return np.ascontiguousarray(x), np.frombuffer(labels, dtype=np.uint8).astype(np.int64) - 1
