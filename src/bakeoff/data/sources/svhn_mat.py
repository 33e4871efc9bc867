"""SVHN's cropped digits: MATLAB files of `X` uint8[32, 32, 3, N] and `y` [N, 1], in which the digit 0 has the label 10."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from bakeoff.data.sources.base import Images, LabelledArrays
from bakeoff.data.sources.dataset_files import check_md5, locate, read_file
from bakeoff.errors import DataError


def svhn(*, root: Path, download: bool, extra: bool = False) -> Images:
    """Load SVHN's cropped digits: 73,257 + 26,032 colour 32x32 images of house numbers in 10 classes, the digits.

    Files: train_32x32.mat, test_32x32.mat and, where `extra` adds its 531,131 easier images to the training images, extra_32x32.mat, in
    root or root/svhn. Source: Y. Netzer et al., Reading Digits in Natural Images with Unsupervised Feature Learning (2011).
    """
    from torchvision.datasets import SVHN
    from torchvision.datasets.utils import download_url

    parts = {name: SVHN.split_list[name] for name in ("train", "test", *(["extra"] if extra else []))}
    files = [file for _, file, _ in parts.values()]

    def find_any(root: Path) -> Path | None:
        return next((folder for folder in (root, root / "svhn") if any((folder / file).is_file() for file in files)), None)

    def find_all(root: Path) -> Path | None:
        folder = find_any(root)
        return folder if folder is not None and all((folder / file).is_file() for file in files) else None

    def fetch(root: Path) -> None:
        folder = find_any(root) or root
        for url, file, expected in parts.values():
            if not (folder / file).is_file():
                download_url(url, str(folder), file, expected)

    find, get = (find_all, fetch) if download else (find_any, None)
    folder = locate("svhn", root=root, find=find, download=get, looked_for=" and ".join(files))
    for file in files:
        if not (folder / file).is_file():
            raise DataError(f"{folder / file}: missing beside the other files of svhn: put it there, or set download=true")
    arrays = {name: _read(folder / file, expected) for name, (_, file, expected) in parts.items()}
    train = arrays["train"]
    if extra:
        train = np.concatenate([train[0], arrays["extra"][0]]), np.concatenate([train[1], arrays["extra"][1]])
    return Images.from_arrays(train, arrays["test"], tuple("0123456789"))


def _read(path: Path, expected: str) -> LabelledArrays:
    from scipy.io import loadmat

    matrices = loadmat(io.BytesIO(check_md5(read_file(path), expected=expected, path=path)))
    labels = matrices["y"].reshape(-1).astype(np.int64) % 10
    return np.ascontiguousarray(matrices["X"].transpose(3, 2, 0, 1)), labels
