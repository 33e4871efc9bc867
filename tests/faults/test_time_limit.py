"""`trainer.max_time` ends a run cleanly, with its scores and the reason, and counts what earlier processes of the run have trained."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

import bakeoff
from bakeoff.commands.main import main
from bakeoff.config.compose import compose
from bakeoff.config.schema import fingerprint
from bakeoff.run_files.journal import read_journal
from bakeoff.run_files.run_dir import RunDir
from bakeoff.training.run_lifecycle import create_run_dir
from bakeoff.training.run_training import train_from_dir

TINY = ["model.width=0.05", "data.subset=320", "data.batch_size=32", "trainer.threads=1", "trainer.accelerator=cpu"]
ENDLESS = [*TINY, "trainer.max_epochs=100000", "trainer.checkpoint_every=5"]


def check_end(folder: RunDir, *, limit: str) -> None:
    """The run has come to its end by the limit, with all that a whole run has."""
    result = folder.read_result()
    assert result is not None and result["status"] == "finished" and result["seconds"] >= int(limit[-2:])
    assert result["reason"] == f"trainer.max_time={limit} ended it at step {result['steps']} of 900000"
    assert {"val/loss", "val/accuracy", "train/loss"} <= set(result["metrics"]) and result["best"]
    last = list(read_journal(folder.journal))[-1]
    assert (last["kind"], last["status"], last["reason"]) == ("end", "FINISHED", result["reason"])


def test_a_run_ends_at_its_time(work_folder: Path) -> None:
    folder = create_run_dir(compose([*ENDLESS, "trainer.max_time=00:00:00:02", "test=true"]))
    start = time.monotonic()
    result = train_from_dir(folder.path)
    assert time.monotonic() - start < 20 and "test/accuracy" in result.metrics
    check_end(folder, limit="00:00:00:02")
    before = folder.journal.read_bytes()
    assert train_from_dir(folder.path).steps == result.steps and folder.journal.read_bytes() == before


def test_the_time_of_earlier_processes_counts(work_folder: Path) -> None:
    run = compose([*ENDLESS, "trainer.max_time=00:00:00:04", f"tracking.uri=sqlite:///{work_folder}/mlflow.db"])

    def stop() -> None:
        while not list(Path("runs").glob("*/*/checkpoints/last.ckpt")):
            time.sleep(0.05)
        time.sleep(2)
        os.kill(os.getpid(), signal.SIGINT)

    stopper = threading.Thread(target=stop)
    stopper.start()
    with pytest.raises(KeyboardInterrupt):
        bakeoff.train(run)
    stopper.join()
    (folder,) = map(RunDir, Path("runs").glob("*/*"))
    assert train_from_dir(folder.path).seconds < 5.5, "the first two seconds count"
    check_end(folder, limit="00:00:00:04")


def test_a_limit_that_is_used_up_trains_no_step(work_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a run is killed between its last checkpoint and its result."""
    folder = create_run_dir(compose([*ENDLESS, "trainer.max_time=00:00:00:02"]))
    with monkeypatch.context() as patch:
        patch.setattr(RunDir, "write_result", lambda *_: None)
        train_from_dir(folder.path)
    steps = max(line["step"] for line in read_journal(folder.journal) if line["kind"] == "metrics" and "val/loss" in line["values"])
    result = train_from_dir(folder.path)
    assert result.steps == steps
    check_end(folder, limit="00:00:00:02")


@pytest.mark.parametrize("value", ["5", "00:00:00:00", "1:2:3:4", "00:00:00", "99999:00:00:00", "-1:00:00:00", "''", "[1]"])
def test_other_times_are_refused(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", f"trainer.max_time={value}"]) == 2
    assert capsys.readouterr().err.startswith("bakeoff: trainer.max_time=")


def test_the_limit_is_no_part_of_the_fingerprint() -> None:
    run = compose(["trainer.max_time=1:00:00:00"])
    assert fingerprint(run) == fingerprint(compose([])) and json.loads(json.dumps(run.flat()))["trainer.max_time"] == "1:00:00:00"
