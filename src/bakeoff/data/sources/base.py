"""What a source returns: images in memory, or a list of image files."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bakeoff.data.sources.dataset_files import unreadable

LabelledArrays = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Images uint8[N, C, H, W] and labels int64[N] of one part of a dataset."""


@dataclass(frozen=True)
class Images:
    """A dataset in memory: images uint8[N, C, H, W] with values 0..255, labels int64[N] with values 0..len(classes) - 1."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    classes: tuple[str, ...]

    @classmethod
    def from_arrays(cls, train: LabelledArrays, test: LabelledArrays, classes: tuple[str, ...]) -> Images:
        """Return a dataset that shares the memory of numpy's arrays."""
        train_x, train_y, test_x, test_y = map(torch.from_numpy, (*train, *test))
        return cls(train_x, train_y, test_x, test_y, classes)

    def digest(self) -> str:
        """Return the SHA-256 (hex) of the shapes, pixels and labels of both parts: the same wherever the files came from."""
        sha = hashlib.sha256()
        for tensor in (self.train_x, self.train_y, self.test_x, self.test_y):
            sha.update(repr(tuple(tensor.shape)).encode())
            sha.update(tensor.contiguous().numpy().data)
        return sha.hexdigest()


@dataclass(frozen=True)
class ImageFiles:
    """A dataset that stays on disk: image files that nothing has decoded, labels int64[N] with values 0..len(classes) - 1."""

    train: tuple[Path, ...]
    train_y: Tensor
    test: tuple[Path, ...]
    test_y: Tensor
    classes: tuple[str, ...]

    def digest(self) -> str:
        """Return the SHA-256 (hex) of the names below the folder that holds all files, their sizes in bytes, and the labels.

        Raises:
            DataError: A file is gone; none is opened.
        """
        names = [*map(str, self.train), *map(str, self.test)]
        # What the least and the greatest name share, all names share.
        top = os.path.commonpath((os.path.dirname(min(names)), os.path.dirname(max(names))))
        prefix_length = len(os.path.join(top, ""))
        sha = hashlib.sha256(repr((len(self.train), len(self.test))).encode())
        for name in names:
            try:
                size = os.stat(name).st_size
            except OSError as error:
                raise unreadable(name, error) from error
            sha.update(f"{name[prefix_length:]}\0{size}\n".encode("utf-8", "surrogateescape"))
        for labels in (self.train_y, self.test_y):
            sha.update(labels.contiguous().numpy().data)
        return sha.hexdigest()
