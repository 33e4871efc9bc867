"""Fashion-MNIST's idx files, gzipped or not. Format: http://yann.lecun.com/exdb/mnist/ (magic, sizes as big-endian int32, bytes)."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bakeoff.data.sources.base import Images
from bakeoff.data.sources.dataset_files import check_md5, locate, read_file
from bakeoff.errors import DataError

CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")

# Of the uncompressed idx files: a distribution may compress them anew, and then the sums that torchvision has for the .gz do not
# fit although every pixel does. The authors' .gz files give exactly these.
MD5_SUMS = {
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}
DEFAULT_ROOT = Path("data")
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")


def fashion_mnist(*, root: Path, download: bool) -> Images:
    """Load Fashion-MNIST: 60,000 + 10,000 grey 28x28 images of clothes in 10 classes.

    Files: the four idx files, gzipped or not, in root, root/FashionMNIST/raw (torchvision), root/raw or root/fashion-mnist; where root
    is left at its default also where Debian's package dataset-fashion-mnist puts them.
    Source: H. Xiao, K. Rasul, R. Vollgraf, arXiv:1708.07747.
    """
    hint = ", or install Debian's package dataset-fashion-mnist"
    if _is_fashion_folder(DEBIAN_FOLDER):  # shown only for a root that the user named: it is taken at its word
        hint = f" (Debian's package has them: root={DEBIAN_FOLDER})"
    looked_for = "train-images-idx3-ubyte[.gz] and its three companions"
    fetch = _download if download else None
    folder = locate("fashion_mnist", root=root, find=_find_folder, download=fetch, looked_for=looked_for, hint=hint)
    train_x, train_y, test_x, test_y = (_read(folder, name) for name in MD5_SUMS)
    return Images(train_x.unsqueeze(1), train_y.long(), test_x.unsqueeze(1), test_y.long(), CLASSES)


def _download(root: Path) -> None:
    from torchvision.datasets import FashionMNIST

    FashionMNIST(str(root), download=True)


def _is_fashion_folder(folder: Path) -> bool:
    return any((folder / f"{name}{ending}").is_file() for name in MD5_SUMS for ending in ("", ".gz"))


def _find_folder(root: Path) -> Path | None:
    folders = [root, root / "FashionMNIST" / "raw", root / "raw", root / "fashion-mnist"]
    if root in (DEFAULT_ROOT, DEFAULT_ROOT.absolute()):
        folders.append(DEBIAN_FOLDER)
    return next((folder for folder in folders if _is_fashion_folder(folder)), None)


def _read(folder: Path, name: str) -> Tensor:
    plain, zipped = folder / name, folder / f"{name}.gz"
    path = plain if plain.is_file() else zipped
    if not path.is_file():
        raise DataError(f"{path}: missing beside the other files of fashion_mnist: put it there, or set `root` to where all four are")
    data, subject = read_file(path), ""
    if path is zipped:
        data, subject = _gunzip(data), " of the uncompressed data"
    check_md5(data, expected=MD5_SUMS[name], path=path, subject=subject)
    dimensions = data[3]
    start = 4 + 4 * dimensions
    shape = struct.unpack(f">{dimensions}i", data[4:start])
    return torch.from_numpy(np.frombuffer(bytearray(data), dtype=np.uint8, offset=start).reshape(shape))


def _gunzip(data: bytes) -> bytes:
    """Return what can be unpacked: a damaged file gives its readable beginning, whose checksum then tells."""
    unpacker, chunks = zlib.decompressobj(wbits=31), []
    chunk_size = 1 << 20
    for start in range(0, len(data), chunk_size):
        try:
            chunks.append(unpacker.decompress(data[start : start + chunk_size]))
        except zlib.error:
            break
    return b"".join(chunks)
