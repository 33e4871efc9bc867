"""A run that is killed and taken up again ends with the same bits as one that nobody disturbed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bakeoff.config.compose import compose
from bakeoff.run_files import checkpoints
from bakeoff.run_files.run_dir import RunDir
from bakeoff.training.run_lifecycle import create_run_dir
from bakeoff.training.run_training import train_from_dir

SMALL = ["model.width=0.05", "data.subset=320", "data.batch_size=32", "trainer.max_epochs=3", "trainer.threads=1", "trainer.log_every=3"]
TrainUntil = Callable[[RunDir, int], None]
CompareRuns = Callable[[RunDir, RunDir], None]
TRAIN = "import sys; from pathlib import Path; from bakeoff.training.run_training import train_from_dir; train_from_dir(Path(sys.argv[1]))"


def make_run_dir(tmp_path: Path, name: str, *overrides: str) -> RunDir:
    return create_run_dir(
        compose([*SMALL, f"tracking.folder={tmp_path / name}", f"tracking.uri=sqlite:///{tmp_path / 'mlflow.db'}", *overrides])
    )


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
def test_a_stopped_run_goes_on_with_the_same_bits(
    tmp_path: Path, train_until: TrainUntil, assert_same_bits: CompareRuns, stop: int, overrides: list[str]
) -> None:
    uninterrupted, resumed = make_run_dir(tmp_path, "uninterrupted", *overrides), make_run_dir(tmp_path, "resumed", *overrides)
    expected = train_from_dir(uninterrupted.path)
    train_until(resumed, stop)
    result = train_from_dir(resumed.path)
    assert_same_bits(uninterrupted, resumed)
    assert result.metrics == expected.metrics
    assert result.best == expected.best


def test_a_run_gives_a_sign_of_life_after_its_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir = make_run_dir(tmp_path, "runs", "trainer.max_steps=4", "test=true")
    beats = list[Path]()
    monkeypatch.setattr(RunDir, "beat", lambda self: beats.append(self.path))
    monkeypatch.setattr("bakeoff.training.callbacks.heartbeat.INTERVAL", 0.0)
    train_from_dir(run_dir.path)
    assert len(beats) >= 4 + 1 + 1 and set(beats) == {run_dir.path}


def test_the_seconds_of_a_resumed_run_are_those_of_all_its_processes(tmp_path: Path, train_until: TrainUntil) -> None:
    resumed = make_run_dir(tmp_path, "resumed", "trainer.checkpoint_every=1")
    train_until(resumed, 5)
    state = checkpoints.read_latest_checkpoint(resumed.checkpoints)
    assert state is not None and 0 < state["seconds"] < 60
    state["seconds"] = 1000.0
    checkpoints.save_checkpoint(resumed.checkpoints, state)
    train_until(resumed, 9)
    assert 1000 < train_from_dir(resumed.path).seconds < 1060


@pytest.mark.slow
def test_a_killed_process_goes_on_with_the_same_bits(tmp_path: Path, assert_same_bits: CompareRuns) -> None:
    options = ["trainer.checkpoint_every=1", "trainer.max_epochs=6", "model.width=0.1"]
    uninterrupted, resumed = make_run_dir(tmp_path, "uninterrupted", *options), make_run_dir(tmp_path, "resumed", *options)
    train_from_dir(uninterrupted.path)
    for kills in range(3):
        process = subprocess.Popen([sys.executable, "-c", TRAIN, str(resumed.path)], env={**os.environ, "OMP_NUM_THREADS": "1"})
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            state = checkpoints.read_latest_checkpoint(resumed.checkpoints)
            if state is not None and state["step"] >= 10 * (kills + 1):
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    train_from_dir(resumed.path)
    assert_same_bits(uninterrupted, resumed)


def test_a_run_that_is_done_is_not_trained_again(tmp_path: Path) -> None:
    run_dir = make_run_dir(tmp_path, "runs", "trainer.max_steps=2")
    first = train_from_dir(run_dir.path)
    size = run_dir.journal.stat().st_size
    assert train_from_dir(run_dir.path) == first
    assert run_dir.journal.stat().st_size == size
