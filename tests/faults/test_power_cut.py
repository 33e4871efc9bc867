"""A power cut takes what no fsync has flushed: the journal is never behind a checkpoint, and the store catches up with what is left."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bakeoff.run_files import checkpoints
from bakeoff.run_files.journal import Journal, read_journal
from bakeoff.run_files.run_dir import RunDir
from bakeoff.tracking import store
from bakeoff.tracking.replay import is_behind, replay_run

OVERRIDES = ["data=digits", "data.subset=400", "data.batch_size=16", "model.width=0.125", "trainer.max_epochs=2", "trainer.accelerator=cpu"]


class PowerCutError(BaseException):
    """The machine is off."""


def test_no_value_before_the_checkpoint_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bakeoff.config.compose import compose
    from bakeoff.training.lightning_module import ClassificationModule
    from bakeoff.training.run_lifecycle import create_run_dir
    from bakeoff.training.run_training import train_from_dir

    monkeypatch.chdir(tmp_path)
    run = compose([*OVERRIDES, "trainer.checkpoint_every=5", "trainer.log_every=1"])
    folder, whole = create_run_dir(run), create_run_dir(run)
    train_from_dir(whole.path)
    synced: dict[str, int] = {}
    fsync, training_step = os.fsync, ClassificationModule.training_step

    def recorded_fsync(descriptor: int) -> None:
        fsync(descriptor)
        synced[os.path.realpath(f"/proc/self/fd/{descriptor}")] = os.fstat(descriptor).st_size

    def cut_step(self: ClassificationModule, *arguments: object) -> object:
        if self.step == 28:
            raise PowerCutError
        return training_step(self, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", recorded_fsync)
        patch.setattr(ClassificationModule, "training_step", cut_step)
        # The dying process says nothing more: a machine without power writes no end and closes no file.
        patch.setattr(Journal, "end", lambda *_, **__: None)
        patch.setattr(Journal, "close", lambda *_: None)
        with pytest.raises(PowerCutError):
            train_from_dir(folder.path)
        kept = synced[str(folder.journal.resolve())]
    assert kept < folder.journal.stat().st_size, "everything had been flushed"
    os.truncate(folder.journal, kept)
    state = checkpoints.read_latest_checkpoint(folder.checkpoints)
    assert state is not None and state["step"] >= 20
    train_from_dir(folder.path)

    def losses(which: RunDir) -> dict[int, float]:
        lines = [line for line in read_journal(which.journal) if line["kind"] == "metrics"]
        return {line["step"]: line["values"]["train/loss"] for line in lines if "train/loss" in line["values"]}

    assert len(losses(whole)) > 30 and losses(folder) == losses(whole)


def test_shorter_journal_is_replayed_again(written: Callable[..., RunDir], uri: str) -> None:
    folder = written(steps=50, end=False)
    size = folder.journal.stat().st_size
    with Journal(folder.journal) as journal:
        for step in range(50, 60):
            journal.metrics({"train/loss": 1 / (step + 1)}, step=step)
    run = replay_run(folder, uri=uri).mlflow_id
    os.truncate(folder.journal, size - 300)
    assert is_behind(folder, uri=uri)
    # The resumed run logs the lost steps again, and goes on until its journal is longer than it was.
    with Journal(folder.journal) as journal:
        for step in range(40, 100):
            journal.metrics({"train/loss": 1 / (step + 1), "val/loss": 2.0}, step=step)
        journal.end("FINISHED")
    assert is_behind(folder, uri=uri) and replay_run(folder, uri=uri).status == "FINISHED" and not is_behind(folder, uri=uri)
    assert [(step, value) for step, value, _ in store.metric_history(uri, run, "train/loss")] == [(s, 1 / (s + 1)) for s in range(100)]
    assert len(store.metric_history(uri, run, "val/loss")) == 60
