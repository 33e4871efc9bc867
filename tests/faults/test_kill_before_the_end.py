"""A process that is killed between its result and its journal's end, or without a result: whoever comes next writes what is missing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bakeoff.run_files.journal import Journal, read_journal
from bakeoff.run_files.run_dir import RunDir
from bakeoff.run_files.settling import settle_run
from bakeoff.tracking import store
from bakeoff.training.writer import JournalFollower, run_writer, sync_runs

KILLED_AFTER_ITS_RESULT = """
import os, signal, sys
from pathlib import Path
from bakeoff.run_files.run_dir import RunDir
from bakeoff.training.run_training import train_from_dir

write_result = RunDir.write_result
def write_and_die(self, result):
    write_result(self, result)
    os.kill(os.getpid(), signal.SIGKILL)
RunDir.write_result = write_and_die
train_from_dir(Path(sys.argv[1]))
"""
OVERRIDES = ["data=digits", "data.subset=200", "model.width=0.125", "trainer.max_epochs=1", "trainer.accelerator=cpu", "test=true"]


def last_end(folder: RunDir) -> dict[str, Any]:
    last = list(read_journal(folder.journal))[-1]
    assert last["kind"] == "end"
    return last


def killed_after_result(written: Callable[..., RunDir], status: str, **job: Any) -> RunDir:
    folder = written(end=False, **job)
    reason = "train/loss is nan" if status == "diverged" else ""
    result = {"id": folder.read_job().id, "name": "x", "status": status, "reason": reason, "metrics": {}}
    folder.write_result({**result, "best": {"val/loss": 0.5}, "seconds": 7.0})
    return folder


@pytest.mark.parametrize(
    ("status", "end", "diverged"), [("finished", "FINISHED", "false"), ("diverged", "FINISHED", "true"), ("failed", "FAILED", None)]
)
def test_result_decides(written: Callable[..., RunDir], uri: str, tmp_path: Path, status: str, end: str, diverged: str | None) -> None:
    folder = killed_after_result(written, status)
    (progress,) = sync_runs(tmp_path / "runs", uri=uri)
    assert progress.status == end and last_end(folder)["status"] == end
    row = store.runs_table(uri).iloc[0]
    assert row["status"] == end and row.get("tags.diverged") == diverged
    if status != "failed":
        assert (row["metrics.seconds"], row["metrics.best_val_loss"]) == (7.0, 0.5)
    before = folder.journal.read_bytes()
    assert not settle_run(folder) and folder.journal.read_bytes() == before and sync_runs(tmp_path / "runs", uri=uri) == []


def test_result_decides_against_an_interrupt_that_came_after_it(written: Callable[..., RunDir], uri: str, tmp_path: Path) -> None:
    folder = killed_after_result(written, "finished")
    with Journal(folder.journal) as journal:
        journal.end("KILLED", reason="stopped by KeyboardInterrupt")
    assert run_writer(JournalFollower(tmp_path / "runs", uri), lambda seconds: True) is False
    assert list(store.runs_table(uri)["status"]) == ["FINISHED"]


def test_running_and_finished_runs_stay_as_they_are(written: Callable[..., RunDir]) -> None:
    done, running, silent = written(), written(end=False), written(end=False)
    silent.journal.unlink()
    with running.locked():
        texts = [done.journal.read_bytes(), running.journal.read_bytes()]
        assert [settle_run(folder) for folder in (done, running, silent)] == [False, False, False]
        assert texts == [done.journal.read_bytes(), running.journal.read_bytes()]
    assert settle_run(running) and last_end(running)["status"] == "KILLED" and not settle_run(running)


def test_killed_single_run_is_finished_by_the_next_one_that_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bakeoff.config.compose import compose
    from bakeoff.training.run_lifecycle import create_run_dir, resume_run

    monkeypatch.chdir(tmp_path)
    folder = create_run_dir(compose(OVERRIDES))
    child = subprocess.run([sys.executable, "-c", KILLED_AFTER_ITS_RESULT, str(folder.path)], capture_output=True, text=True, check=False)
    assert child.returncode == -signal.SIGKILL, child.stderr
    result = json.loads(folder.result.read_text())
    assert result["status"] == "finished" and list(read_journal(folder.journal))[-1]["kind"] != "end"
    outcome = resume_run(folder, progress=False)
    assert outcome.result.id == result["id"] and last_end(folder)["status"] == "FINISHED"
    row = store.runs_table(outcome.tracking_uri).iloc[0]
    assert (row["status"], row["metrics.seconds"]) == ("FINISHED", result["seconds"])


def test_killed_run_is_settled_by_any_writer(written: Callable[..., RunDir], uri: str, tmp_path: Path) -> None:
    holder = "import os, sys; from pathlib import Path; from bakeoff.run_files.run_dir import RunDir\n"
    holder += "with RunDir(Path(sys.argv[1])).locked():\n    print('held', flush=True)\n    sys.stdin.read()"
    folder = written(end=False)
    child = subprocess.Popen([sys.executable, "-c", holder, str(folder.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "held\n"
    assert run_writer(JournalFollower(tmp_path / "runs", uri), lambda seconds: True) is False
    assert list(store.runs_table(uri)["status"]) == ["RUNNING"]
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    assert run_writer(JournalFollower(tmp_path / "runs", uri), lambda seconds: True) is False
    assert list(store.runs_table(uri)["status"]) == ["KILLED"]
