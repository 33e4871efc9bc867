"""An offline run connects to nothing but this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
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


@pytest.mark.slow
def test_a_run_without_a_server_looks_up_no_host(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WATCH)
    seen = tmp_path / "seen.txt"
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    words = [
        "train",
        "model.width=0.05",
        "data.subset=320",
        "trainer.max_epochs=1",
        "trainer.accelerator=cpu",
        "trainer.threads=1",
        "--json",
    ]
    code = "import sys; from bakeoff.commands.main import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, "WATCHED": str(seen)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["status"] == "finished" and (tmp_path / "mlflow.db").is_file()
    lines = seen.read_text().splitlines()
    assert sum(line.startswith("process ") for line in lines) >= 2, "the training and the writer are watched"
    events = [line.partition(" ")[2].strip("('b\"") for line in lines if line.startswith("socket.")]
    assert [address for address in events if not address.startswith(LOCAL)] == []
