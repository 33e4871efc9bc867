"""The published recipes on images in ImageNet's layout: training, validation, test in their views, and net D initialized from net A."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bakeoff.builders import validate_run
from bakeoff.config.compose import compose
from bakeoff.run_files.run_dir import RunDir
from bakeoff.training.run_lifecycle import create_run_dir
from bakeoff.training.run_training import RunResult, train_from_dir

WNIDS = ("n01440764", "n02012849", "n03126707")
TINY = [
    "model.width=0.05", "data.num_classes=3", "data.batch_size=4", "data.eval_batch_size=2", "data.val_fraction=0.2", "data.workers=0",
    "trainer.max_epochs=2", "trainer.max_steps=3", "trainer.threads=1", "trainer.accelerator=cpu", "trainer.log_every=1",
]  # fmt: skip
"""Overrides that make a recipe small enough for a test; all other values, such as image sizes, are those of the experiment."""


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/<wnid>/ with four images and val/<wnid>/ with one, of uneven sizes."""
    top, draw = tmp_path_factory.mktemp("imagenet"), np.random.default_rng(0)
    for part, count in (("train", 4), ("val", 1)):
        for wnid in WNIDS:
            (top / part / wnid).mkdir(parents=True)
            for i in range(count):
                pixels = draw.integers(0, 256, (9, 8, 3)).astype("uint8")
                Image.fromarray(pixels).resize((300 + 20 * i, 280)).save(top / part / wnid / f"{wnid}_{i}.JPEG")
    return top


def train(tmp_path: Path, imagenet: Path, *words: str) -> tuple[RunDir, RunResult]:
    store = [f"data.root={imagenet}", f"tracking.folder={tmp_path / 'runs'}", f"tracking.uri=sqlite:///{tmp_path / 'mlflow.db'}"]
    run = compose([*TINY, *store, *words])
    validate_run(run)
    folder = create_run_dir(run)
    return folder, train_from_dir(folder.path)


def check_result(result: RunResult) -> None:
    assert (result.status, result.steps, result.epochs) == ("finished", 3, 2), result.reason
    for name in ("train/epoch_loss", "val/loss", "test/loss"):
        assert 0 < result.metrics[name] < 50, name
    assert 0 <= result.metrics["test/accuracy"] <= 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["alexnet_2012_imagenet", "alexnet_caffe_imagenet"])
def test_alexnets_recipe_runs_on_imagenets_layout(name: str, tmp_path: Path, imagenet: Path) -> None:
    check_result(train(tmp_path, imagenet, f"experiment={name}")[1])


@pytest.mark.slow
def test_vggs_net_d_is_initialized_from_net_a_on_imagenets_layout(tmp_path: Path, imagenet: Path) -> None:
    # On pixels of 0..255 a narrow net's first losses are far above guessing, and an epoch here is two steps.
    early = ["optimizer.lr=1e-5", "trainer.divergence=null"]
    first, result = train(tmp_path, imagenet, "experiment=vgg11_imagenet", "initializer=xavier_normal", *early)
    assert (result.status, result.steps, result.epochs) == ("finished", 3, 2), result.reason
    start = ["initializer=from_run", f"initializer.run={first.path}"]
    folder, result = train(tmp_path, imagenet, "experiment=vgg16_imagenet", *start, *early)
    assert (result.status, result.steps, result.epochs) == ("finished", 3, 2), result.reason
    assert "initializer.copied" in folder.journal.read_text()


@pytest.mark.slow
def test_vggs_recipe_runs_with_the_papers_initialization(tmp_path: Path, imagenet: Path) -> None:
    check_result(train(tmp_path, imagenet, "experiment=vgg16_imagenet")[1])
