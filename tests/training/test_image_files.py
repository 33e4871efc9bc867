"""A run on image files, whole: trained by workers, stopped and taken up with the same bits, tested in views, failed by a damaged file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bakeoff.builders import validate_run
from bakeoff.config.compose import compose
from bakeoff.errors import ChoiceError, DataError
from bakeoff.run_files.run_dir import RunDir
from bakeoff.training.run_lifecycle import create_run_dir
from bakeoff.training.run_training import train_from_dir

SMALL = [
    "data=folder",
    "data.num_classes=2",
    "data.size=32",
    "data.augment.scale=[34,40]",
    "data.augment.lighting=0.1",
    "data.batch_size=8",
    "data.eval_batch_size=6",
    "data.val_fraction=0.2",
    "model=alexnet_mini",
    "model.width=0.05",
    "trainer.max_epochs=3",
    "trainer.threads=1",
    "trainer.log_every=1",
    "trainer.checkpoint_every=1",
    "test=true",
]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes, of dark and of bright JPEGs in sizes of their own: 40 to train and validate on, 12 to test."""
    top, draw = tmp_path_factory.mktemp("folder"), np.random.default_rng(0)
    for part, count in (("train", 20), ("test", 6)):
        for base, name in enumerate(("dark", "bright")):
            (top / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = draw.integers(0, 130, (6, 8, 3)) + 120 * base
                image = Image.fromarray(pixels.astype("uint8")).resize((48 + i % 5, 40 + i % 3))
                image.save(top / part / name / f"{i:02}.jpg")
    return top


def make_run_dir(tmp_path: Path, pictures: Path, name: str, *overrides: str) -> RunDir:
    store = [f"tracking.folder={tmp_path / name}", f"tracking.uri=sqlite:///{tmp_path / 'mlflow.db'}"]
    run = compose([*SMALL, f"data.root={pictures}", *store, *overrides])
    validate_run(run)
    return create_run_dir(run)


def test_a_run_on_files_learns_and_is_tested_densely(tmp_path: Path, pictures: Path) -> None:
    run_dir = make_run_dir(
        tmp_path, pictures, "runs", "data.workers=0", "data.views.kind=dense", "data.views.flip=true", "data.views.scales=[32,44]"
    )
    result = train_from_dir(run_dir.path)
    assert (result.status, result.steps, result.epochs) == ("finished", 12, 3)
    assert result.metrics["val/accuracy"] == result.metrics["test/accuracy"] == 1.0
    assert result.metrics["test/loss"] < 0.5
    assert "test/top5_accuracy" not in result.metrics


def test_a_stopped_run_goes_on_with_the_same_bits_and_other_workers(
    tmp_path: Path, pictures: Path, train_until: Callable[[RunDir, int], None], assert_same_bits: Callable[[RunDir, RunDir], None]
) -> None:
    uninterrupted = make_run_dir(tmp_path, pictures, "uninterrupted", "data.workers=0", "data.views.kind=ten_crop")
    resumed = make_run_dir(tmp_path, pictures, "resumed", "data.workers=2", "data.views.kind=ten_crop")
    expected = train_from_dir(uninterrupted.path)
    train_until(resumed, 6)
    assert train_from_dir(resumed.path).metrics == expected.metrics
    assert_same_bits(uninterrupted, resumed)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_file_ends_the_run_and_is_its_reason(tmp_path: Path, pictures: Path, workers: int) -> None:
    run_dir = make_run_dir(tmp_path, pictures, f"runs{workers}", f"data.workers={workers}")
    torn = pictures / "train" / "dark" / "07.jpg"
    good = torn.read_bytes()
    try:
        torn.write_bytes(good[:20] + b"?" * (len(good) - 20))  # of the same length, so that the list of files is the same
        with pytest.raises(DataError) as error:
            train_from_dir(run_dir.path)
    finally:
        torn.write_bytes(good)
    result = run_dir.read_result()
    assert result is not None and result["status"] == "failed"
    assert str(torn) in result["reason"] and "cannot be decoded as an image" in result["reason"]
    assert str(error.value) == result["reason"] and "\n" not in result["reason"]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.augment.crop=4", r"data\.augment\.crop=4: is for images in memory; image files .* data\.augment\.scale"),
        ("data.fit=pad", r"data\.fit=pad: is for images in memory"),
        ("data.augment.scale=[20]", r"data\.augment\.scale=\[20\]: .*data\.size=32"),
    ],
)
def test_what_is_for_images_in_memory_is_refused(tmp_path: Path, pictures: Path, override: str, words: str) -> None:
    with pytest.raises(ChoiceError, match=words):
        make_run_dir(tmp_path, pictures, "runs", override)
    with pytest.raises(ChoiceError, match=r"data\.augment\.scale=\[40\]: is for image files"):
        validate_run(compose(["data.augment.scale=[40]"]))
