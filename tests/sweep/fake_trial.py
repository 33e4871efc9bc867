"""A run that trains nothing: ends as fake.json in the runs' folder says, and writes down that it began and that it ended."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from pathlib import Path

from bakeoff.config.compose import load_frozen
from bakeoff.errors import MachineError
from bakeoff.machine import fault_of
from bakeoff.run_files.journal import Journal
from bakeoff.run_files.run_dir import RunDir

DEFAULT = {
    "sleep": 0.02,
    "fail": [],
    "diverge": [],
    "die": [],
    "exit": [],
    "nan": [],
    "segv": [],
    "hang": [],
    "cut": [],
    "memory": [],
    "epochs": 1,
    "crossing": [],
}


def execute(path: Path) -> None:
    folder = RunDir(path)
    root = path.parent.parent
    asked = root / "fake.json"
    how = {**DEFAULT, **(json.loads(asked.read_text()) if asked.exists() else {})}
    job, run = folder.read_job(), load_frozen(folder.config.read_text(), origin="fake")
    with folder.locked(), Journal(folder.journal) as journal:
        note(root, f"begin {job.name} {os.getpid()}")
        journal.start(job)
        steps = {"total_steps": 10 * how["epochs"], "steps_per_epoch": 10}
        journal.params({"optimizer.lr": run.optimizer["lr"], "seed": run.seed, **run.choices, **steps})
        final = round(1.0 / (1.0 + run.optimizer["lr"]), 6)
        for epoch in range(1, how["epochs"]):
            # A slow starter is behind the others until its last epoch.
            journal.metrics({"val/accuracy": 0.0 if point(job.name) in how["crossing"] else final * epoch / how["epochs"]}, step=10 * epoch)
            time.sleep(how["sleep"])
        time.sleep(how["sleep"])
        if job.name in how["die"]:
            os.kill(os.getpid(), signal.SIGKILL)
        if job.name in how["hang"]:
            for _ in range(5):
                time.sleep(0.1)
                folder.beat()
            time.sleep(60)
        if job.name in how["segv"]:
            os.kill(os.getpid(), signal.SIGSEGV)
        if job.name in how["memory"]:
            exhaust_memory()
        if job.name in how["exit"]:
            print("no reason at all")
            sys.exit(0)
        status = "failed" if job.name in how["fail"] else "diverged" if job.name in how["diverge"] else "finished"
        value: float | str = "nan" if job.name in how["nan"] else 1.0 if point(job.name) in how["crossing"] else final
        metrics = {} if status == "failed" else {"val/accuracy": value, "test/accuracy": value}
        journal.metrics({key: float(number) for key, number in metrics.items()}, step=10 * how["epochs"])
        reason = "as asked" if status != "finished" else ""
        note(root, f"end {job.name} {os.getpid()}")
        folder.checkpoints.mkdir(exist_ok=True)
        (folder.checkpoints / "last.ckpt").write_bytes(b"weights")
        folder.write_result(
            {"id": job.id, "name": job.name, "status": status, "reason": reason, "metrics": metrics, "best": {}, "seconds": 0.1}
        )
        if job.name in how["cut"]:
            os.kill(os.getpid(), signal.SIGKILL)
        journal.end("FAILED" if status == "failed" else "FINISHED", reason=reason)


def exhaust_memory() -> None:
    """Allocate without end under a limit of the process; as in a real run, the error is told by the exit code."""
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    try:
        _ = [bytearray(1 << 28) for _ in range(64)]
    except MemoryError as error:
        kind = fault_of(error)
        assert kind is not None
        raise MachineError("MemoryError", kind=kind) from error


def point(name: str) -> str:
    return name.removesuffix("-audit")


def note(root: Path, line: str) -> None:
    with open(root / "attempts.log", "a") as file:
        file.write(line + "\n")
