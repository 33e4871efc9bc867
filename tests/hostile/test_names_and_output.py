"""Names of a stranger's store are neither paths nor commands, and control no terminal, spreadsheet or LaTeX."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bakeoff.errors import BakeoffError, StoreError, printable
from bakeoff.report.design import read_design
from bakeoff.report.formatting import inert_cells
from bakeoff.report.latex import _framed
from bakeoff.run_files.journal import Journal
from bakeoff.run_files.run_dir import RunDir
from bakeoff.run_files.stored_plan import parse_stored_plan
from bakeoff.tracking.replay import replay_run

PLAN: dict[str, Any] = {
    "version": 2,
    "name": "own",
    "hash": "0123456789abcdef" * 4,
    "question": "Which?",
    "metric": {"name": "val/accuracy", "goal": "maximize"},
    "margin": 0.01,
    "budget": {"trials": 1, "sampler": "halton"},
    "confirm": {"seeds": [1], "looks": [1], "pool": [1]},
    "fixed": {},
    "command": "bakeoff sweep own",
    "cells": [{"arm": "adam", "block": "all", "spaces": {}, "points": [{}]}],
}


@pytest.mark.parametrize(
    ("key", "value"),
    [("name", "../../own"), ("name", "/tmp/own"), ("name", ".own"), ("name", "a/b"), ("name", "a\nb"), ("hash", "../../.."), ("hash", "")],
)
def test_names_of_a_stored_plan_are_no_paths(key: str, value: str) -> None:
    with pytest.raises(StoreError, match=f"plan.json: not a plan of this version: {key}"):
        parse_stored_plan({**PLAN, key: value})


@pytest.mark.parametrize("changes", [{"name": "../../escaped"}, {"hash": "/../../../escaped" + "a" * 60}])
def test_a_report_writes_below_its_folder(
    changes: dict[str, str], make_folder: Callable[..., RunDir], uri: str, tmp_path: Path, bakeoff: Callable[..., tuple[int, str, str]]
) -> None:
    plan = {**PLAN, **changes}
    folder = make_folder(kind="summary", name="summary", experiment="own", tags={"sweep": "own", "sweep.hash": PLAN["hash"]})
    (folder.path / "plan.json").write_text(json.dumps(plan))
    with Journal(folder.journal) as journal:
        journal.start(folder.read_job())
        journal.artifact("plan.json")
        journal.end("FINISHED")
    replay_run(folder, uri=uri)
    code, _, err = bakeoff("report", "own")
    assert code == 2 and "plan.json: not a plan of this version" in err and len(err.splitlines()) == 1, err
    assert not list(tmp_path.parent.glob("escaped*")) and not (tmp_path / "reports").exists()


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("bakeoff sweep own workers=2", "bakeoff sweep own workers=2"),
        ("bakeoff sweep own; touch ran", "bakeoff sweep 'own;' touch ran"),
        ("bakeoff sweep $(touch ran) `touch ran`", "bakeoff sweep '$(touch' 'ran)' '`touch' 'ran`'"),
        ("touch ran", "bakeoff sweep own"),
        ("bakeoff sweep 'own", "bakeoff sweep own"),
        ("bakeoff sweep own\ntouch ran", "bakeoff sweep own touch ran"),
    ],
)
def test_a_stored_command_is_one_command(command: str, shown: str) -> None:
    assert read_design(parse_stored_plan({**PLAN, "command": command})).command == shown
    assert shlex.split(shown)[:2] == ["bakeoff", "sweep"]


def test_terminal_texts_hold_no_control_characters() -> None:
    hostile = "a\x1b[2Jb\x9b31mc\rd\x07\u202ee"
    assert printable(hostile) == r"a\x1b[2Jb\x9b31mc\rd\x07\u202ee"
    assert printable("ä ½\n\t…") == "ä ½\n\t…"
    assert "\x1b" not in str(BakeoffError(hostile)) and "\u202e" not in str(BakeoffError(hostile))


def test_cells_are_no_formulas() -> None:
    arms = ["=1+1", "+cmd|x", "-2+3", "@sum", "\t=1", "-0.5", "+3", "adam", "-inf"]
    table = pd.DataFrame({"arm": arms, "=key": np.arange(len(arms))})
    safe = inert_cells(table)
    assert list(safe["arm"]) == ["'=1+1", "'+cmd|x", "'-2+3", "'@sum", "'\t=1", "-0.5", "+3", "adam", "-inf"]
    assert list(safe["'=key"]) == list(range(len(arms)))


@pytest.mark.parametrize("newline", ["\r", "\n", "\x0b", "\x0c", "\u2028", "\x85"])
def test_a_comment_of_latex_is_one_line(newline: str) -> None:
    text = _framed([["a"]], ["Arm"], "caption", label="tab:a", line=f"bakeoff report own{newline}\\input{{/etc/passwd}}", long=False)
    assert text.splitlines()[0] == "% bakeoff report own \\input{/etc/passwd}"
