"""Damaged and hostile lines of a journal: each is named and left out, and the rest of the run reaches the store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NoReturn

import pytest

from bakeoff.run_files.journal import Journal
from bakeoff.run_files.run_dir import RunDir, RunManifest, new_run_id
from bakeoff.tracking import store
from bakeoff.tracking.client import default_uri
from bakeoff.tracking.replay import replay_run

LINES = [
    {"kind": "flush"},
    {"kind": "send"},
    {"kind": "report"},
    {"kind": "_init__"},
    {"kind": "metrics"},
    {"kind": "metrics", "ts": 1, "step": 1, "values": [1]},
    {"kind": "metrics", "ts": 1, "step": 2**64, "values": {"a": 1}},
    {"kind": "metrics", "ts": "x", "step": 1, "values": {"a": 1}},
    {"kind": "metrics", "ts": 1, "step": 1, "values": {"a": "x"}},
    {"kind": "metrics", "ts": 1, "step": 1, "values": {"../a": 1.0}},
    {"kind": "tags", "values": 3},
    {"kind": "tags", "values": {"": "x"}},
    {"kind": "params", "values": {"": "x"}},
    {"kind": "params", "values": None},
    {"kind": "dataset", "name": 3},
    {"kind": "artifact", "path": 3},
    {"kind": "artifact", "path": "\0", "artifact_path": ""},
    {"kind": "start", "tags": "x", "ts": 1},
    {"kind": "model"},
    {"kind": "end", "status": "NOPE", "ts": 1, "reason": ""},
    {"kind": "end", "status": "FINISHED"},
]


def no_net(run_dir: Path) -> NoReturn:
    """Stand in for a run folder whose net cannot be built."""
    raise ValueError("no checkpoint")


def test_every_bad_line_is_named_and_the_others_arrive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    job = RunManifest(id=new_run_id(), name="a run", experiment="train", kind="trial")
    folder = RunDir.create(tmp_path / "runs", config_text="{}\n", job=job)
    with Journal(folder.journal) as journal:
        journal.start(job)
        journal.metrics({"train/loss": 1.0}, step=1)
    with open(folder.journal, "a", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in LINES)
        file.write('{"kind": ' + "[" * 100_000 + "\n")
    with open(folder.journal, "a", encoding="utf-8") as file:
        file.write(json.dumps({"kind": "metrics", "ts": 5, "step": 2, "values": {"train/loss": 0.5}}) + "\n")
        file.write(json.dumps({"kind": "end", "status": "FINISHED", "ts": 6, "reason": "done"}) + "\n")
    uri = default_uri(tmp_path)
    progress = replay_run(folder, uri=uri, write_model=no_net)
    assert (progress.status, progress.torn) == ("FINISHED", 1)
    assert len(progress.problems) == len(LINES), progress.problems
    assert all("\n" not in problem and len(problem) < 600 for problem in progress.problems)
    assert [value for _, value, _ in store.metric_history(uri, progress.mlflow_id, "train/loss")] == [1.0, 0.5]
