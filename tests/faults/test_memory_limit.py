"""A run that meets the limit of its memory has not failed: one line names the fault and the way back, and more memory is all it needs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bakeoff.run_files.journal import read_journal

Finish = Callable[..., tuple[int, str, str]]
LIMITED = """
import resource, sys
from bakeoff.commands.main import main
from bakeoff.training.lightning_module import ClassificationModule

training_step = ClassificationModule.training_step
images_of = lambda arguments: arguments[0][0]
def limited_step(self, *arguments):
    # What is in use by now, and a little more: the address space of torch alone depends on the machine.
    if self.step == 12:
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), resource.RLIM_INFINITY))
        self.taken = images_of(arguments).new_zeros(1 << 28) if sys.argv[1] == "tensor" else bytearray(1 << 30)
    return training_step(self, *arguments)

ClassificationModule.training_step = limited_step
sys.exit(main(sys.argv[2:]))
"""
TINY = ["model.width=0.05", "data.subset=320", "data.batch_size=32", "trainer.max_epochs=4", "trainer.threads=1", "trainer.accelerator=cpu"]


@pytest.mark.parametrize("what", ["tensor", "object"])
def test_a_limit_of_the_address_space_pauses_a_run(what: str, finish: Finish) -> None:
    line = [sys.executable, "-c", LIMITED, what, "train", *TINY, "trainer.checkpoint_every=5"]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=120)
    (folder,) = Path("runs").glob("*/*")
    run = folder.name.rpartition("-")[2]
    (message,) = [text for text in done.stderr.splitlines() if text.startswith("bakeoff:")]
    assert done.returncode == 75 and "Traceback" not in done.stderr, done.stderr
    assert message.startswith(f"bakeoff: run {run} was stopped by the machine: ")
    assert message.endswith(f"; bakeoff train resume={run} continues it")
    assert "allocate" in message if what == "tensor" else "MemoryError" in message
    assert not (folder / "result.json").exists()
    assert [text["status"] for text in read_journal(folder / "journal.jsonl") if text["kind"] == "end"] == ["KILLED"]
    code, _, err = finish("train", f"resume={run}")
    assert code == 0 and json.loads((folder / "result.json").read_text())["status"] == "finished", err
