"""Image files in class folders: lists of names and labels, from which nothing is decoded."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from zipfile import BadZipFile

import torch
from torch import Tensor

from bakeoff.data.splits import every_fifth
from bakeoff.errors import DataError, join_choices, near_miss

Listing = tuple[tuple[Path, ...], Tensor, tuple[Path, ...], Tensor, tuple[str, ...]]
"""Train files and labels int64, test files and labels, in the order of classes and names; and the classes' names in their order."""


def folder(root: Path, *, test: str | None) -> Listing:
    """root/train/<class>/ with a folder of test images beside it, or root/<class>/ alone with every fifth file as a test image.

    test: the name of the folder of test images; None for `test` or `val`, whichever is there. Errors: DataError.
    """
    root = Path(root).expanduser()
    folders = directories(root)
    beside = [name for name in ((test,) if test is not None else ("test", "val")) if name in folders]
    if test is not None and ("train" not in folders or not beside):
        raise DataError(f"test={test}: root={root} has no folders train and {test}{near_miss(test, folders)}")
    if "train" in folders and len(beside) == 2:
        raise DataError(f"root={root}: has both test/ and val/: say which of them is the test set with test=test or val")
    if "train" in folders and beside:
        return two_parts(root / "train", root / beside[0])
    if folders == ["train"]:
        raise DataError(
            f"root={root}: has train/ but neither test/ nor val/ beside it: "
            f"add one, or set root={root / 'train'} to hold out every fifth image of each class"
        )
    by_class = class_files(root)
    few = [name for name, names in by_class.items() if len(names) < 5]
    if few:
        raise DataError(
            f"{root / few[0]}: has {len(by_class[few[0]])} images; every fifth image of a class is a test image, so it needs 5 or more"
        )
    paths, labels = flat(by_class, tuple(by_class))
    train, held = every_fifth(labels)
    return tuple(paths[i] for i in train.tolist()), labels[train], tuple(paths[i] for i in held.tolist()), labels[held], tuple(by_class)


def imagenet(root: Path) -> Listing:
    """root/train/<wnid>/ and root/val/<wnid>/ as torchvision unpacks the archives; classes are told by name where meta.bin is there.

    Errors: DataError.
    """
    root = Path(root).expanduser()
    place = next((at for at in (root, root / "imagenet") if (at / "train").is_dir() and (at / "val").is_dir()), None)
    if place is None:
        raise DataError(
            f"root={root}: holds no imagenet (looked for train/ and val/, there and in imagenet/): set root=FOLDER "
            "with both. Its licence lets nobody else fetch it: with ILSVRC2012's archives in FOLDER, "
            "torchvision.datasets.ImageNet(FOLDER, 'train') makes the first, and 'val' the second"
        )
    train, train_y, test, test_y, wnids = two_parts(place / "train", place / "val")
    meta = place / "meta.bin"
    return train, train_y, test, test_y, named(wnids, meta) if meta.is_file() else wnids


def named(wnids: tuple[str, ...], meta: Path) -> tuple[str, ...]:
    """'<wnid> <first name>' of each class. meta: torchvision's meta.bin, ({wnid: names}, wnids of val). Errors: DataError."""
    try:
        names = torch.load(meta, weights_only=True)[0]
        return tuple(f"{wnid} {names[wnid][0]}" for wnid in wnids)
    except OSError as error:
        raise DataError(f"{meta}: cannot be read ({error.strerror or error})") from error
    except KeyError as error:
        raise DataError(f"{meta}: knows no class {error}: delete it, and the classes keep their folders' names") from error
    except (RuntimeError, EOFError, TypeError, IndexError, ValueError, pickle.UnpicklingError, BadZipFile) as error:
        raise DataError(f"{meta}: not torchvision's meta.bin, or damaged: delete it, and the classes keep their folders' names") from error


def two_parts(train: Path, test: Path) -> Listing:
    """All of one folder for training and all of another as the test set, which may lack classes but has none of its own."""
    train_files, test_files = class_files(train), class_files(test)
    classes = tuple(train_files)
    foreign = [name for name in test_files if name not in train_files]
    if foreign:
        raise DataError(
            f"{test / foreign[0]}: is no class of {train}{near_miss(foreign[0], classes)}; "
            f"{len(foreign)} of the {len(test_files)} classes of {test} are not"
        )
    return *flat(train_files, classes), *flat(test_files, classes), classes


def flat(by_class: dict[str, list[str]], classes: tuple[str, ...]) -> tuple[tuple[Path, ...], Tensor]:
    """All files, and the number of each one's class among `classes`."""
    number = {name: i for i, name in enumerate(classes)}
    counts = torch.tensor([len(names) for names in by_class.values()])
    labels = torch.tensor([number[name] for name in by_class], dtype=torch.int64).repeat_interleave(counts)
    return tuple(Path(name) for names in by_class.values() for name in names), labels


def class_files(root: Path) -> dict[str, list[str]]:
    """The image files below each class folder of root, both sorted by name. Errors: DataError where there is none."""
    names = directories(root)
    if len(names) < 2:
        raise DataError(f"`root`: {root} has {len(names)} class folders, and needs 2 or more: one folder a class, with its images in it")
    files_by_class = {name: list(images(os.path.join(root, name))) for name in names}
    for name, held in files_by_class.items():
        if not held:
            raise DataError(f"{root / name}: has no image ({join_choices(endings())}): delete the folder, or put the class's images there")
    return files_by_class


def directories(root: Path) -> list[str]:
    """The folders in root by name, sorted; links to folders are followed, names that begin with a dot are left out."""
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "there is no such folder"
        raise DataError(f"root={root}: {what}; it should hold one folder a class, or train/ and test/ with one folder a class each")
    return [entry.name for entry in scan(str(root)) if entry.is_dir()]


def images(at: str) -> Iterator[str]:
    """The image files in a folder and its subfolders, sorted level by level; links to folders are not entered: they may go in a circle."""
    ends = endings()
    for entry in scan(at):
        if entry.is_dir(follow_symlinks=False):
            yield from images(entry.path)
        elif entry.name.lower().endswith(ends):
            if not entry.is_file():
                raise DataError(f"{entry.path}: not a file, nor a link to one that is there")
            yield entry.path


def scan(at: str) -> list[os.DirEntry[str]]:
    """What a folder holds, by name; names that begin with a dot are left out. Errors: DataError where it cannot be read."""
    try:
        with os.scandir(at) as entries:
            return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{at}: cannot be read ({error.strerror or error})") from error


def endings() -> tuple[str, ...]:
    """The endings, in lower case, of the image files that torchvision knows."""
    from torchvision.datasets.folder import IMG_EXTENSIONS

    return tuple(IMG_EXTENSIONS)
