"""A full disk pauses what is at work: nothing counts as failed, and the same line goes on when there is room again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Finish = Callable[..., tuple[int, str, str]]
Resize = Callable[[str], None]
TINY = ("model.width=0.05", "data.subset=320", "data.batch_size=32", "trainer.threads=1", "trainer.accelerator=cpu")


def statuses() -> list[str]:
    """The status of every run that has a result."""
    return [json.loads(path.read_text())["status"] for path in Path("runs").glob("*/*/result.json")]


@pytest.mark.slow
@pytest.mark.parametrize("size", ["700k", "1500k", "4m", "9m"])
def test_a_sweep_on_a_full_disk_pauses_and_goes_on(finish: Finish, small_disk: Resize, size: str) -> None:
    small_disk(size)
    code, out, err = finish("sweep", "small", "workers=2")
    assert code == 75 and out == "", err
    (line,) = [line for line in err.splitlines() if line.startswith("bakeoff:")]
    assert f"paused, and nothing is counted as failed: the disk at {Path.cwd()}/runs cannot be written" in line
    assert "bakeoff sweep small workers=2 goes on" in line and "Traceback" not in err
    assert "failed" not in statuses()
    small_disk("200m")
    code, _, err = finish("sweep", "small", "workers=2")
    assert code == 0, err
    assert len(statuses()) == 8 and "failed" not in statuses()


@pytest.mark.slow
def test_a_run_on_a_full_disk_names_the_way_back(finish: Finish, small_disk: Resize) -> None:
    small_disk("200k")
    code, _, err = finish("train", *TINY)
    (folder,) = Path("runs").glob("*/*")
    run = folder.name.rpartition("-")[2]
    assert code == 75 and "Traceback" not in err, err
    assert f"bakeoff: run {run} was stopped by the machine: " in err and f"bakeoff train resume={run} continues it" in err
    assert "No space left on device" in err and statuses() == []
    small_disk("100m")
    code, _, err = finish("train", f"resume={run}")
    assert code == 0 and statuses() == ["finished"], err
