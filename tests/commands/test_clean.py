"""`bakeoff clean` removes the checkpoints of runs that have ended, and no others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bakeoff.commands.main import main
from bakeoff.config.compose import compose
from bakeoff.run_files.run_dir import RunDir
from bakeoff.training.run_lifecycle import create_run_dir, train_run

SMALL = ["model.width=0.05", "data.subset=320", "data.batch_size=32", "trainer.max_epochs=3", "trainer.threads=1", "trainer.log_every=3"]


def checkpoints(folder: Path) -> set[str]:
    return {path.name for path in (folder / "checkpoints").iterdir()}


def test_checkpoints_of_ended_runs_are_listed_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = train_run(compose(SMALL)).run_dir
    stopped = create_run_dir(compose([*SMALL, "seed=2"]))
    (stopped.checkpoints / "last.ckpt").write_bytes(b"unfinished")
    everything = checkpoints(ended)
    size = sum(path.stat().st_size for path in (ended / "checkpoints").iterdir())
    assert everything == {"last.ckpt", "last-1.ckpt", "best.ckpt"}
    capsys.readouterr()

    assert main(["clean", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert f"would remove {size / 1e6:,.1f} MB of checkpoints of 1 runs" in out and "best.ckpt, last-1.ckpt, last.ckpt" in out
    assert RunDir(ended).read_job().id in out and checkpoints(ended) == everything

    assert main(["clean", "--keep", "best", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["runs"]
    assert row["files"] == ["last-1.ckpt", "last.ckpt"] and row["status"] == "finished"
    assert checkpoints(ended) == {"best.ckpt"}

    assert main(["clean"]) == 0 and checkpoints(ended) == set()
    assert checkpoints(stopped.path) == {"last.ckpt"}, "a stopped run goes on from its checkpoint"


def test_a_run_that_the_store_lags_behind_keeps_its_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = train_run(compose(SMALL)).run_dir
    RunDir(ended).cursor.unlink()
    assert main(["clean"]) == 0
    assert "1 runs keep theirs" in capsys.readouterr().err and len(checkpoints(ended)) == 3


def test_a_run_without_its_config_cannot_go_on_and_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    stopped = create_run_dir(compose(SMALL))
    stopped.config.unlink()
    assert main(["train", f"resume={stopped.read_job().id}"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "config.yaml: cannot be read, and the run cannot go on without it" in err
