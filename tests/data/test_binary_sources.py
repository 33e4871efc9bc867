"""SVHN and STL-10 in their true formats: located, checked, read the right way round, and named in one line where they are wrong."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.datasets as tv
from scipy.io import savemat

from bakeoff.data import sources
from bakeoff.errors import DataError

RNG = np.random.default_rng(1)


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


class Svhn:
    """The three files as MATLAB 5 writes them, compressed, with far fewer images; torchvision's table of checksums is changed to fit."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.x = {name: RNG.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8) for name, n in (("train", 30), ("test", 20), ("extra", 10))}
        self.bytes: dict[str, bytes] = {}
        for name, x in self.x.items():
            buffer = io.BytesIO()
            labels = (np.arange(len(x)) % 10 + 1).astype(np.uint8).reshape(-1, 1)  # 1..9, and 10 for the digit 0
            savemat(buffer, {"X": x.transpose(2, 3, 1, 0), "y": labels}, do_compression=True)
            self.bytes[name] = buffer.getvalue()
        table = {name: [url, file, md5(self.bytes[name])] for name, (url, file, _) in tv.SVHN.split_list.items()}
        monkeypatch.setattr(tv.SVHN, "split_list", table)

    def place(self, folder: Path, *names: str) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            (folder / f"{name}_32x32.mat").write_bytes(self.bytes[name])
        return folder


@pytest.fixture
def svhn(monkeypatch: pytest.MonkeyPatch) -> Svhn:
    return Svhn(monkeypatch)


@pytest.mark.parametrize("inside", [".", "svhn"])
def test_svhn_is_found_and_read(tmp_path: Path, svhn: Svhn, inside: str) -> None:
    svhn.place(tmp_path / inside, "train", "test")
    before = sorted(tmp_path.rglob("*"))
    images = sources.svhn(root=tmp_path, download=False)
    assert images.train_x.dtype == torch.uint8 and images.train_x.is_contiguous() and images.train_y.dtype == torch.int64
    assert np.array_equal(images.train_x.numpy(), svhn.x["train"]) and np.array_equal(images.test_x.numpy(), svhn.x["test"])
    assert images.train_y.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0] * 3
    assert images.classes == tuple("0123456789")
    assert sorted(tmp_path.rglob("*")) == before


def test_svhns_extra_images_are_trained_on_where_they_are_asked_for(tmp_path: Path, svhn: Svhn) -> None:
    svhn.place(tmp_path, "train", "test")
    with pytest.raises(DataError, match=r"extra_32x32\.mat: missing beside the other files of svhn"):
        sources.svhn(root=tmp_path, download=False, extra=True)
    svhn.place(tmp_path, "extra")
    images = sources.svhn(root=tmp_path, download=False, extra=True)
    assert np.array_equal(images.train_x.numpy(), np.concatenate([svhn.x["train"], svhn.x["extra"]]))
    assert images.train_y.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0] * 4 and len(images.test_y) == 20


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_a_damaged_mat_file_is_named_with_both_checksums(tmp_path: Path, svhn: Svhn, damage: str) -> None:
    file = svhn.place(tmp_path, "train", "test") / "test_32x32.mat"
    data = bytearray(svhn.bytes["test"])
    if damage == "flipped":
        data[len(data) // 2] ^= 1
    else:
        del data[len(data) // 2 if damage == "truncated" else 0 :]
    file.write_bytes(data)
    with pytest.raises(DataError) as error:
        sources.svhn(root=tmp_path, download=False)
    assert all(word in str(error.value) for word in (str(file), md5(svhn.bytes["test"]), md5(bytes(data))))


def test_svhns_download_fetches_only_what_is_missing_and_where_the_rest_is(
    tmp_path: Path, svhn: Svhn, monkeypatch: pytest.MonkeyPatch
) -> None:
    svhn.place(tmp_path / "svhn", "train")
    asked = []

    def serve(url: str, root: str, filename: str, md5: str) -> None:
        asked.append((url, filename, md5))
        svhn.place(Path(root), filename.removesuffix("_32x32.mat"))

    monkeypatch.setattr("torchvision.datasets.utils.download_url", serve)
    assert len(sources.svhn(root=tmp_path, download=True).test_y) == 20
    assert asked == [tuple(tv.SVHN.split_list["test"])]
    assert (tmp_path / "svhn" / "test_32x32.mat").is_file()


class Stl10:
    """The binary files with far fewer images, each channel column by column, and torchvision's tables of checksums changed to fit."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.train, self.test = (RNG.integers(0, 256, (n, 3, 96, 96), dtype=np.uint8) for n in (10, 20))
        self.bytes = {
            "test_X.bin": self.test.transpose(0, 1, 3, 2).tobytes(),
            "test_y.bin": bytes(i % 10 + 1 for i in range(20)),
            "train_X.bin": self.train.transpose(0, 1, 3, 2).tobytes(),
            "train_y.bin": bytes(i % 10 + 1 for i in range(10)),
            "class_names.txt": b"airplane\nbird\ncar\n",
            "unlabeled_X.bin": bytes(2 * 3 * 96 * 96),
        }
        self.archive = self.packed(self.bytes)
        for table in ("train_list", "test_list"):
            monkeypatch.setattr(tv.STL10, table, [[name, md5(self.bytes[name])] for name, _ in getattr(tv.STL10, table)])

    @staticmethod
    def packed(members: dict[str, bytes]) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            for name, data in members.items():
                info = tarfile.TarInfo(f"stl10_binary/{name}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        return buffer.getvalue()

    def place(self, root: Path, form: str) -> Path:
        """Put the files under root in one of their forms, without the images that have no labels; returns what data.root is to be."""
        folder, archive = root / "stl10_binary", root / "stl10_binary.tar.gz"
        if form.startswith("archive"):
            archive.write_bytes(self.archive)
            return archive if form == "archive itself" else root
        folder.mkdir()
        for name, data in self.bytes.items():
            if not name.startswith("unlabeled"):
                (folder / name).write_bytes(data)
        return folder if form == "folder itself" else root


@pytest.fixture
def stl10(monkeypatch: pytest.MonkeyPatch) -> Stl10:
    return Stl10(monkeypatch)


@pytest.mark.parametrize("form", ["archive", "archive itself", "folder", "folder itself"])
def test_stl10_is_found_and_read(tmp_path: Path, stl10: Stl10, form: str) -> None:
    root = stl10.place(tmp_path, form)
    before = sorted(tmp_path.rglob("*"))
    images = sources.stl10(root=root, download=False)
    assert images.train_x.dtype == torch.uint8 and images.train_x.is_contiguous()
    assert np.array_equal(images.train_x.numpy(), stl10.train) and np.array_equal(images.test_x.numpy(), stl10.test)
    assert images.train_y.tolist() == list(range(10)) and images.test_y.tolist() == [*range(10), *range(10)]
    assert images.classes[0] == "airplane" and images.classes[9] == "truck"
    assert sorted(tmp_path.rglob("*")) == before


def test_stl10_is_read_as_torchvision_reads_it(tmp_path: Path, stl10: Stl10) -> None:
    (stl10.place(tmp_path, "folder") / "stl10_binary" / "unlabeled_X.bin").write_bytes(stl10.bytes["unlabeled_X.bin"])
    torchvision_data = tv.STL10(str(tmp_path), split="test")
    ours = sources.stl10(root=tmp_path, download=False)
    assert np.array_equal(ours.test_x.numpy(), torchvision_data.data) and ours.test_y.tolist() == torchvision_data.labels.tolist()


@pytest.mark.parametrize("cut", [200, 20_000, 300_000])
def test_a_truncated_archive_of_stl10_is_named(tmp_path: Path, stl10: Stl10, cut: int) -> None:
    archive = stl10.place(tmp_path, "archive itself")
    archive.write_bytes(stl10.archive[:cut])
    with pytest.raises(DataError, match="truncated or damaged") as error:
        sources.stl10(root=tmp_path, download=False)
    assert str(archive) in str(error.value) and "\n" not in str(error.value)


def test_an_archive_of_stl10_without_a_file_or_with_a_wrong_one_is_named(tmp_path: Path, stl10: Stl10) -> None:
    archive = stl10.place(tmp_path, "archive itself")
    archive.write_bytes(stl10.packed({name: data for name, data in stl10.bytes.items() if name != "train_y.bin"}))
    with pytest.raises(DataError, match=r"holds no train_y\.bin"):
        sources.stl10(root=tmp_path, download=False)
    archive.write_bytes(stl10.packed(stl10.bytes | {"train_y.bin": bytes(10)}))
    with pytest.raises(DataError) as error:
        sources.stl10(root=tmp_path, download=False)
    assert all(word in str(error.value) for word in ("stl10_binary/train_y.bin", md5(bytes(10)), md5(stl10.bytes["train_y.bin"])))
    archive.write_bytes(b"not an archive")
    with pytest.raises(DataError, match="truncated or damaged"):
        sources.stl10(root=tmp_path, download=False)
