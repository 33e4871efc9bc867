"""Stores that hang, fail, crawl or are busy: training never waits for them, and a command leaves them within seconds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from bakeoff.commands import main as shell
from bakeoff.commands import sync
from bakeoff.run_files.run_dir import RunDir
from bakeoff.tracking import sqlite_store, store
from bakeoff.tracking.sqlite_store import SqliteRunStore
from bakeoff.training import writer
from bakeoff.training.writer import LAGS, JournalFollower, Writer, run_writer

RUN = {"info": {"run_id": "a" * 32, "experiment_id": "1", "status": "RUNNING", "lifecycle_stage": "active"}, "data": {}}
EXPERIMENT = {"experiment_id": "1", "name": "quickstart", "lifecycle_stage": "active", "artifact_location": "/nowhere"}
ANSWER = json.dumps({"experiment": EXPERIMENT, "experiments": [], "runs": [], "run": RUN, "run_info": RUN["info"]}).encode()


class Server(BaseHTTPRequestHandler):
    """A tracking server that hangs, answers 500, or takes two seconds for each request."""

    fault = ""

    def do_GET(self) -> None:
        if self.fault == "hangs":
            time.sleep(120)
            return
        if self.fault == "crawls":
            time.sleep(2)
        self.send_response(500 if self.fault == "fails" else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(params=["hangs", "fails", "crawls"])
def faulty(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(Server, "fault", request.param)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    server.daemon_threads = True
    server.block_on_close = False
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


def is_gone(pid: int, *, seconds: float = 5.0) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


def test_command_leaves_the_store_within_ten_seconds(
    written: Callable[..., RunDir], faulty: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for _ in range(8):
        written()
    with Writer(tmp_path / "runs", uri=faulty) as follower:
        time.sleep(8.0)  # the process has imported MLflow, and has met its store
        start = time.monotonic()
        assert follower.close() is True
        assert time.monotonic() - start < 10.5
    said = capfd.readouterr().err
    assert LAGS in said and "the store does not answer: giving up in" in said
    assert is_gone(follower.pid)


def test_interrupt_while_the_store_hangs_leaves_no_process(written: Callable[..., RunDir], tmp_path: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Hanging", (Server,), {"fault": "hangs"}))
    server.daemon_threads, server.block_on_close = True, False
    threading.Thread(target=server.serve_forever, daemon=True).start()
    written()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    code = "import sys; from bakeoff.training.writer import Writer\n"
    code += "with Writer(sys.argv[1], uri=sys.argv[2]) as w:\n    print(w.pid, flush=True)"
    command = [sys.executable, "-c", code, str(tmp_path / "runs"), address]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    time.sleep(2.0)
    parent.send_signal(signal.SIGINT)
    _, said = parent.communicate(timeout=10)
    assert parent.returncode != 0 and "KeyboardInterrupt" in said
    assert is_gone(pid)
    server.shutdown()


def test_store_that_answers_is_drained(written: Callable[..., RunDir], uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "PATIENCE", 0.05)  # far less than the whole takes
    monkeypatch.setattr(SqliteRunStore, "runs", 1)
    begin_writing = sqlite_store.begin_writing
    monkeypatch.setattr(sqlite_store, "begin_writing", lambda database: (time.sleep(0.02), begin_writing(database)))
    for _ in range(12):
        written(steps=3)
    start = time.monotonic()
    assert run_writer(JournalFollower(tmp_path / "runs", uri), lambda seconds: True) is False
    assert time.monotonic() - start > 0.2 and list(store.runs_table(uri)["status"]) == ["FINISHED"] * 12


def test_run_that_the_store_refuses_keeps_no_other_waiting(written: Callable[..., RunDir], uri: str, tmp_path: Path) -> None:
    first, *others = sorted((written(steps=3) for _ in range(4)), key=lambda folder: folder.path)
    first.job.write_text(first.job.read_text().replace('"experiment": "quickstart"', '"experiment": "' + "x" * 1000 + '"'))
    follower = JournalFollower(tmp_path / "runs", uri)
    assert run_writer(follower, lambda seconds: True) is True
    assert sorted(store.runs_table(uri)["id"]) == sorted(folder.read_job().id for folder in others)


def test_killed_writer_changes_nothing(written: Callable[..., RunDir], uri: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with Writer(tmp_path / "runs", uri=uri) as follower:
        for _ in range(5):
            written(steps=20)
        os.kill(follower.pid, signal.SIGKILL)
        assert follower.close() is False
    assert LAGS not in capfd.readouterr().err and list(store.runs_table(uri)["status"]) == ["FINISHED"] * 5
    assert is_gone(follower.pid)


def test_sync_into_a_store_that_is_away_and_the_next_one(
    written: Callable[..., RunDir], uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written()
    assert shell.main(["sync", "tracking.uri=http://127.0.0.1:9"]) == writer.EXIT_LAGGING
    said = capsys.readouterr()
    assert said.err == "bakeoff: tracking.uri=http://127.0.0.1:9: the store does not answer: Connection refused\n" and said.out == ""
    assert shell.main(["sync", f"tracking.uri={uri}"]) == 0 and capsys.readouterr().out.startswith("1 runs of runs brought up to date")


def test_sync_says_how_far_it_is(
    written: Callable[..., RunDir], uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(SqliteRunStore, "runs", 1)
    monkeypatch.setattr(sync, "EVERY", 0.0)
    for _ in range(3):
        written(steps=2)
    assert shell.main(["sync"]) == 0
    assert capsys.readouterr().err == "bakeoff: 1 of 3 runs brought up to date\nbakeoff: 2 of 3 runs brought up to date\n"
