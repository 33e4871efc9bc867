"""A sweep whose trial, store or study journal meets a fault: the same line goes on, and the verdict counts every run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bakeoff.errors import FolderError
from bakeoff.run_files.journal import read_journal
from bakeoff.run_files.run_dir import iter_run_dirs
from bakeoff.sweep.plan import Plan
from bakeoff.sweep.resources import Resources
from bakeoff.sweep.runner import SweepOutcome, run_sweep
from bakeoff.sweep.trial_queue import TrialQueue
from bakeoff.training import processes

Small = Callable[..., Plan]


@pytest.fixture(scope="module")
def server() -> Any:
    return processes.forkserver_context(threads=1, preload=("bakeoff.sweep.trial_queue",))


def run(plan: Plan, server: Any) -> SweepOutcome:
    return run_sweep(plan, context=server, resources=Resources(2, 1, None), trial="fake_trial:execute")


def known_runs(outcome: SweepOutcome) -> int:
    assert outcome.report is not None, outcome.problem
    return int(outcome.report.plain()["runs"])


def test_killed_trial_and_deleted_store_change_no_verdict(small: Small, server: Any) -> None:
    plan = small(budget={"trials": 2}, confirm={"seeds": 2})
    # A process that dies right after its result: the journal has no end.
    Path("runs").mkdir()
    Path("runs/fake.json").write_text(json.dumps({"cut": ["adam-s1001", "adam-p00"]}))
    first = run(plan, server)
    assert known_runs(first) == plan.runs and first.problem == ""
    for folder in iter_run_dirs(Path("runs")):
        assert [line for line in read_journal(folder.journal) if line["kind"] == "end"][-1]["status"] == "FINISHED"
    for path in Path().glob("mlflow.db*"):
        path.unlink()
    second = run(plan, server)
    assert known_runs(second) == plan.runs
    assert first.report is not None and second.report is not None
    assert second.report.verdict.headline == first.report.verdict.headline


def test_damaged_study_journal_is_one_line(small: Small) -> None:
    plan = small(budget={"trials": 2}, confirm={"seeds": 0})
    folder = Path("runs") / plan.title
    folder.mkdir(parents=True)
    TrialQueue(plan, folder=folder)
    journal = folder / "study.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1][:10] + b"\n"
    journal.write_bytes(b"".join(lines))
    with pytest.raises(FolderError, match=r"study\.journal: a line in its middle is damaged"):
        TrialQueue(plan, folder=folder)
