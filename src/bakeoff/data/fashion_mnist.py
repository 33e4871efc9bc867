"""Fashion-MNIST's idx files, gzipped or not. Format: http://yann.lecun.com/exdb/mnist/ (magic, sizes as big-endian int32, bytes)."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bakeoff.data import dataset_files
from bakeoff.errors import DataError

FASHION_CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")

# Of the uncompressed idx files: a distribution may compress them anew, and then the sums that torchvision has for the .gz do not
# fit although every pixel does. The authors' .gz files give exactly these.
FASHION_MD5 = {
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}
DEFAULT_ROOT = Path("data")
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")


def fashion_mnist(root: Path, *, download: bool) -> list[NDArray[np.uint8]]:
    """Train images [60000, 28, 28], train labels [60000], test images [10000, 28, 28], test labels [10000]. Errors: DataError."""
    root = Path(root).expanduser()
    folder = _folder(root)
    if folder is None and download:
        dataset_files.fetch("fashion_mnist", root=root, get=lambda: _download(root), there=lambda: _folder(root) is not None)
        folder = _folder(root)
    if folder is None:
        hint = ", or install Debian's package dataset-fashion-mnist"
        if _holds(DEBIAN_FOLDER):  # only a root that the user named comes here: it is taken at its word, with the way out told
            hint = f" (Debian's package has them: root={DEBIAN_FOLDER})"
        raise dataset_files.missing(
            "fashion_mnist", root=root, looked_for="train-images-idx3-ubyte[.gz] and its three companions", hint=hint
        )
    return [_read(folder, name) for name in FASHION_MD5]


def _download(root: Path) -> None:
    from torchvision.datasets import FashionMNIST

    FashionMNIST(str(root), download=True)


def _holds(folder: Path) -> bool:
    return any((folder / f"{name}{end}").is_file() for name in FASHION_MD5 for end in ("", ".gz"))


def _folder(root: Path) -> Path | None:
    places = [root, root / "FashionMNIST" / "raw", root / "raw", root / "fashion-mnist"]
    if root in (DEFAULT_ROOT, DEFAULT_ROOT.absolute()):
        places.append(DEBIAN_FOLDER)
    return next((place for place in places if _holds(place)), None)


def _read(folder: Path, name: str) -> NDArray[np.uint8]:
    plain, zipped = folder / name, folder / f"{name}.gz"
    path = plain if plain.is_file() else zipped
    if not path.is_file():
        raise DataError(f"{path}: missing beside the other files of fashion_mnist: put it there, or set `root` to where all four are")
    data = dataset_files.read(path)
    if path is zipped:
        data = _gunzip(data)
    dataset_files.verify(data, expected=FASHION_MD5[name], path=path, what=" of the uncompressed data" if path is zipped else "")
    dims = data[3]
    shape = struct.unpack(f">{dims}i", data[4 : 4 + 4 * dims])
    return np.frombuffer(bytearray(data), dtype=np.uint8, offset=4 + 4 * dims).reshape(shape)


def _gunzip(data: bytes) -> bytes:
    """What can be unpacked: a damaged file gives its readable beginning, whose checksum then tells."""
    unpacker, out = zlib.decompressobj(wbits=31), []
    step = 1 << 20
    for start in range(0, len(data), step):
        try:
            out.append(unpacker.decompress(data[start : start + step]))
        except zlib.error:
            break
    return b"".join(out)
