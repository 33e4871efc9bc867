"""Sources: files in their true formats, wherever they may be; damaged and missing ones are named in one line."""

from __future__ import annotations

import gzip
import hashlib
import inspect
import io
import pickle
import struct
import tarfile
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision.datasets as tv
from omegaconf import OmegaConf

from bakeoff.data import sources
from bakeoff.data.sources import fashion_idx, sklearn_digits
from bakeoff.errors import DataError

RNG = np.random.default_rng(0)
FASHION = {
    "train-images-idx3-ubyte": RNG.integers(0, 256, (20, 28, 28), dtype=np.uint8),
    "train-labels-idx1-ubyte": np.arange(20, dtype=np.uint8) % 10,
    "t10k-images-idx3-ubyte": RNG.integers(0, 256, (10, 28, 28), dtype=np.uint8),
    "t10k-labels-idx1-ubyte": np.arange(10, dtype=np.uint8),
}


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def idx_bytes(array: np.ndarray[Any, Any]) -> bytes:
    return struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}i", *array.shape) + array.tobytes()


@pytest.fixture
def fashion(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    contents = {name: idx_bytes(array) for name, array in FASHION.items()}
    monkeypatch.setattr(fashion_idx, "MD5_SUMS", {name: md5(data) for name, data in contents.items()})
    return contents


def write(folder: Path, contents: dict[str, bytes], *, zipped: bool) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in contents.items():
        (folder / (name + ".gz" if zipped else name)).write_bytes(gzip.compress(data) if zipped else data)
    return folder


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("inside", [".", "FashionMNIST/raw", "raw", "fashion-mnist"])
def test_fashion_mnist_is_found_and_read(tmp_path: Path, fashion: dict[str, bytes], inside: str, zipped: bool) -> None:
    write(tmp_path / inside, fashion, zipped=zipped)
    before = sorted(tmp_path.rglob("*"))
    images = sources.fashion_mnist(root=tmp_path, download=False)
    assert images.train_x.shape == (20, 1, 28, 28) and images.train_x.dtype == torch.uint8 and images.train_y.dtype == torch.int64
    assert np.array_equal(images.train_x[:, 0].numpy(), FASHION["train-images-idx3-ubyte"])
    assert images.test_y.tolist() == list(range(10)) and len(images.classes) == 10
    assert sorted(tmp_path.rglob("*")) == before


def test_digest_is_the_same_from_either_form_and_changes_with_a_pixel(tmp_path: Path, fashion: dict[str, bytes]) -> None:
    plain = sources.fashion_mnist(root=write(tmp_path / "a", fashion, zipped=False), download=False)
    zipped = sources.fashion_mnist(root=write(tmp_path / "b", fashion, zipped=True), download=False)
    assert plain.digest() == zipped.digest()
    zipped.train_x[3, 0, 4, 5] ^= 1
    assert plain.digest() != zipped.digest()


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_damaged_idx_file_is_named_with_both_checksums(tmp_path: Path, fashion: dict[str, bytes], damage: str, zipped: bool) -> None:
    name = "train-images-idx3-ubyte"
    file = write(tmp_path, fashion, zipped=zipped) / (name + ".gz" if zipped else name)
    data = bytearray(file.read_bytes())
    if damage == "flipped":
        data[len(data) // 2] ^= 0x10
    else:
        del data[len(data) // 2 if damage == "truncated" else 0 :]
    file.write_bytes(data)
    with pytest.raises(DataError) as error:
        sources.fashion_mnist(root=tmp_path, download=False)
    message = str(error.value)
    assert str(file) in message and fashion_idx.MD5_SUMS[name] in message and "found " in message and "\n" not in message


def test_an_idx_file_missing_beside_the_others_is_named(tmp_path: Path, fashion: dict[str, bytes]) -> None:
    write(tmp_path, fashion, zipped=True)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte\.gz: missing"):
        sources.fashion_mnist(root=tmp_path, download=False)


def test_an_unreadable_file_is_named(tmp_path: Path, fashion: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, fashion, zipped=False)

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte: cannot be read \(Permission denied\)"):
        sources.fashion_mnist(root=tmp_path, download=False)


@pytest.mark.parametrize("name", ["fashion_mnist", "cifar10", "cifar100", "svhn", "stl10"])
def test_a_missing_dataset_says_what_to_do(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError) as error:
        getattr(sources, name)(root=tmp_path / "nowhere", download=False)
    message = str(error.value)
    assert all(word in message for word in ("root=", f"holds no {name}", "nowhere", "download=true"))
    assert not (tmp_path / "nowhere").exists()
    if name == "fashion_mnist":
        assert "Debian" in message


@pytest.mark.parametrize("name", ["fashion_mnist", "cifar10", "svhn", "stl10"])
def test_a_failing_download_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def offline(*args: Any, **kwargs: Any) -> None:
        raise URLError("[Errno -3] Temporary failure in name resolution")

    monkeypatch.setattr("torchvision.datasets.utils.download_url", offline)
    for dataset in (tv.FashionMNIST, tv.CIFAR10, tv.STL10):
        monkeypatch.setattr(dataset, "download", offline)
    with pytest.raises(DataError) as error:
        getattr(sources, name)(root=tmp_path / "new", download=True)
    assert "download" in str(error.value) and "name resolution" in str(error.value) and "\n" not in str(error.value)


def test_a_download_is_read_where_torchvision_puts_it(tmp_path: Path, fashion: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tv.FashionMNIST, "download", lambda self: write(Path(self.raw_folder), fashion, zipped=False))
    assert len(sources.fashion_mnist(root=tmp_path, download=True).train_x) == 20


class Cifar:
    """A dataset of the same form and far fewer images, with torchvision's tables of checksums changed to fit."""

    def __init__(self, kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        fine = kind is tv.CIFAR100
        classes = 100 if fine else 10
        self.kind, self.x = kind, RNG.integers(0, 256, (10 if fine else 50, 3, 32, 32), dtype=np.uint8)
        self.y = [i % classes for i in range(len(self.x))]
        key, self.files = "fine_labels" if fine else "labels", {}
        parts = [name for name, _ in kind.train_list]
        for i, name in enumerate(parts):
            part = slice(i * len(self.x) // len(parts), (i + 1) * len(self.x) // len(parts))
            self.files[name] = {"data": self.x[part].reshape(-1, 3072), key: self.y[part]}
        self.files[kind.test_list[0][0]] = {"data": self.x[:7].reshape(-1, 3072), key: self.y[:7]}
        self.files[kind.meta["filename"]] = {kind.meta["key"]: [f"class {i}" for i in range(classes)]}
        self.bytes = {name: pickle.dumps(entry, protocol=2) for name, entry in self.files.items()}
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            for name, data in self.bytes.items():
                info = tarfile.TarInfo(f"{kind.base_folder}/{name}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        self.archive = buffer.getvalue()
        monkeypatch.setattr(kind, "tgz_md5", md5(self.archive))
        for table in ("train_list", "test_list"):
            monkeypatch.setattr(kind, table, [[name, md5(self.bytes[name])] for name, _ in getattr(kind, table)])
        monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": md5(self.bytes[kind.meta["filename"]])})

    def place(self, root: Path, form: str) -> Path:
        """Put the files under root in one of their forms; returns what data.root is to be."""
        folder, archive = root / self.kind.base_folder, root / self.kind.filename
        if form.startswith("archive"):
            archive.write_bytes(self.archive)
            return archive if form == "archive itself" else root
        folder.mkdir()
        for name, data in self.bytes.items():
            (folder / name).write_bytes(data)
        return folder if form == "folder itself" else root


@pytest.mark.parametrize("form", ["archive", "archive itself", "folder", "folder itself"])
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_is_found_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, form: str) -> None:
    files = Cifar(getattr(tv, name.upper()), monkeypatch)
    root = files.place(tmp_path, form)
    before = sorted(tmp_path.rglob("*"))
    images = getattr(sources, name)(root=root, download=False)
    assert images.train_x.dtype == torch.uint8 and np.array_equal(images.train_x.numpy(), files.x)
    assert images.train_y.tolist() == files.y and images.test_y.tolist() == files.y[:7]
    assert images.classes[3] == "class 3"
    assert sorted(tmp_path.rglob("*")) == before


def test_a_damaged_cifar_archive_or_member_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = Cifar(tv.CIFAR10, monkeypatch)
    archive = files.place(tmp_path, "archive itself")
    archive.write_bytes(files.archive[:-100])
    with pytest.raises(DataError) as error:
        sources.cifar10(root=tmp_path, download=False)
    assert all(word in str(error.value) for word in (str(archive), files.kind.tgz_md5, md5(files.archive[:-100])))
    archive.unlink()
    member = files.place(tmp_path, "folder itself") / "data_batch_3"
    member.write_bytes(files.bytes["data_batch_3"] + b"!")
    with pytest.raises(DataError) as error:
        sources.cifar10(root=tmp_path, download=False)
    assert all(word in str(error.value) for word in (str(member), md5(files.bytes["data_batch_3"])))
    member.unlink()
    with pytest.raises(DataError, match="data_batch_3: cannot be read"):
        sources.cifar10(root=tmp_path, download=False)


def test_digits_are_offline_stretched_and_split_alike_whatever_the_seed() -> None:
    torch.manual_seed(1)
    first = sources.digits(root=Path("nowhere"), download=False)
    torch.manual_seed(2)
    again = sources.digits(root=Path("elsewhere"), download=True)
    assert first.digest() == again.digest() == "b0aa6110dc4fad80881330d9e3e198c941a77dfd3bbcdc95e26c5086520ec38f"
    assert len(first.train_x) + len(first.test_x) == 1797 and len(first.test_x) == 355
    assert first.train_x.shape[1:] == (1, 8, 8) and first.train_x.min() == 0 and first.train_x.max() == 255
    share = torch.bincount(first.test_y) / (torch.bincount(first.train_y) + torch.bincount(first.test_y))
    assert share.min() > 0.19 and share.max() <= 0.2


@pytest.mark.skipif(not fashion_idx.DEBIAN_FOLDER.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_the_real_fashion_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = sources.fashion_mnist(root=fashion_idx.DEBIAN_FOLDER, download=False)
    assert images.train_x.shape == (60000, 1, 28, 28) and images.test_x.shape == (10000, 1, 28, 28)
    assert torch.bincount(images.train_y).tolist() == [6000] * 10 and torch.bincount(images.test_y).tolist() == [1000] * 10
    assert images.train_y[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]
    monkeypatch.chdir(tmp_path)  # the default root holds nothing here: the package is used all the same
    assert sources.fashion_mnist(root=Path("data"), download=False).digest() == images.digest()
    with pytest.raises(DataError, match=f"root={fashion_idx.DEBIAN_FOLDER}"):  # a root of one's own is taken at its word
        sources.fashion_mnist(root=tmp_path / "mine", download=False)


KNOWN = {
    "digits": (10, 1, 8, 32),
    "fashion_mnist": (10, 1, 28, 32),
    "cifar10": (10, 3, 32, 32),
    "cifar100": (100, 3, 32, 32),
    "svhn": (10, 3, 32, 32),
    "stl10": (10, 3, 96, 96),
    "folder": (10, 3, 256, 224),
    "imagenet": (1000, 3, 256, 224),
}
"""Classes, channels, native size, trained size."""


def test_the_configs_agree_with_the_sources() -> None:
    for file in sorted((Path(__file__).parents[2] / "conf" / "data").glob("*.yaml")):
        node = OmegaConf.to_container(OmegaConf.load(file))
        assert isinstance(node, dict)
        assert node["source"]["_target_"] == f"bakeoff.data.sources.{file.stem}"
        source = inspect.signature(getattr(sources, file.stem)).parameters
        own = {key: value.default for key, value in source.items() if key not in ("root", "download")}
        assert node["source"] == {"_target_": node["source"]["_target_"], **own}
        assert (node["num_classes"], node["channels"], node["native_size"], node["size"]) == KNOWN[file.stem]
        assert node["about"]


def test_the_digits_are_those_of_scikit_learn_with_and_without_importing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    read_directly = sklearn_digits._read_table()
    monkeypatch.setattr(Path, "is_file", lambda path: False)
    assert (read_directly == sklearn_digits._read_table()).all()
    assert (read_directly[:, :-1] == bunch.data).all() and (read_directly[:, -1] == bunch.target).all()
