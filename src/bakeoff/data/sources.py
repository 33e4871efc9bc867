"""The image datasets: each function gives one dataset, as uint8 tensors or as lists of the files that hold its images.

Every function takes `root` (where its files are looked for, and put by a download) and `download`. Nothing is written anywhere
unless `download` is true. The files of published datasets in few files are checked against known MD5 sums before they are parsed.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bakeoff.data import cifar, image_folders
from bakeoff.data import fashion_mnist as _fashion_mnist
from bakeoff.data import stl10 as _stl10
from bakeoff.data import svhn as _svhn
from bakeoff.data.splits import every_fifth
from bakeoff.errors import DataError


@dataclass(frozen=True)
class Images:
    """A dataset in memory: images uint8[N, C, H, W] with values 0..255, labels int64[N] with values 0..len(classes) - 1."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    classes: tuple[str, ...]

    def digest(self) -> str:
        """SHA-256 (hex) over the shapes, pixels and labels of both parts: the same wherever the files came from."""
        total = hashlib.sha256()
        for part in (self.train_x, self.train_y, self.test_x, self.test_y):
            total.update(repr(tuple(part.shape)).encode())
            total.update(part.contiguous().numpy().data)
        return total.hexdigest()


@dataclass(frozen=True)
class ImageFiles:
    """A dataset that stays on disk: image files that nothing has decoded, labels int64[N] with values 0..len(classes) - 1."""

    train: tuple[Path, ...]
    train_y: Tensor
    test: tuple[Path, ...]
    test_y: Tensor
    classes: tuple[str, ...]

    def digest(self) -> str:
        """SHA-256 (hex) over the names below the folder that holds all files, their sizes in bytes, and the labels; no file is opened.

        Errors: DataError for a file that is gone.
        """
        names = [*map(str, self.train), *map(str, self.test)]
        # What the least and the greatest name share, all names share.
        top = os.path.commonpath((os.path.dirname(min(names)), os.path.dirname(max(names))))
        below = len(os.path.join(top, ""))
        total = hashlib.sha256(repr((len(self.train), len(self.test))).encode())
        for name in names:
            try:
                size = os.stat(name).st_size
            except OSError as error:
                raise DataError(f"{name}: cannot be read ({error.strerror or error})") from error
            total.update(f"{name[below:]}\0{size}\n".encode("utf-8", "surrogateescape"))
        for labels in (self.train_y, self.test_y):
            total.update(labels.contiguous().numpy().data)
        return total.hexdigest()


def digits(*, root: Path, download: bool) -> Images:
    """Handwritten digits that scikit-learn carries: 1,797 grey 8x8 images, 0..16 stretched to 0..255; `root` is not used.

    Test: a fixed stratified fifth (every fifth image of each class). Source: E. Alpaydin, C. Kaynak, UCI Optical Recognition of
    Handwritten Digits (1998), its test part.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = torch.from_numpy(bunch.images).mul(255 / 16).round().to(torch.uint8).unsqueeze(1)
    y = torch.from_numpy(bunch.target).to(torch.int64)
    train, test = every_fifth(y)
    return Images(x[train], y[train], x[test], y[test], tuple(str(name) for name in bunch.target_names))


def fashion_mnist(*, root: Path, download: bool) -> Images:
    """Fashion-MNIST: 60,000 + 10,000 grey 28x28 images of clothes in 10 classes.

    Files: the four idx files, gzipped or not, in root, root/FashionMNIST/raw (torchvision), root/raw or root/fashion-mnist; where
    root is left at its default also where Debian's package dataset-fashion-mnist puts them. Errors: DataError where they are
    missing or damaged. Source: H. Xiao, K. Rasul, R. Vollgraf, arXiv:1708.07747.
    """
    arrays = _fashion_mnist.fashion_mnist(root, download=download)
    train_x, train_y, test_x, test_y = (torch.from_numpy(a) for a in arrays)
    return Images(train_x.unsqueeze(1), train_y.long(), test_x.unsqueeze(1), test_y.long(), _fashion_mnist.FASHION_CLASSES)


def cifar10(*, root: Path, download: bool) -> Images:
    """CIFAR-10: 50,000 + 10,000 colour 32x32 images in 10 classes.

    Files: cifar-10-python.tar.gz, or the folder cifar-10-batches-py taken out of it, in root; or root is one of the two. Errors:
    DataError where they are missing or damaged. Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images (2009).
    """
    return _cifar("cifar10", root=root, download=download)


def cifar100(*, root: Path, download: bool) -> Images:
    """CIFAR-100: 50,000 + 10,000 colour 32x32 images in 100 (fine) classes.

    Files: cifar-100-python.tar.gz, or the folder cifar-100-python taken out of it, in root; or root is one of the two. Errors:
    DataError where they are missing or damaged. Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images (2009).
    """
    return _cifar("cifar100", root=root, download=download)


def svhn(*, root: Path, download: bool, extra: bool = False) -> Images:
    """SVHN's cropped digits: 73,257 + 26,032 colour 32x32 images of house numbers in 10 classes, the digits.

    extra: train also on the 531,131 easier images of the third part. Files: train_32x32.mat, test_32x32.mat and extra_32x32.mat in
    root or root/svhn. Errors: DataError where they are missing or damaged. Source: Y. Netzer et al., Reading Digits in Natural
    Images with Unsupervised Feature Learning (2011).
    """
    (train_x, train_y), (test_x, test_y) = _svhn.load(root, download=download, extra=extra)
    return _images(train_x, train_y, test_x, test_y, tuple("0123456789"))


def stl10(*, root: Path, download: bool) -> Images:
    """STL-10: 5,000 + 8,000 colour 96x96 images in 10 classes; its 100,000 images without labels are left alone.

    Files: stl10_binary.tar.gz, or the folder stl10_binary taken out of it, in root; or root is one of the two. Errors: DataError
    where they are missing or damaged. Source: A. Coates, H. Lee, A. Y. Ng, An Analysis of Single-Layer Networks in Unsupervised
    Feature Learning (2011).
    """
    (train_x, train_y), (test_x, test_y) = _stl10.load(root, download=download)
    return _images(train_x, train_y, test_x, test_y, _stl10.CLASSES)


def folder(*, root: Path, download: bool, test: str | None = None) -> ImageFiles:
    """Image files in class folders of one's own: root/train/<class>/ and root/test/<class>/ (or val), or root/<class>/ alone.

    test: the name of the folder of test images; None for `test` or `val`, whichever is there. Where root holds the class folders
    themselves, every fifth file of each class, in the order of names, is a test image. `download` has nothing to fetch. Errors:
    DataError for a folder that is missing, unreadable or without images, and for test classes that are none of the train classes.
    """
    return ImageFiles(*image_folders.folder(root, test=test))


def imagenet(*, root: Path, download: bool) -> ImageFiles:
    """ImageNet-1k (ILSVRC 2012): 1,281,167 + 50,000 colour images in 1,000 classes, the authors' validation part as the test set.

    Files: train/<wnid>/ and val/<wnid>/ as torchvision's ImageNet unpacks them, in root or root/imagenet; meta.bin beside them
    gives the classes their names. `download` has nothing to fetch: the licence forbids it. Errors: DataError. Source:
    O. Russakovsky et al., arXiv:1409.0575.
    """
    return ImageFiles(*image_folders.imagenet(root))


def _cifar(name: cifar.Name, *, root: Path, download: bool) -> Images:
    (train_x, train_y), (test_x, test_y), classes = cifar.load(name, root=root, download=download)
    return _images(train_x, train_y, test_x, test_y, classes)


def _images(
    train_x: NDArray[np.uint8], train_y: NDArray[np.int64], test_x: NDArray[np.uint8], test_y: NDArray[np.int64], classes: tuple[str, ...]
) -> Images:
    return Images(torch.from_numpy(train_x), torch.from_numpy(train_y), torch.from_numpy(test_x), torch.from_numpy(test_y), classes)
