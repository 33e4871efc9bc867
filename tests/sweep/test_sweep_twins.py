"""A real sweep in which the same optimizer stands under two names: chance must not make one of them the winner."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bakeoff.config.slots import package_data_dir
from bakeoff.data.sources import fashion_mnist
from bakeoff.errors import DataError

#: Ranges a hair apart, so that the twins' runs differ by chance and by nothing else that matters.
TUNE = {
    "optimizer.lr": [
        {"for": {"optimizer": "adam"}, "low": 1e-4, "high": 1e-2, "log": True},
        {"for": {"optimizer": "adam_twin"}, "low": 1.1e-4, "high": 1.1e-2, "log": True},
    ]
}
FIXED = {
    "data": "fashion_mnist", "data.subset": 400, "data.batch_size": 64, "model": "alexnet_mini", "model.width": 0.125,
    "trainer.max_epochs": 4, "trainer.accelerator": "cpu",
}  # fmt: skip


@pytest.mark.slow
def test_neither_of_two_twins_wins(sheet: Callable[..., Path]) -> None:
    try:
        fashion_mnist(root=Path("data"), download=False)
    except DataError as error:
        pytest.skip(str(error))
    twin = Path("own/optimizer/adam_twin.yaml")
    twin.parent.mkdir(parents=True)
    twin.write_text((package_data_dir("conf") / "optimizer/adam.yaml").read_text())
    factors = {"optimizer": ["adam", "adam_twin"]}
    sheet("twins", factors=factors, tune=TUNE, fixed=FIXED, budget={"trials": 2}, confirm={"seeds": 6}, scales=...)
    line = [sys.executable, "-m", "bakeoff.commands.main", "sweep", "twins", "--config-dir", "own", "--json"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    scores = [tuple(planned_arm["scores"]) for planned_arm in told["cells"]]
    assert len(scores) == 2 and scores[0] != scores[1], "the twins' runs differ, or nothing is put to the test"
    assert told["report"]["winner"] is None and told["report"]["grade"] in ("tie", "under-powered"), told["report"]["verdict"]
