"""What a run keeps of its test: the predicted class of every test image, once and in order, whatever the ranks and views."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bakeoff import builders
from bakeoff.config.compose import compose
from bakeoff.data.epoch_sampler import Shard
from bakeoff.errors import StoreError
from bakeoff.run_files import checkpoints
from bakeoff.run_files.journal import read_journal
from bakeoff.run_files.predictions import PREDICTIONS_FILE, read_predictions, write_predictions
from bakeoff.run_files.run_dir import RunDir
from bakeoff.training.callbacks.prediction_writing import interleave_shards
from bakeoff.training.processes import run_distributed
from bakeoff.training.run_lifecycle import create_run_dir
from bakeoff.training.run_training import train_from_dir

SMALL = ["model.width=0.05", "data.subset=320", "data.batch_size=32", "trainer.max_epochs=3", "trainer.threads=1", "test=true"]


def make_run_dir(tmp_path: Path, *overrides: str) -> RunDir:
    return create_run_dir(compose([*SMALL, f"tracking.folder={tmp_path}", f"tracking.uri=sqlite:///{tmp_path}/mlflow.db", *overrides]))


def expected_predictions(run_dir: RunDir) -> tuple[list[int], list[int]]:
    """Classes and targets of the test set in its own order, from the last checkpoint in this process alone."""
    run = compose([*SMALL])
    data, net = builders.make_data(run), builders.make_uninitialized_model(run)
    data.setup("fit")
    net.load_state_dict(checkpoints.read_model_weights(run_dir.checkpoints, name="last"))
    net.eval()
    with torch.no_grad():
        batches = [(net(images).argmax(1), targets) for images, targets in data.test_dataloader()]
    return torch.cat([p for p, _ in batches]).tolist(), torch.cat([t for _, t in batches]).tolist()


def test_a_run_keeps_the_predictions_of_its_last_weights(tmp_path: Path) -> None:
    # At this rate the best epoch is not the last one, so that the weights of the second test differ.
    run_dir = make_run_dir(tmp_path, "optimizer.lr=1.0", "trainer.divergence=null", "scheduler=constant", "data.eval_batch_size=100")
    result = train_from_dir(run_dir.path)
    assert result.best["step"] < result.steps
    predicted, target = read_predictions(run_dir.path / PREDICTIONS_FILE)
    assert predicted.dtype == target.dtype == np.uint8
    assert (predicted.tolist(), target.tolist()) == expected_predictions(run_dir)
    assert np.mean(predicted == target) == result.metrics["test/accuracy"]
    lines = list(read_journal(run_dir.journal))
    places = [i for i, line in enumerate(lines) if line["kind"] == "artifact" and line["path"] == PREDICTIONS_FILE]
    assert len(places) == 1 and lines[-1]["kind"] == "end"


@pytest.mark.parametrize("views", [["data.views.kind=ten_crop"], ["data.views.kind=dense", "data.views.flip=true"]])
def test_the_predictions_are_those_of_the_averaged_views(tmp_path: Path, views: list[str]) -> None:
    run_dir = make_run_dir(tmp_path, *views)
    result = train_from_dir(run_dir.path)
    predicted, target = read_predictions(run_dir.path / PREDICTIONS_FILE)
    assert np.mean(predicted == target) == result.metrics["test/accuracy"]


def test_a_run_without_a_test_keeps_none(tmp_path: Path) -> None:
    run_dir = make_run_dir(tmp_path, "test=false", "trainer.max_steps=2")
    train_from_dir(run_dir.path)
    assert not (run_dir.path / PREDICTIONS_FILE).exists()


@pytest.mark.parametrize(("images", "ranks"), [(11, 1), (11, 2), (11, 4), (3, 4)])
def test_uneven_shards_come_together_in_the_order_of_the_test_set(images: int, ranks: int) -> None:
    whole = np.stack([np.arange(images), np.arange(images) % 5]).astype(np.uint8)
    merged = interleave_shards([whole[:, Shard(rank, ranks).slice] for rank in range(ranks)])
    assert merged.dtype == np.uint8
    np.testing.assert_array_equal(merged, whole)


@pytest.mark.slow
def test_two_processes_keep_every_test_image_once_and_in_order(tmp_path: Path) -> None:
    run_dir = make_run_dir(tmp_path, "trainer=ddp", "trainer.devices=2", "data.eval_batch_size=64")
    assert run_distributed(run_dir.path) == 0
    predicted, target = read_predictions(run_dir.path / PREDICTIONS_FILE)
    assert len(target) % 2, "the ranks' shares differ in length"
    assert (predicted.tolist(), target.tolist()) == expected_predictions(run_dir)
    result = run_dir.read_result()
    assert result is not None and np.mean(predicted == target) == result["metrics"]["test/accuracy"]


def test_equal_predictions_are_equal_bytes_and_damaged_ones_are_told(tmp_path: Path) -> None:
    classes = np.arange(600, dtype=np.uint16)
    first, second = tmp_path / "first.npz", tmp_path / "second.npz"
    for path in (first, second):
        write_predictions(path, predicted=classes, target=classes[::-1])
    assert first.read_bytes() == second.read_bytes()
    np.testing.assert_array_equal(read_predictions(first)[1], classes[::-1])
    content = first.read_bytes()
    for damaged in (content[: len(content) // 2], b"", content[:200] + b"\0" * 40 + content[240:]):
        first.write_bytes(damaged)
        with pytest.raises(StoreError, match=r"first\.npz: the predictions are damaged"):
            read_predictions(first)
    np.savez(first, predicted=np.arange(3), target=np.arange(3))
    with pytest.raises(StoreError, match=r"first\.npz: .*found predicted int64\[3\] and target int64\[3\]"):
        read_predictions(first)
    np.savez(first, predicted=np.array([None]), target=np.array([None]))
    with pytest.raises(StoreError, match="damaged"):
        read_predictions(first)
