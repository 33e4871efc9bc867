"""What an earlier process tree of a run has left is killed, and nothing of a run in another folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bakeoff.training.processes import RUN_DIR_VARIABLE, kill_orphans, run_mark


def test_runs_of_the_same_relative_path_in_two_folders_leave_each_other_alone(work_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, started = Path("runs/small/adam-p00"), list[subprocess.Popen[bytes]]()
    for name in ("first", "second"):
        (work_folder / name).mkdir()
        monkeypatch.chdir(work_folder / name)
        env = {**os.environ, RUN_DIR_VARIABLE: run_mark(path)}
        started.append(
            subprocess.Popen([sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"], env=env, stdout=subprocess.PIPE)
        )
        assert started[-1].stdout is not None and started[-1].stdout.read(1)
    first, second = started
    try:
        kill_orphans(path)
        assert second.wait(10) < 0 and first.poll() is None
    finally:
        for process in started:
            process.kill()
            process.wait()
