"""Image files in class folders: lists of names and labels, from which nothing is decoded."""

from __future__ import annotations

import dataclasses
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from zipfile import BadZipFile

import torch
from torch import Tensor

from bakeoff.data.sources.base import ImageFiles
from bakeoff.data.sources.dataset_files import unreadable
from bakeoff.data.splits import fixed_test_split
from bakeoff.errors import DataError, join_choices, near_miss


def folder(*, root: Path, download: bool, test: str | None = None) -> ImageFiles:
    """List the image files in class folders of one's own; `download` has nothing to fetch.

    Files: root/train/<class>/ and root/<test>/<class>/, by default with the name `test` or `val`, whichever is there; or root/<class>/
    alone, and then every fifth file of each class, in the order of names, is a test image.
    """
    root = Path(root).expanduser()
    subfolders = list_folders(root)
    test_folders = [name for name in ((test,) if test is not None else ("test", "val")) if name in subfolders]
    if test is not None and ("train" not in subfolders or not test_folders):
        raise DataError(f"test={test}: root={root} has no folders train and {test}{near_miss(test, subfolders)}")
    if "train" in subfolders and len(test_folders) == 2:
        raise DataError(f"root={root}: has both test/ and val/: say which of them is the test set with test=test or val")
    if "train" in subfolders and test_folders:
        return list_train_and_test(root / "train", root / test_folders[0])
    if subfolders == ["train"]:
        raise DataError(
            f"root={root}: has train/ but neither test/ nor val/ beside it: "
            f"add one, or set root={root / 'train'} to hold out every fifth image of each class"
        )
    files_by_class = list_class_files(root)
    for name, files in files_by_class.items():
        if len(files) < 5:
            rule = "every fifth image of a class is a test image, so it needs 5 or more"
            raise DataError(f"{root / name}: has {len(files)} images; {rule}")
    classes = tuple(files_by_class)
    paths, labels = label_files(files_by_class, classes)
    train, held_out = fixed_test_split(labels)
    train_paths, test_paths = (tuple(paths[i] for i in indices.tolist()) for indices in (train, held_out))
    return ImageFiles(train_paths, labels[train], test_paths, labels[held_out], classes)


def imagenet(*, root: Path, download: bool) -> ImageFiles:
    """List ImageNet-1k (ILSVRC 2012): 1,281,167 + 50,000 colour images in 1,000 classes, the authors' validation part as the test set.

    Files: train/<wnid>/ and val/<wnid>/ as torchvision's ImageNet unpacks them, in root or root/imagenet; meta.bin beside them gives
    the classes their names. `download` has nothing to fetch: the licence forbids it. Source: O. Russakovsky et al., arXiv:1409.0575.
    """
    root = Path(root).expanduser()
    top = next((path for path in (root, root / "imagenet") if (path / "train").is_dir() and (path / "val").is_dir()), None)
    if top is None:
        raise DataError(
            f"root={root}: holds no imagenet (looked for train/ and val/, there and in imagenet/): set root=FOLDER "
            "with both. Its licence lets nobody else fetch it: with ILSVRC2012's archives in FOLDER, "
            "torchvision.datasets.ImageNet(FOLDER, 'train') makes the first, and 'val' the second"
        )
    files = list_train_and_test(top / "train", top / "val")
    meta = top / "meta.bin"
    return dataclasses.replace(files, classes=class_names(files.classes, meta)) if meta.is_file() else files


def class_names(wnids: tuple[str, ...], meta: Path) -> tuple[str, ...]:
    """Return '<wnid> <first name>' of each class, from torchvision's meta.bin: ({wnid: names}, wnids of val)."""
    try:
        names = torch.load(meta, weights_only=True)[0]
        return tuple(f"{wnid} {names[wnid][0]}" for wnid in wnids)
    except OSError as error:
        raise unreadable(meta, error) from error
    except KeyError as error:
        raise DataError(f"{meta}: knows no class {error}: delete it, and the classes keep their folders' names") from error
    except (RuntimeError, EOFError, TypeError, IndexError, ValueError, pickle.UnpicklingError, BadZipFile) as error:
        raise DataError(f"{meta}: not torchvision's meta.bin, or damaged: delete it, and the classes keep their folders' names") from error


def list_train_and_test(train: Path, test: Path) -> ImageFiles:
    """List one folder as training images and another as test images, which may lack classes but have none of their own."""
    train_files, test_files = list_class_files(train), list_class_files(test)
    classes = tuple(train_files)
    unknown = [name for name in test_files if name not in train_files]
    if unknown:
        count = f"{len(unknown)} of the {len(test_files)} classes of {test} are not"
        raise DataError(f"{test / unknown[0]}: is no class of {train}{near_miss(unknown[0], classes)}; {count}")
    return ImageFiles(*label_files(train_files, classes), *label_files(test_files, classes), classes)


def label_files(files_by_class: dict[str, list[str]], classes: tuple[str, ...]) -> tuple[tuple[Path, ...], Tensor]:
    """Return all files, and the position int64[N] of each one's class among `classes`."""
    counts = torch.tensor([len(files) for files in files_by_class.values()])
    labels = torch.tensor([classes.index(name) for name in files_by_class], dtype=torch.int64).repeat_interleave(counts)
    return tuple(Path(file) for files in files_by_class.values() for file in files), labels


def list_class_files(root: Path) -> dict[str, list[str]]:
    """Return class -> its image files, both sorted by name: two classes or more, and one image of each or more."""
    names = list_folders(root)
    if len(names) < 2:
        raise DataError(f"`root`: {root} has {len(names)} class folders, and needs 2 or more: one folder a class, with its images in it")
    files_by_class = {name: list(find_images(os.path.join(root, name))) for name in names}
    for name, files in files_by_class.items():
        if not files:
            endings = join_choices(image_endings())
            raise DataError(f"{root / name}: has no image ({endings}): delete the folder, or put the class's images there")
    return files_by_class


def list_folders(root: Path) -> list[str]:
    """Return the folders in root, sorted by name; links to folders are followed, names that begin with a dot are left out."""
    if not root.is_dir():
        reason = "is a file, not a folder" if root.exists() else "there is no such folder"
        raise DataError(f"root={root}: {reason}; it should hold one folder a class, or train/ and test/ with one folder a class each")
    return [entry.name for entry in scan(str(root)) if entry.is_dir()]


def find_images(folder: str) -> Iterator[str]:
    """Yield the image files in a folder and its subfolders, sorted level by level; links to folders (maybe circular) are skipped."""
    endings = image_endings()
    for entry in scan(folder):
        if entry.is_dir(follow_symlinks=False):
            yield from find_images(entry.path)
        elif entry.name.lower().endswith(endings):
            if not entry.is_file():
                raise DataError(f"{entry.path}: not a file, nor a link to one that is there")
            yield entry.path


def scan(folder: str) -> list[os.DirEntry[str]]:
    """Return the entries of a folder, sorted by name; names that begin with a dot are left out."""
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise unreadable(folder, error) from error


def image_endings() -> tuple[str, ...]:
    """Return the endings, in lower case, of the image files that torchvision knows."""
    from torchvision.datasets.folder import IMG_EXTENSIONS

    return tuple(IMG_EXTENSIONS)
