"""Offline, no command connects to anything but this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

WATCH = """
import os, sys

def watch(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"):
        address = arguments[1] if event in ("socket.connect", "socket.sendto") else arguments[0]
        with open(os.environ["WATCHED"], "a") as file:
            file.write(f"{event} {address!r}\\n")

open(os.environ["WATCHED"], "a").write(f"process {os.getpid()}\\n")
sys.addaudithook(watch)
"""
LOCAL = ("127.0.0.1", "::1", "localhost", "None", "/", "\\x00")
TINY = ["model.width=0.05", "data.subset=320", "trainer.max_epochs=1", "trainer.accelerator=cpu", "trainer.threads=1"]
SWEEP = """
question: Which?
factors: {optimizer: [sgd, adam]}
metric: val/accuracy
tune: {optimizer.lr: space}
budget: {trials: 1, studies: 1}
confirm: {seeds: 2}
margin: 0.05
fixed: {model.width: 0.05, data.subset: 320, trainer.max_epochs: 1, trainer.accelerator: cpu, trainer.threads: 1}
"""


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Callable[..., tuple[int, str]]]:
    """Run commands offline, and check in the end that none of their processes has asked for anything beyond this machine.

    Each call returns how many processes were watched, and standard output.
    """
    (tmp_path / "sitecustomize.py").write_text(WATCH)
    seen = tmp_path / "seen.txt"
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    code = "import sys; from bakeoff.commands.main import main; sys.exit(main())"

    def run(*words: str) -> tuple[int, str]:
        seen.touch()
        before = seen.read_text().count("process ")
        line, environment = [sys.executable, "-P", "-c", code, *words], {**os.environ, "PYTHONPATH": path, "WATCHED": str(seen)}
        done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        return seen.read_text().count("process ") - before, done.stdout

    yield run
    events = [line.partition(" ")[2].strip("('b\"") for line in seen.read_text().splitlines() if line.startswith("socket.")]
    assert [address for address in events if not address.startswith(LOCAL)] == []


@pytest.mark.slow
def test_a_run_without_a_server_looks_up_no_host(watched: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    processes, out = watched("train", *TINY, "--json")
    assert processes >= 2, "the training and the writer are watched"
    assert json.loads(out.splitlines()[-1])["status"] == "finished" and (tmp_path / "mlflow.db").is_file()


@pytest.mark.slow
def test_a_sweep_and_its_report_look_up_no_host(watched: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(SWEEP)
    processes, out = watched("sweep", "own.yaml", "workers=2", "--json")
    assert processes >= 2 and json.loads(out.splitlines()[-1])["report"] is not None, "the command and its fork server are watched"
    for words in (["report", "own"], ["sync"], ["clean", "--dry-run"]):
        assert watched(*words)[0] >= 1


@pytest.mark.slow
@pytest.mark.parametrize("words", [["check", *TINY], ["list"], ["list", "model", "--diff"], ["show", "activations"]], ids=" ".join)
def test_other_commands_look_up_no_host(watched: Callable[..., tuple[int, str]], words: list[str]) -> None:
    processes, out = watched(*words)
    assert processes >= 1 and out
