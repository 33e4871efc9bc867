"""ImageNet as torchvision unpacks it: listed alike, classes named from meta.bin, which is read without running anything in it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
import torchvision.datasets as tv

from bakeoff.data import sources
from bakeoff.errors import DataError


def fill(folder: Path, count: int, *, name: str) -> None:
    """Files of the right names; a list of them never looks inside."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        (folder / name.format(i)).write_bytes(b"JPEG" * (i + 1))


NAMES = {"n01440764": ("tench", "Tinca tinca"), "n02012849": ("crane",), "n03126707": ("crane",)}


@pytest.fixture
def imagenet(tmp_path: Path) -> Path:
    for wnid in NAMES:
        fill(tmp_path / "train" / wnid, 6, name=wnid + "_{:d}.JPEG")
    for i, wnid in enumerate(NAMES):
        fill(tmp_path / "val" / wnid, 2, name=f"ILSVRC2012_val_{i}" + "{:07d}.JPEG")
    torch.save((NAMES, ["n02012849", "n01440764"]), tmp_path / "meta.bin")
    return tmp_path


@pytest.mark.parametrize("inside", [".", "imagenet"])
def test_imagenet_is_listed_as_torchvision_lists_it(imagenet: Path, inside: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("data")
    shutil.copytree(imagenet, root / inside, dirs_exist_ok=True)
    listing = sources.imagenet(root=root, download=False)
    for paths, labels, part in ((listing.train, listing.train_y, "train"), (listing.test, listing.test_y, "val")):
        assert list(zip(map(str, paths), labels.tolist(), strict=True)) == tv.ImageNet(str(root / inside), split=part).samples
    assert listing.classes == ("n01440764 tench", "n02012849 crane", "n03126707 crane")


def test_imagenets_classes_keep_their_folders_names_without_meta(imagenet: Path) -> None:
    named = sources.imagenet(root=imagenet, download=False).digest()
    (imagenet / "meta.bin").unlink()
    listing = sources.imagenet(root=imagenet, download=False)
    assert listing.classes == tuple(NAMES) and listing.digest() == named


class Planted:
    """Writes a file where it is unpickled."""

    def __init__(self, place: str) -> None:
        self.place = place

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.place,)


def test_a_meta_file_that_is_not_torchvisions_is_named_and_runs_nothing(imagenet: Path) -> None:
    meta = imagenet / "meta.bin"
    intact = meta.read_bytes()
    for content in (b"", b"nonsense", intact[: len(intact) // 2]):
        meta.write_bytes(content)
        with pytest.raises(DataError, match=r"meta\.bin: not torchvision's meta\.bin, or damaged"):
            sources.imagenet(root=imagenet, download=False)
    wrong_contents: list[object] = [3, ([],), ({wnid: () for wnid in NAMES}, []), Planted(str(imagenet / "planted"))]
    for wrong_content in wrong_contents:
        torch.save(wrong_content, meta)
        with pytest.raises(DataError, match=r"meta\.bin: not torchvision's meta\.bin, or damaged"):
            sources.imagenet(root=imagenet, download=False)
    assert not (imagenet / "planted").exists()
    torch.save(({"n01440764": ("tench",)}, []), meta)
    with pytest.raises(DataError, match=r"meta\.bin: knows no class 'n02012849'"):
        sources.imagenet(root=imagenet, download=False)


def test_imagenet_that_is_not_there_or_not_sorted_says_how_to_get_it(imagenet: Path) -> None:
    with pytest.raises(DataError, match=r"^root=.*: holds no imagenet .*torchvision\.datasets\.ImageNet"):
        sources.imagenet(root=imagenet / "nowhere", download=True)
    shutil.rmtree(imagenet / "val")
    fill(imagenet / "val", 3, name="ILSVRC2012_val_{:08d}.JPEG")
    with pytest.raises(DataError, match=r"^`root`: .*/val has 0 class folders, and needs 2 or more"):
        sources.imagenet(root=imagenet, download=False)
