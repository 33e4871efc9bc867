"""A signal to `bakeoff train` ends all of its processes, and one line says how the run goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

import bakeoff
from bakeoff.errors import RunInterrupted
from bakeoff.run_files.journal import read_journal

Start = Callable[..., subprocess.Popen[str]]
Finish = Callable[..., tuple[int, str, str]]
LONG = (
    "model.width=0.05",
    "data.subset=320",
    "data.batch_size=32",
    "trainer.threads=1",
    "trainer.accelerator=cpu",
    "trainer.log_every=1",
    "trainer.max_epochs=400",
    "trainer.checkpoint_every=5",
)
TWO_DEVICES = ("trainer=ddp", "trainer.devices=2")


def wait_for_step(step: int, *, seconds: float = 90) -> Path:
    """Wait until the only run has logged a step; return its folder."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for journal in Path("runs").glob("*/*/journal.jsonl"):
            if any(line["kind"] == "metrics" and line["step"] >= step for line in read_journal(journal)):
                return journal.parent
        time.sleep(0.05)
    raise AssertionError("the run has not come to that step")


def ranks() -> list[psutil.Process]:
    """The processes that train below this working folder."""
    living = [process for process in psutil.process_iter(["cmdline", "cwd"]) if process.info["cwd"] == os.getcwd()]
    return [process for process in living if "bakeoff.training.torchrun_main" in " ".join(process.info["cmdline"] or [])]


@pytest.mark.slow
@pytest.mark.parametrize("line", [LONG, (*LONG, *TWO_DEVICES), ("-m", *LONG)], ids=["single", "two devices", "grid"])
@pytest.mark.parametrize(("number", "exit_code", "cause"), [(signal.SIGTERM, 143, "SIGTERM"), (signal.SIGINT, 130, "Ctrl-C")])
def test_a_stopped_run_says_how_it_goes_on(start: Start, number: signal.Signals, exit_code: int, cause: str, line: tuple[str, ...]) -> None:
    process = start("train", "trainer.progress=false", *line)
    folder = wait_for_step(8)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    run = folder.name.rpartition("-")[2]
    told = [text for text in err.splitlines() if text.startswith("bakeoff:")]
    assert told == [f"bakeoff: run {run} was stopped by {cause}; bakeoff train resume={run} continues it"], err
    assert process.returncode == exit_code and out == "" and "Traceback" not in err
    assert [text["status"] for text in read_journal(folder / "journal.jsonl") if text["kind"] == "end"] == ["KILLED"]
    assert not (folder / "result.json").exists() and not ranks()


@pytest.mark.slow
def test_a_killed_command_leaves_no_rank_and_the_run_goes_on(start: Start, finish: Finish) -> None:
    process = start("train", "trainer.progress=false", *LONG, *TWO_DEVICES, "trainer.max_steps=400")
    folder = wait_for_step(8)
    assert len(ranks()) >= 2
    process.kill()
    process.communicate(timeout=30)
    deadline = time.monotonic() + 10
    while ranks() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not ranks()
    code, _, err = finish("train", f"resume={folder.name.rpartition('-')[2]}")
    assert code == 0 and json.loads((folder / "result.json").read_text())["status"] == "finished", err


@pytest.mark.slow
def test_a_killed_rank_is_no_failure_of_the_run(start: Start) -> None:
    process = start("train", "trainer.progress=false", *LONG, *TWO_DEVICES)
    folder = wait_for_step(8)
    max((rank for rank in ranks() if "--standalone" not in rank.info["cmdline"]), key=lambda rank: rank.pid).kill()
    _, err = process.communicate(timeout=90)
    assert process.returncode == 75 and "Traceback" not in err.rpartition("bakeoff: ")[2], err
    assert "was stopped by the machine: its process ended by SIGKILL" in err or "another rank was lost" in err, err
    assert not (folder / "result.json").exists() and not ranks()


def test_ctrl_c_in_python_is_a_keyboard_interrupt_with_the_way_back(work_folder: Path) -> None:
    run = bakeoff.compose([*LONG, f"tracking.uri=sqlite:///{work_folder}/mlflow.db"])
    stopper = threading.Thread(target=lambda: (wait_for_step(8), os.kill(os.getpid(), signal.SIGINT)))
    stopper.start()
    with pytest.raises(KeyboardInterrupt, match=r"was stopped by Ctrl-C; bakeoff train resume=\w{12} continues it") as stop:
        bakeoff.train(run)
    stopper.join()
    assert isinstance(stop.value, RunInterrupted) and signal.getsignal(signal.SIGINT) is signal.default_int_handler
