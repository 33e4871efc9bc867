"""Whole lines from the shell, with real training on digits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from bakeoff.run_files.run_dir import iter_run_dirs
from bakeoff.sweep.plan import Plan

Small = Callable[..., Plan]
TINY = ("data.subset=400", "data.batch_size=32", "trainer.accelerator=cpu")


def start(*words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bakeoff.commands.main", "sweep", "small", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def sweep(*words: str) -> tuple[int, str, str]:
    process = start(*words)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


@pytest.mark.parametrize(
    "words", [("optimizer=lion",), ("metric.name=val/f1",), ("trainer.max_epochs=few",), ("studies", "--plan"), ("studys", "--more")]
)
def test_a_bad_line_ends_at_once_and_leaves_nothing(small: Small, words: tuple[str, ...]) -> None:
    small()
    began = time.monotonic()
    code, out, err = sweep(*words)
    assert code == 2 and out == "" and err.count("\n") == 1 and words[0].partition("=")[0].split(".")[-1] in err
    assert time.monotonic() - began < 5
    assert sorted(path.name for path in Path().iterdir()) == ["sweeps"]


@pytest.mark.slow
@pytest.mark.parametrize("words", [("data=fashion_mnist", "data.root=nowhere"), ("initializer.gain=big",)])
def test_what_only_torch_and_the_data_can_tell_is_told_before_any_folder_is_made(small: Small, words: tuple[str, ...]) -> None:
    small()
    code, out, err = sweep(*words)
    assert code == 2 and out == "" and err.count("\n") == 1, err
    assert not Path("runs").exists() and not Path("mlflow.db").exists()


@pytest.mark.slow
def test_a_sweep_survives_the_kill_of_a_worker_and_of_itself(small: Small) -> None:
    plan = small(*TINY, "trainer.max_epochs=3")
    words = (*TINY, "trainer.max_epochs=3", "workers=2", "--json")
    first = start(*words)
    trials: set[int] = set()
    while not (trials := {pid for pid in descendants(first.pid) if is_trial(pid)}):
        time.sleep(0.05)
    os.kill(psutil.Process(max(trials)).ppid(), signal.SIGKILL)
    while len(results()) < 3:
        time.sleep(0.05)
    first.kill()  # the command itself, too
    first.communicate()
    kept = results()
    time.sleep(1.0)
    code, out, err = sweep(*words)
    assert code == 0, err
    told: dict[str, Any] = json.loads(out)
    assert [(planned_arm["done"], planned_arm["confirmed"], planned_arm["failed"]) for planned_arm in told["cells"]] == [(3, 2, 0)] * 2
    assert {name: text for name, text in results().items() if name in kept} == kept, "no finished run is run again"
    check_store(plan)


def check_store(plan: Plan) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{Path.cwd()}/mlflow.db")
    experiment = client.get_experiment_by_name(plan.title)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    assert len(runs) == plan.runs + 1 and {run.info.status for run in runs} == {"FINISHED"}
    ids = [run.data.tags["bakeoff.id"] for run in runs]
    assert len(set(ids)) == len(ids)
    confirmed = [run for run in runs if run.data.tags["kind"] == "confirm"]
    assert all("test/accuracy" in run.data.metrics for run in confirmed)
    assert all("test/accuracy" not in run.data.metrics for run in runs if run.data.tags["kind"] == "trial")


def results() -> dict[str, str]:
    return {folder.path.name: folder.result.read_text() for folder in iter_run_dirs(Path("runs")) if folder.result.exists()}


def descendants(pid: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def is_trial(pid: int) -> bool:
    """Whether a process leads a session: a trial does, a worker does not. The writer does, too, and is none."""
    try:
        return os.getsid(pid) == pid and "bakeoff.training.writer" not in psutil.Process(pid).cmdline()
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False


@pytest.mark.slow
def test_a_trial_on_two_devices_is_a_trial_like_any_other(small: Small) -> None:
    small()
    words = (*TINY, "optimizer=adam", "budget.trials=1", "confirm.seeds=1", "--json")
    code, out, err = sweep(*words, "trainer=ddp", "trainer.devices=2", "workers=1")
    assert code == 0, err
    two = json.loads(out)
    code, out, err = sweep(*words, "tracking.folder=other", "tracking.uri=sqlite:///other.db", "workers=1")
    one = json.loads(out)
    assert two["hash"] == one["hash"], "devices are no part of a plan"
    assert two["cells"][0]["done"] == two["cells"][0]["confirmed"] == 1
    assert two["cells"][0]["best"] == pytest.approx(one["cells"][0]["best"], abs=0.1), "the same global batch, the same data"
    logs = [folder.log.read_text() for folder in iter_run_dirs(Path("runs")) if folder.log.exists()]
    assert len(logs) == 2


# Two arms that learn enough to be compared, at every rate.
LEARNERS: dict[str, Any] = {
    "factors": {"optimizer": ["adam", "nadam"]},
    "tune": {"optimizer.lr": {"low": 8e-4, "high": 1.2e-3, "log": True}},
    "fixed": {"data": "digits", "model": "alexnet_mini", "trainer.max_epochs": 4},
}


def planned_runs(plan: Plan) -> list[Any]:
    """The runs of a sweep as the store has them, and its summary run last."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{Path.cwd()}/mlflow.db")
    experiment = client.get_experiment_by_name(plan.title)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    assert {run.info.status for run in runs} == {"FINISHED"}
    return sorted(runs, key=lambda run: run.data.tags["kind"] == "summary")


def study_counts(plan: Plan) -> dict[str, Counter[tuple[str, str]]]:
    """Kind -> (arm, study) -> runs, all of which are different ones, and the studies' tuning runs had a split each."""
    *runs, summary = planned_runs(plan)
    assert len({run.data.tags["bakeoff.id"] for run in runs}) == len(runs) == len(results())
    splits = {(run.data.tags["study"], run.data.params["data.split_seed"]) for run in runs if run.data.tags["kind"] == "trial"}
    studies = {study for study, _ in splits}
    assert len(splits) == len(studies) == len({split for _, split in splits}) == int(summary.data.tags["sweep.studies"])
    by_kind: dict[str, Counter[tuple[str, str]]] = {"trial": Counter(), "confirm": Counter()}
    for run in runs:
        by_kind[run.data.tags["kind"]][run.data.tags["arm"], run.data.tags["study"]] += 1
    seeds = Counter(run.data.tags["seed"] for run in runs if run.data.tags["kind"] == "confirm")
    assert set(seeds.values()) == {2}, "both arms share every seed"
    return by_kind


def extended(plan: Plan, *words: str, more: tuple[str, ...], line: str) -> None:
    """Run `--more`, then the plain line, which finds nothing left; neither trains a run again."""
    before = results()
    code, _, err = sweep(*words, *more)
    assert code == 0 and line in err, err
    after = results()
    assert {name: text for name, text in after.items() if name in before} == before and len(after) > len(before)
    code, out, err = sweep(*words)
    assert code == 0 and results() == after, err
    assert [path.name for path in Path("runs").glob("small-*")] == [plan.title]
    assert sum(arm["done"] + arm["confirmed"] for arm in json.loads(out)["cells"]) == len(after)


@pytest.mark.slow
def test_a_growing_plan_tunes_new_studies_for_its_next_analysis(small: Small) -> None:
    words = (*TINY, "budget.trials=1", "budget.studies=2", "workers=2", "--json")
    plan = small(*words[:-2], **LEARNERS)
    code, _, err = sweep(*words)
    assert code == 0 and "margin=0.005: 355 test images cannot show so little" in err, err
    arms = ("adam", "nadam")
    assert study_counts(plan) == {kind: Counter({(arm, study): 1 for arm in arms for study in "01"}) for kind in ("trial", "confirm")}
    # Two studies of an arm leave every difference open.
    extended(plan, *words, more=("--more",), line="queued 2 studies: 2 tuning and 2 confirm runs for each of 2 arms and blocks")
    assert study_counts(plan) == {kind: Counter({(arm, study): 1 for arm in arms for study in "0123"}) for kind in ("trial", "confirm")}
    assert planned_runs(plan)[-1].data.tags["sweep.seeds"] == "4"


@pytest.mark.slow
def test_a_plan_of_one_study_is_given_more_studies(small: Small) -> None:
    words = (*TINY, "budget.trials=1", "workers=2", "--json")
    plan = small(*words[:-2], **LEARNERS)
    code, _, err = sweep(*words)
    assert code == 0, err
    extended(plan, *words, more=("--more", "studies"), line="queued 4 studies: 4 tuning and 4 confirm runs for each of 2 arms and blocks")
    counts = study_counts(plan)
    arms = ("adam", "nadam")
    assert counts["trial"] == {(arm, study): 1 for arm in arms for study in "01234"}
    assert counts["confirm"] == {(arm, study): 2 if study == "0" else 1 for arm in arms for study in "01234"}
    assert planned_runs(plan)[-1].data.tags["sweep.seeds"] == "2"
