"""A report is never overwritten by one that knows less, unless the user says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bakeoff.errors import StoreError
from bakeoff.report.builder import refuse_poorer
from bakeoff.report.results import SweepResults


def test_fewer_runs_of_the_same_plan_are_refused(simulated: Callable[..., SweepResults], tmp_path: Path) -> None:
    sweep = simulated({"sgd": 0.0, "adam": 0.01}, rng=np.random.default_rng(0), trials=2, seeds=2)
    runs = len(sweep.runs)
    refuse_poorer(sweep, tmp_path)  # the first report
    for known, plan in ((runs, sweep.design.hash), (runs - 1, sweep.design.hash), (runs + 5, "another plan")):
        (tmp_path / "summary.json").write_text(json.dumps({"runs": known, "hash": plan}))
        refuse_poorer(sweep, tmp_path)
    (tmp_path / "summary.json").write_text(json.dumps({"runs": runs + 1, "hash": sweep.design.hash}))
    with pytest.raises(StoreError, match=rf"a report on {runs + 1} runs, of which the store has {runs}: .*--replace"):
        refuse_poorer(sweep, tmp_path)
