"""The clock of the machine is put forward and back by days, for all processes of a command, by libfaketime."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bakeoff.tracking import store
from bakeoff.tracking.client import default_uri

Finish = Callable[..., tuple[int, str, str]]
Start = Callable[..., Any]
LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
SLEEP = """
import select, time

# libfaketime 0.9.10 refuses the clock_nanosleep of a faked process.
time.sleep = lambda seconds: select.select([], [], [], seconds) and None
"""
TINY = ["model.width=0.05", "data.subset=320", "data.batch_size=32", "trainer.max_epochs=8", "trainer.threads=1", "trainer.accelerator=cpu"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not LIBRARIES, reason="libfaketime is not installed (Debian: apt-get install faketime): no test of clock jumps"),
]


@pytest.fixture
def jump(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put the clock of all processes that are started from now on by an offset, such as +1d or -2d; it may be changed while they run."""
    clock = tmp_path / "clock"
    clock.write_text("+0\n")
    (tmp_path / "sitecustomize.py").write_text(SLEEP)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]))
    environment = {"LD_PRELOAD": str(LIBRARIES[0]), "FAKETIME_TIMESTAMP_FILE": str(clock)}
    # The monotonic clock of a machine does not jump.
    for name, value in {**environment, "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}.items():
        monkeypatch.setenv(name, value)

    def change(offset: str) -> None:
        draft = clock.with_name("draft")
        draft.write_text(f"{offset}\n")
        os.replace(draft, clock)

    return change


def results() -> dict[str, Any]:
    """Run -> what its result says."""
    trees = [json.loads(path.read_text()) for path in Path("runs").glob("*/*/result.json")]
    return {tree["name"]: tree for tree in trees}


def test_clock_jumps_of_days_in_a_run(start: Start, jump: Callable[[str], None]) -> None:
    process, began = start("train", *TINY, "trainer.log_every=1", "--json"), time.monotonic()
    for place, offset in enumerate(["+1d", "-2d", "+400d", "+0"]):
        while process.poll() is None and len(list(Path("runs").glob("*/*/checkpoints/last.ckpt"))) == 0:
            time.sleep(0.05)
        time.sleep(0.3 * place)
        jump(offset)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0 and "Traceback" not in err, err
    result = json.loads(out.splitlines()[-1])
    assert result["status"] == "finished" and 0 < result["seconds"] < time.monotonic() - began
    row = store.runs_table(default_uri(Path.cwd())).iloc[0]
    assert row["status"] == "FINISHED" and row["metrics.seconds"] == result["seconds"]


def test_clock_jumps_of_days_in_a_sweep(start: Start, finish: Finish, work_folder: Path, jump: Callable[[str], None]) -> None:
    process, offsets = start("sweep", "small", "workers=2", "--json"), ["+1d", "-2d", "+30d", "-1d", "+0"]
    while process.poll() is None:
        time.sleep(0.1)
        if offsets and len(results()) >= 5 - len(offsets):
            jump(offsets.pop(0))
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and "Traceback" not in err and not offsets, err
    tree = json.loads(out.splitlines()[-1])
    assert tree["report"]["runs"] == len(results()) == 8
    assert {result["status"] for result in results().values()} <= {"finished", "diverged"}
    assert all(0 < result["seconds"] < 120 for result in results().values())
