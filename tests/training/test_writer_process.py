from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from bakeoff.run_files.journal import Journal
from bakeoff.run_files.run_dir import RunDir
from bakeoff.tracking import store
from bakeoff.tracking.replay import is_behind
from bakeoff.training import writer
from bakeoff.training.writer import LAGS, JournalFollower, Writer, run_writer


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.1)


def test_follows_a_run_while_it_trains_and_drains_at_the_end(
    written: Callable[..., RunDir], uri: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Writer(tmp_path / "runs", uri=uri) as follower:
        folder = written(steps=5, end=False)  # comes after the writer has begun
        with folder.locked(), Journal(folder.journal) as journal:
            wait_for(lambda: not is_behind(folder, uri=uri))
            assert list(store.runs_table(uri)["status"]) == ["RUNNING"]
            for step in range(5, 50):
                journal.metrics({"train/loss": 1 / (step + 1)}, step=step)
            journal.end("FINISHED")
        assert follower.close(timeout=30) is False
    table = store.runs_table(uri)
    assert list(table["status"]) == ["FINISHED"] and len(store.metric_history(uri, table.iloc[0]["mlflow_id"], "train/loss")) == 50
    assert LAGS not in capfd.readouterr().err


def test_says_that_the_store_lags(written: Callable[..., RunDir], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    written(tracking_uri="http://a:secret@127.0.0.1:9")
    with Writer(tmp_path / "runs", uri="http://a:secret@127.0.0.1:9") as follower:
        start = time.monotonic()
        assert follower.close(timeout=30) is True
        assert time.monotonic() - start < 25 and follower.close() is False
    said = capfd.readouterr().err
    assert said.count(LAGS) == 1 and "does not answer" in said and "secret" not in said


def test_killed_writer_is_started_again(
    written: Callable[..., RunDir], uri: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = written(steps=400_000)
    with Writer(tmp_path / "runs", uri=uri) as follower:
        wait_for(folder.cursor.exists)
        os.kill(follower.pid, signal.SIGKILL)
        assert follower.close() is False
    assert LAGS not in capfd.readouterr().err
    assert len(store.metric_history(uri, store.runs_table(uri).iloc[0]["mlflow_id"], "train/loss")) == 400_000


def test_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    code = "import sys, time; from bakeoff.training.writer import Writer\n"
    code += "w = Writer(sys.argv[1])\nprint(w.pid, flush=True)\ntime.sleep(60)"
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    os.kill(parent.pid, signal.SIGKILL)
    parent.communicate()

    def gone() -> bool:
        try:
            with open(f"/proc/{pid}/stat") as file:
                return file.read().rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            return True

    wait_for(gone, 20)


def test_a_thousand_finished_folders_cost_little(
    tmp_path: Path, written: Callable[..., RunDir], uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = written(steps=1)
    assert run_writer(JournalFollower(tmp_path / "runs", uri), lambda seconds: True) is False
    text = folder.journal.read_bytes(), folder.cursor.read_bytes(), folder.job.read_bytes()
    for i in range(1000):
        other = RunDir(folder.path.parent / f"copy-{i:012x}")
        other.path.mkdir()
        for path, content in zip((other.journal, other.cursor, other.job), text, strict=True):
            path.write_bytes(content)
    follower = JournalFollower(tmp_path / "runs", uri)
    monkeypatch.setattr(writer, "replay_runs", None)  # nothing is to be replayed
    read, listed = mock.Mock(wraps=is_behind), mock.Mock(wraps=os.scandir)
    monkeypatch.setattr(writer, "is_behind", read)
    assert follower.replay_grown() is False
    assert read.call_count == 1001
    monkeypatch.setattr(os, "scandir", listed)
    for _ in range(5):
        assert follower.replay_grown() is False
    assert read.call_count == 1001, "a journal that has not grown was read again"
    assert listed.call_count == 5 * 2 * 2, "folders of runs were listed"  # the root and one experiment, for lines and for nets


def test_a_resumed_run_is_followed_again(tmp_path: Path, written: Callable[..., RunDir], uri: str) -> None:
    folder = written(steps=2)
    follower = JournalFollower(tmp_path / "runs", uri)
    follower.replay_grown()
    with Journal(folder.journal) as journal:
        journal.start(folder.read_job())
        journal.metrics({"train/loss": 1 / 3}, step=2)
    follower.replay_grown()
    assert store.runs_table(uri).iloc[0]["status"] == "RUNNING" and store.runs_table(uri).iloc[0]["metrics.train/loss"] == 1 / 3


def test_loads_no_large_library_for_an_sqlite_store(written: Callable[..., RunDir], tmp_path: Path) -> None:
    folder = written(steps=20_000, end=False)
    with Journal(folder.journal) as journal:
        journal.artifact("config.yaml")
        journal.end("FINISHED")
    code = "import sys; from pathlib import Path; from bakeoff.training.writer import JournalFollower, run_writer\n"
    code += "assert not run_writer(JournalFollower(Path(sys.argv[1]), sys.argv[2]), lambda seconds: True)\n"
    code += "print(sorted({'mlflow', 'numpy', 'pandas', 'sqlalchemy', 'timm', 'torch', 'requests'} & set(sys.modules)))\n"
    code += "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    command = [sys.executable, "-c", code, str(tmp_path / "runs"), f"sqlite:///{tmp_path}/fresh.db"]
    modules, kilobytes = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert modules == "[]" and int(kilobytes) < 100_000
    assert list(store.runs_table(f"sqlite:///{tmp_path}/fresh.db")["status"]) == ["FINISHED"]
