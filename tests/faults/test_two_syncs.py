"""Processes that sync the same runs at once, and that are killed meanwhile, lose and double nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bakeoff.run_files.journal import Journal
from bakeoff.run_files.run_dir import RunDir
from bakeoff.tracking import store
from bakeoff.tracking.replay import is_behind
from bakeoff.training.writer import sync_runs

SYNC = "import sys; from pathlib import Path; from bakeoff.training.writer import sync_runs\n"
SYNC += "print('go', flush=True)\nprint(*(p for run in sync_runs(Path(sys.argv[1]), uri=sys.argv[2]) for p in run.problems))"
RUNS, STEPS = 120, 200


@pytest.fixture
def folders(written: Callable[..., RunDir]) -> list[RunDir]:
    """More runs than one transaction takes, each with an artifact."""
    run_dirs = [written(steps=STEPS, end=False, experiment="ab"[number % 2]) for number in range(RUNS)]
    for run_dir in run_dirs:
        with Journal(run_dir.journal) as journal:
            journal.artifact("config.yaml")
            journal.end("FINISHED")
    return run_dirs


def start_sync(root: Path, uri: str) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", SYNC, str(root), uri], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "go\n"
    return process


def check_whole(folders: list[RunDir], root: Path, uri: str) -> None:
    assert not [folder for folder in folders if is_behind(folder, uri=uri)] and sync_runs(root, uri=uri) == []
    table = store.runs_table(uri)
    assert sorted(table["id"]) == sorted(folder.read_job().id for folder in folders) and set(table["status"]) == {"FINISHED"}
    histories = store.metric_histories(uri, list(table["mlflow_id"]), ["train/loss"])
    assert all([(step, value) for step, value, _ in points] == [(s, 1 / (s + 1)) for s in range(STEPS)] for points in histories.values())
    assert len([path for path in (root.parent / "mlartifacts").rglob("*") if path.is_file()]) == RUNS


def test_three_at_once(folders: list[RunDir], uri: str, tmp_path: Path) -> None:
    processes = [start_sync(tmp_path / "runs", uri) for _ in range(3)]
    for process in processes:
        printed, said = process.communicate(timeout=120)
        assert (process.returncode, printed.strip(), said) == (0, "", "")
    check_whole(folders, tmp_path / "runs", uri)


def test_killed_again_and_again_beside_another(folders: list[RunDir], uri: str, tmp_path: Path) -> None:
    root, cut = tmp_path / "runs", 0
    for done in (1, 25, 55, 95):
        processes = [start_sync(root, uri) for _ in range(2)]
        while sum(folder.cursor.exists() for folder in folders) < done and processes[0].poll() is None:
            time.sleep(0.001)
        for process in processes:
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
        cut += 0 < sum(is_behind(folder, uri=uri) for folder in folders) < RUNS
    assert cut >= 2, "no kill came in the middle"
    sync_runs(root, uri=uri)
    check_whole(folders, root, uri)
