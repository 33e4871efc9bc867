"""Class folders: listed as torchvision lists them, nothing decoded or written, and every wrong layout named in one line."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path

import pytest
import torch
import torchvision.datasets as tv
from PIL import Image

from bakeoff.builders import make_data
from bakeoff.commands.main import main
from bakeoff.config import compose
from bakeoff.data import sources
from bakeoff.data.sources import ImageFiles
from bakeoff.data.splits import SplitSpec, split
from bakeoff.errors import DataError


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((5, 4), 60).convert("RGB").save(buffer, kind)
    return buffer.getvalue()


BYTES = {".png": encoded("png"), ".JPEG": encoded("jpeg")}


def fill(folder: Path, count: int, *, name: str = "image_{:02d}.png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        path = folder / name.format(i)
        path.write_bytes(BYTES[path.suffix])


@pytest.fixture
def two_parts(tmp_path: Path) -> Path:
    for part, counts in (("train", (6, 4, 5)), ("test", (2, 3, 1))):
        for kind, count in zip(("ant", "bee", "cow"), counts, strict=True):
            fill(tmp_path / part / kind, count)
    return tmp_path


@pytest.fixture
def one_level(tmp_path: Path) -> Path:
    for kind, count in (("ant", 12), ("bee", 5), ("train", 9)):  # a class may well be called train
        fill(tmp_path / kind, count)
    return tmp_path


def relative(paths: tuple[Path, ...], root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]


@pytest.mark.parametrize("test", ["test", "val"])
def test_train_and_test_folders_are_listed_as_torchvision_lists_them(two_parts: Path, test: str) -> None:
    (two_parts / "test").rename(two_parts / test)
    fill(two_parts / "train" / "bee" / "more", 2, name="IMG{:d}.JPEG")
    before = sorted(two_parts.rglob("*"))
    listing = sources.folder(root=two_parts, download=False)
    assert isinstance(listing, ImageFiles) and listing.classes == ("ant", "bee", "cow")
    for paths, labels, part in ((listing.train, listing.train_y, "train"), (listing.test, listing.test_y, test)):
        torchvision_data = tv.ImageFolder(str(two_parts / part))
        assert sorted(zip(map(str, paths), labels.tolist(), strict=True)) == sorted(torchvision_data.samples)
        assert labels.dtype == torch.int64
    assert sorted(two_parts.rglob("*")) == before


def test_of_class_folders_alone_every_fifth_file_is_a_test_image(one_level: Path) -> None:
    listing = sources.folder(root=one_level, download=False)
    test_names = ["ant/image_04.png", "ant/image_09.png", "bee/image_04.png", "train/image_04.png"]
    assert relative(listing.test, one_level) == test_names and listing.test_y.tolist() == [0, 0, 1, 2]
    assert sorted(relative(listing.train, one_level) + test_names) == sorted(
        p.relative_to(one_level).as_posix() for p in one_level.rglob("*.png")
    )
    assert [path.parent.name for path in listing.train] == [listing.classes[y] for y in listing.train_y.tolist()]


def test_hidden_and_other_files_are_left_alone(one_level: Path) -> None:
    before = sources.folder(root=one_level, download=False)
    (one_level / "README.txt").write_text("hello")
    (one_level / "ant" / "notes.txt").write_text("hello")
    (one_level / "ant" / "._image_00.png").write_bytes(b"of another system")
    fill(one_level / ".cache", 3)
    after = sources.folder(root=one_level, download=False)
    assert (after.train, after.test, after.classes) == (before.train, before.test, before.classes)


def test_links_to_class_folders_and_images_are_followed_and_circles_are_not(one_level: Path, tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere" / "dog", 6)
    root = tmp_path / "root"
    root.mkdir()
    (root / "dog").symlink_to(tmp_path / "elsewhere" / "dog")
    fill(root / "eel", 5)
    (root / "eel" / "zz.png").symlink_to(tmp_path / "elsewhere" / "dog" / "image_00.png")
    (root / "eel" / "again").symlink_to(root / "eel")
    listing = sources.folder(root=root, download=False)
    assert (torch.bincount(listing.train_y) + torch.bincount(listing.test_y)).tolist() == [6, 6]
    assert len(listing.digest()) == 64


def test_the_digest_follows_names_sizes_and_labels_and_not_the_location(two_parts: Path, tmp_path: Path) -> None:
    first = sources.folder(root=two_parts, download=False).digest()
    copy = tmp_path / "copied" / "deep"
    for part in ("train", "test"):
        shutil.copytree(two_parts / part, copy / part)
    assert sources.folder(root=copy, download=False).digest() == first
    image = copy / "train" / "ant" / "image_03.png"
    data = image.read_bytes()
    image.write_bytes(data + b"!")
    assert sources.folder(root=copy, download=False).digest() != first
    image.write_bytes(data)
    image.rename(image.with_name("other.png"))
    assert sources.folder(root=copy, download=False).digest() != first
    image.with_name("other.png").rename(copy / "train" / "bee" / "image_30.png")
    listing = sources.folder(root=copy, download=False)
    moved = ImageFiles(listing.train, listing.train_y.flip(0), listing.test, listing.test_y, listing.classes)
    assert moved.digest() != listing.digest()


def test_a_file_that_goes_away_is_named(two_parts: Path) -> None:
    listing = sources.folder(root=two_parts, download=False)
    (two_parts / "test" / "bee" / "image_01.png").unlink()
    with pytest.raises(DataError, match=r"image_01\.png: cannot be read \(No such file or directory\)"):
        listing.digest()


def error_message(root: Path, *, test: str | None = None) -> str:
    with pytest.raises(DataError) as error:
        sources.folder(root=root, download=False, test=test)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_root_that_is_no_folder_of_class_folders_is_an_error(tmp_path: Path) -> None:
    assert "nowhere: there is no such folder" in error_message(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    assert "file: is a file, not a folder" in error_message(tmp_path / "file")
    empty = tmp_path / "empty"
    fill(empty, 3)  # images without class folders
    assert "has 0 class folders, and needs 2 or more" in error_message(empty)
    fill(empty / "ant", 5)
    assert "has 1 class folders, and needs 2 or more" in error_message(empty)


def test_a_class_without_images_or_with_too_few_to_hold_one_out_is_named(one_level: Path) -> None:
    (one_level / "bee" / "image_00.png").unlink()
    assert f"{one_level / 'bee'}: has 4 images" in error_message(one_level)
    for image in (one_level / "bee").iterdir():
        image.unlink()
    (one_level / "bee" / "notes.txt").write_text("no image")
    assert f"{one_level / 'bee'}: has no image (.jpg, .jpeg, .png" in error_message(one_level)


def test_test_classes_must_be_train_classes_and_need_not_be_all_of_them(two_parts: Path) -> None:
    shutil.rmtree(two_parts / "test" / "bee")
    listing = sources.folder(root=two_parts, download=False)
    assert listing.classes == ("ant", "bee", "cow") and listing.test_y.tolist() == [0, 0, 2]
    fill(two_parts / "test" / "cows", 1)
    message = error_message(two_parts)
    assert f"{two_parts / 'test' / 'cows'}: is no class of {two_parts / 'train'} (did you mean cow?)" in message


def test_the_test_folder_is_chosen_by_name_where_there_are_two(two_parts: Path) -> None:
    for kind in ("ant", "bee"):
        fill(two_parts / "val" / kind, 4)
        fill(two_parts / "hard" / kind, 3)
    assert "has both test/ and val/" in error_message(two_parts)
    sizes = {name: len(sources.folder(root=two_parts, download=False, test=name).test) for name in ("test", "val", "hard")}
    assert sizes == {"test": 6, "val": 8, "hard": 6}
    assert "has no folders train and hrad (did you mean hard?)" in error_message(two_parts, test="hrad")


def test_train_alone_says_how_to_use_it(two_parts: Path) -> None:
    shutil.rmtree(two_parts / "test")
    assert f"set root={two_parts / 'train'}" in error_message(two_parts)
    fill(two_parts / "train" / "bee", 5)
    assert len(sources.folder(root=two_parts / "train", download=False).test) == 3


def test_an_image_name_that_is_no_file_is_named(one_level: Path) -> None:
    (one_level / "ant" / "gone.png").symlink_to(one_level / "nowhere.png")
    assert f"{one_level / 'ant' / 'gone.png'}: not a file, nor a link to one that is there" in error_message(one_level)
    (one_level / "ant" / "gone.png").unlink()
    os.mkfifo(one_level / "ant" / "pipe.jpg")
    assert "pipe.jpg: not a file" in error_message(one_level)


def test_a_folder_that_cannot_be_read_is_named(one_level: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refuse(at: str) -> object:
        if str(at).endswith("bee"):
            raise PermissionError(13, "Permission denied")
        return scandir(at)

    monkeypatch.setattr(os, "scandir", refuse)
    assert error_message(one_level) == f"{one_level / 'bee'}: cannot be read (Permission denied)"


def test_files_are_split_by_folds_and_subsets_like_images(one_level: Path) -> None:
    listing = sources.folder(root=one_level, download=False)
    union: list[int] = []
    for fold in range(3):
        train, val = split(listing.train_y, SplitSpec(val_fraction=0.1, seed=0, subset=15, folds=3, fold=fold))
        assert len(train) + len(val) == 15
        union += val.tolist()
    assert len(set(union)) == 15
    assert torch.bincount(listing.train_y[union]).tolist() == [7, 3, 5]


def test_a_config_names_the_folder(two_parts: Path) -> None:
    run = compose.compose(["data=folder", f"data.root={two_parts}", "data.source.test=test"])
    assert make_data(run).source().classes == ("ant", "bee", "cow")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "data.num_classes=10: folder has 3 in data.root={root}: set data.num_classes=3"),
        (["data.num_classes=3", "data.source.test=tset"], "data.source.test=tset: data.root={root} has no folders train and tset"),
        (
            ["data.num_classes=3", "data.batch_size=4", "data.folds=3", "data.fold=3"],
            "data.fold=3: must be at least 0 and below",
        ),
        (["data.source.tset=val"], "data.source.tset"),
    ],
)
def test_what_does_not_fit_a_folder_is_one_line_and_leaves_nothing(
    overrides: list[str], message: str, two_parts: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cwd = two_parts / "cwd"
    cwd.mkdir()
    monkeypatch.chdir(cwd)
    assert main(["train", "data=folder", f"data.root={two_parts}", "data.size=32", *overrides]) == 2
    err = capsys.readouterr().err
    assert message.format(root=two_parts) in err and err.count("\n") == 1, err
    assert list(cwd.iterdir()) == []
