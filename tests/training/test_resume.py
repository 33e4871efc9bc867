"""A run that is killed and taken up again ends with the same bits as one that nobody disturbed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from bakeoff.config.compose import compose
from bakeoff.runs.run_dir import RunDir
from bakeoff.training import checkpoints
from bakeoff.training.reproduction import compare_metrics, journal_metrics
from bakeoff.training.run_lifecycle import create_run_dir
from bakeoff.training.run_training import train_from_dir

SMALL = ["model.width=0.05", "data.subset=320", "data.batch_size=32", "trainer.max_epochs=3", "trainer.threads=1", "trainer.log_every=3"]
TRAIN = "import sys; from pathlib import Path; from bakeoff.training.run_training import train_from_dir; train_from_dir(Path(sys.argv[1]))"


def folder(tmp_path: Path, name: str, *overrides: str) -> RunDir:
    return create_run_dir(
        compose([*SMALL, f"tracking.folder={tmp_path / name}", f"tracking.uri=sqlite:///{tmp_path / 'mlflow.db'}", *overrides])
    )


def same(a: RunDir, b: RunDir) -> None:
    left, right = checkpoints.read_latest_checkpoint(a.checkpoints), checkpoints.read_latest_checkpoint(b.checkpoints)
    assert left is not None and right is not None
    for name, tensor in left["net"].items():
        assert torch.equal(tensor, right["net"][name]), name
    for slot, entry in left["optimizer"]["state"].items():
        for name, value in entry.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(right["optimizer"]["state"][slot][name])), name
    verdict = compare_metrics(journal_metrics(a.journal), journal_metrics(b.journal))
    assert verdict.kind == "identical", verdict
    assert verdict.compared > 30


class Died(BaseException):
    """Stands in for a process that is gone."""


@pytest.mark.parametrize(
    ("stop", "overrides"),
    [
        (1, ["trainer.checkpoint_every=1"]),
        (5, ["trainer.checkpoint_every=2", "trainer.accumulate=2"]),
        (9, ["trainer.checkpoint_every=1", "model=vgg11_bn", "optimizer=adam"]),
        (13, ["scheduler=plateau", "optimizer=rmsprop"]),
        (18, ["scheduler=step", "trainer.max_steps=21"]),
    ],
)
def test_a_stopped_run_goes_on_with_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int, overrides: list[str]) -> None:
    whole, broken = folder(tmp_path, "whole", *overrides), folder(tmp_path, "broken", *overrides)
    expected = train_from_dir(whole.path)
    from bakeoff.training.lightning_module import ClassificationModule

    forward = ClassificationModule.training_step

    def dies(self: ClassificationModule, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        if self.step == stop:
            raise Died
        return forward(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(ClassificationModule, "training_step", dies)
        with pytest.raises(Died):
            train_from_dir(broken.path)
    assert broken.read_result() is None
    result = train_from_dir(broken.path)
    same(whole, broken)
    assert result.metrics == expected.metrics
    assert result.best == expected.best


@pytest.mark.slow
def test_a_killed_process_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    options = ["trainer.checkpoint_every=1", "trainer.max_epochs=6", "model.width=0.1"]
    whole, broken = folder(tmp_path, "whole", *options), folder(tmp_path, "broken", *options)
    train_from_dir(whole.path)
    for kills in range(3):
        process = subprocess.Popen([sys.executable, "-c", TRAIN, str(broken.path)], env={**os.environ, "OMP_NUM_THREADS": "1"})
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            state = checkpoints.read_latest_checkpoint(broken.checkpoints)
            if state is not None and state["step"] >= 10 * (kills + 1):
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    train_from_dir(broken.path)
    same(whole, broken)


def test_a_run_that_is_done_is_not_trained_again(tmp_path: Path) -> None:
    place = folder(tmp_path, "runs", "trainer.max_steps=2")
    first = train_from_dir(place.path)
    size = place.journal.stat().st_size
    assert train_from_dir(place.path) == first
    assert place.journal.stat().st_size == size
