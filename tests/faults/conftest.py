"""Commands in a folder of their own, and a file system that fills up."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

Start = Callable[..., subprocess.Popen[str]]
Finish = Callable[..., tuple[int, str, str]]
SWEEP = {
    "question": "Which optimizer?",
    "factors": {"optimizer": ["sgd", "adam"]},
    "metric": {"name": "val/accuracy", "goal": "maximize"},
    "tune": {"optimizer.lr": "space"},
    "budget": {"trials": 2, "studies": 1, "choose": "best"},
    "confirm": {"seeds": 2},
    "fixed": {"data": "digits", "model.width": 0.125, "trainer.max_epochs": 1, "data.subset": 400, "data.batch_size": 32},
}


@pytest.fixture(autouse=True)
def work_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder of the test's own, with the sweep `small`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "small.yaml").write_text(yaml.safe_dump(SWEEP))
    return tmp_path


@pytest.fixture
def start() -> Start:
    """Start a bakeoff command in a session of its own."""

    def start_command(*words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "bakeoff.commands.main", *words]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)

    return start_command


@pytest.fixture
def finish(start: Start) -> Finish:
    """Run a bakeoff command; return its exit code, standard output and standard error."""

    def finish_command(*words: str) -> tuple[int, str, str]:
        process = start(*words)
        out, err = process.communicate(timeout=300)
        return process.returncode, out, err

    return finish_command


@pytest.fixture
def small_disk(work_folder: Path) -> Iterator[Callable[[str], None]]:
    """Make runs/ a file system of a size, or change its size; the test is skipped where mounting is not allowed."""
    folder = work_folder / "runs"
    folder.mkdir()

    def resize(size: str) -> None:
        options = ["-o", f"remount,size={size}"] if folder.is_mount() else ["-t", "tmpfs", "-o", f"size={size}", "none"]
        if subprocess.run(["mount", *options, str(folder)], capture_output=True, check=False).returncode:
            pytest.skip("mounting a file system is not allowed")

    yield resize
    if folder.is_mount():
        subprocess.run(["umount", "-l", str(folder)], check=True)
