"""Runs, a store and sweeps that commit 168c1f1 wrote can still be reported, resumed and reproduced.

`old_artifacts.tar.xz` was made in the folder /tmp/fix. It holds a finished run, a run that was killed at step 15 and its undisturbed twin,
a sweep that was run to its end (`whole`) and one that was killed after two of its eight runs (`halted`), with the store of all of them.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bakeoff.run_files.provenance import collect_provenance

ARCHIVE = Path(__file__).with_name("old_artifacts.tar.xz")
RECORDED_FOLDER = "/tmp/fix"
FINISHED, INTERRUPTED, UNDISTURBED = "32a2219d5dee", "39683fc7c5f0", "5bd21da60757"
CURVES = ("train/", "val/", "best_", "lr", "epoch")


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The old artifacts in a folder of this machine, with their recorded addresses changed to it."""
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    for path in folder.rglob("*"):
        if path.suffix in {".json", ".jsonl", ".yaml", ".journal"}:
            path.write_text(path.read_text(encoding="utf-8").replace(RECORDED_FOLDER, str(folder)), encoding="utf-8")
    with sqlite3.connect(folder / "mlflow.db") as database:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri"), ("tags", "value"), ("params", "value")):
            database.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (RECORDED_FOLDER, str(folder)))
    return folder


def bakeoff(arguments: Sequence[str], folder: Path, *, exit_code: int = 0) -> str:
    """Run a bakeoff command in a folder and return its standard output."""
    finished = subprocess.run(
        [sys.executable, "-c", "import sys; from bakeoff.commands.main import main; sys.exit(main(sys.argv[1:]))", *arguments],
        cwd=folder,
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert finished.returncode == exit_code, finished.stdout + finished.stderr
    return finished.stdout


def run_dir(folder: Path, run_id: str) -> Path:
    """Return the directory of a run."""
    (path,) = folder.glob(f"runs/*/*-{run_id}")
    return path


def curves(journal: Path) -> dict[tuple[str, int], float]:
    """Return the values that a run determines, by metric and step."""
    values: dict[tuple[str, int], float] = {}
    for line in map(json.loads, journal.read_text(encoding="utf-8").splitlines()):
        if line["kind"] == "metrics":
            values |= {(key, line["step"]): value for key, value in line["values"].items() if key.startswith(CURVES)}
    return values


def numbers(summary: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Return some columns of the table of arms of a report."""
    return [{column: arm[column] for column in columns} for arm in json.loads(summary.read_text(encoding="utf-8"))["arms"]]


def test_fingerprints_are_those_that_were_recorded(extracted: Path) -> None:
    from bakeoff.config.compose import load_frozen
    from bakeoff.config.schema import fingerprint

    results = [path for path in extracted.glob("runs/*/*/result.json") if json.loads(path.read_text()).get("fingerprint")]
    assert len(results) > 8
    for path in results:
        run = load_frozen((path.parent / "config.yaml").read_text(encoding="utf-8"), origin=str(path.parent))
        assert fingerprint(run) == json.loads(path.read_text())["fingerprint"]


OLD_DEFAULTS = ("budget.studies=1", "budget.choose=best", "initializer.head=as_rest", "initializer.auto_gain=second_moment")
"""What a sweep file and the choices of that time meant where they said nothing."""


def test_plan_hashes_are_those_that_were_recorded(extracted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bakeoff.sweep.plan import make_plan

    monkeypatch.chdir(extracted)
    for name in ("whole", "halted"):
        (path,) = extracted.glob(f"runs/{name}-*/plan.json")
        assert make_plan(name, overrides=OLD_DEFAULTS).hash == json.loads(path.read_text(encoding="utf-8"))["hash"]


def test_an_old_store_is_reported_with_the_same_numbers(extracted: Path) -> None:
    (recorded,) = extracted.glob("reports/whole-*/summary.json")
    columns = ("block", "arm", "n", "mean", "low", "high", "sd", "validation", "tuned_score", "trials", "confirm_runs", "parameters")
    expected, verdict = numbers(recorded, columns), json.loads(recorded.read_text())
    bakeoff(["report", "whole", "--out", "again"], extracted)
    again = json.loads((extracted / "again" / "summary.json").read_text())
    assert numbers(extracted / "again" / "summary.json", columns) == expected
    assert (again["hash"], again["grade"], again["winner"]) == (verdict["hash"], verdict["grade"], verdict["winner"])
    assert "-20.02 to 22.84" in " ".join(again["details"])


def test_old_runs_are_listed(extracted: Path) -> None:
    import bakeoff as package

    table = package.runs(uri=f"sqlite:///{extracted / 'mlflow.db'}")
    assert {FINISHED, INTERRUPTED, UNDISTURBED} <= set(table["id"])


def is_recorded_cpu(run_dir: Path) -> bool:
    """Return whether this machine's CPU is the one that a run was trained on: bits are the same on one kind of CPU alone."""
    return bool(json.loads((run_dir / "provenance.json").read_text())["cpu"] == collect_provenance()["cpu"])


def losses(values: dict[tuple[str, int], float]) -> dict[tuple[str, int], float]:
    """Return the losses among the values of a run; one image that is classified otherwise moves an accuracy by a fortieth."""
    return {key: value for key, value in values.items() if key[0].endswith("loss")}


@pytest.mark.slow
def test_an_old_run_is_reproduced_bit_for_bit_or_closely_on_another_cpu(extracted: Path) -> None:
    logged = run_dir(extracted, FINISHED)
    if is_recorded_cpu(logged):
        assert "identical: all" in bakeoff(["reproduce", FINISHED], extracted)
        return
    output = bakeoff(["reproduce", FINISHED, "--tolerance", "0.03"], extracted)
    assert output.startswith(("within tolerance 0.03: ", "identical: all"))
    (again,) = extracted.glob("runs/reproductions/*/journal.jsonl")
    # Adam divides small gradients by their size, so that one rounded otherwise moves a weight: 4.4e-4 between an AMD and an Intel CPU.
    assert losses(curves(again)) == pytest.approx(losses(curves(logged / "journal.jsonl")), rel=0, abs=5e-3)


@pytest.mark.slow
def test_an_old_interrupted_run_resumes_to_the_values_of_its_twin(extracted: Path) -> None:
    resumed, twin = run_dir(extracted, INTERRUPTED), run_dir(extracted, UNDISTURBED)
    tolerance = 0.0 if is_recorded_cpu(resumed) else 1e-4
    bakeoff(["train", f"resume={INTERRUPTED}"], extracted)
    ends = [json.loads((path / "result.json").read_text()) for path in (resumed, twin)]
    assert curves(resumed / "journal.jsonl") == pytest.approx(curves(twin / "journal.jsonl"), rel=0, abs=tolerance)
    assert ends[0]["metrics"] == pytest.approx(ends[1]["metrics"], rel=0, abs=tolerance) and ends[0]["status"] == "finished"


@pytest.mark.slow
def test_an_old_halted_sweep_goes_on_where_it_stopped(extracted: Path) -> None:
    (folder,) = extracted.glob("runs/halted-*")
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*/result.json")}
    assert len(before) == 2
    output = bakeoff(["sweep", "halted", "workers=1", *OLD_DEFAULTS], extracted)
    assert [path for path in extracted.glob("runs/halted-*")] == [folder]
    results = [path for path in folder.glob("*/result.json") if not path.parent.name.startswith("summary")]
    assert len(results) == 8 and all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert "adam" in output and list(extracted.glob("reports/halted-*/index.html"))
