"""Real processes, real signals, a trial that trains nothing: every point ends once, and nothing is left running."""

from __future__ import annotations

import contextlib
import functools
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from bakeoff.errors import BakeoffError, MachineError
from bakeoff.run_files.run_dir import RunDir, iter_run_dirs
from bakeoff.sweep import runner, worker
from bakeoff.sweep.plan import Plan
from bakeoff.sweep.progress import SweepProgress
from bakeoff.sweep.resources import Resources
from bakeoff.sweep.trial_queue import TrialQueue
from bakeoff.training import processes

Small = Callable[..., Plan]
TRIAL = "fake_trial:execute"
LINE = """
import sys, signal
from pathlib import Path
from bakeoff.training import processes
from bakeoff.sweep.runner import run_sweep
from bakeoff.sweep.resources import Resources
from bakeoff.sweep.plan import make_plan
signal.signal(signal.SIGINT, signal.default_int_handler)
if __name__ == "__main__":
    context = processes.forkserver_context(threads=1, preload=("bakeoff.sweep.trial_queue",))
    plan = make_plan("small", overrides=sys.argv[1:])
    try:
        print(len(run_sweep(plan, context=context, resources=Resources(2, 1, None), trial="fake_trial:execute").arms_progress))
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.fixture(scope="module")
def server() -> Any:
    return processes.forkserver_context(threads=1, preload=("bakeoff.sweep.trial_queue",))


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No process of a trial outlives its test."""
    yield
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and any(psutil.pid_exists(pid) for pid in begun().values()):
        time.sleep(0.05)
    assert not [pid for pid in begun().values() if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]


def begun() -> dict[str, int]:
    """Name -> the last process that began it."""
    return {name: int(pid) for word, name, pid in attempts() if word == "begin"}


def at_work() -> list[int]:
    """Processes that have begun a trial and not ended it."""
    ended = {pid for word, _, pid in attempts() if word == "end"}
    return [pid for pid in begun().values() if str(pid) not in ended and psutil.pid_exists(pid)]


def attempts() -> list[list[str]]:
    path = Path("runs/attempts.log")
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def fake(**how: Any) -> None:
    Path("runs").mkdir(exist_ok=True)
    # Replaced whole: a trial that begins meanwhile reads the old or the new.
    Path("runs/fake.tmp").write_text(json.dumps(how))
    os.replace("runs/fake.tmp", "runs/fake.json")


def work(plan: Plan, server: Any, *, workers: int = 2) -> list[Any]:
    root = Path("runs")
    (root / plan.title).mkdir(parents=True, exist_ok=True)
    with SweepProgress(plan, workers=workers) as display:
        return runner.work(plan, resources=Resources(workers, 1, None), root=root, uri="", context=server, trial=TRIAL, display=display)


def check_whole(plan: Plan) -> None:
    """As many told trials, and as many folders with a result, as the plan has points, and every point once."""
    queue = TrialQueue(plan, folder=Path("runs") / plan.title)
    assert queue.over()
    planned = {(stage, index): queue.planned(stage, index) for stage, index in queue.studies}
    assert {key: len(study.trials) for key, study in queue.studies.items()} == planned
    found = [folder for folder in iter_run_dirs(Path("runs")) if folder.read_job().kind in ("trial", "confirm")]
    assert len(found) == plan.runs and all(folder.read_result() for folder in found)
    ended = Counter(name for word, name, _ in attempts() if word == "end")
    assert all(count == 1 for count in ended.values()), ended


def test_two_workers_run_a_sweep(small: Small, server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    plan = small()
    arms_progress = work(plan, server)
    check_whole(plan)
    assert [(s.done, s.confirmed, s.failed, s.diverged) for s in arms_progress] == [(3, 2, 0, 0)] * 2
    err = capsys.readouterr().err
    assert err.count("finished") == plan.runs and "[10/10]" in err
    kept = {RunDir(path.parents[1]).read_job().name for path in Path("runs").rglob("last.ckpt")}
    assert kept == {"momentum-s1001", "momentum-s1002", "adam-s1001", "adam-s1002"}, "a tuning trial's go when it is decided"
    before = attempts()
    assert work(plan, server) == arms_progress and attempts() == before, "a sweep that is done trains nothing again"


def test_failing_and_diverging_runs_are_kept_and_the_sweep_goes_on(small: Small, server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    fake(fail=["adam-p01"], diverge=["momentum-p00", "adam-s1002"], nan=["momentum-p02"])
    plan = small()
    momentum, adam = work(plan, server)
    check_whole(plan)
    assert (momentum.done, momentum.diverged, adam.failed, adam.confirm_diverged) == (3, 2, 1, 1)
    assert "adam-p01: failed" in (err := capsys.readouterr().err) and "(as asked)" in err
    assert begun()["momentum-s1001"], "the one setting that trained is confirmed"


def test_a_process_that_crashes_is_tried_three_times_and_its_reason_is_named(small: Small, server: Any) -> None:
    fake(segv=["adam-p01"], exit=["momentum-p01"])
    plan = small()
    momentum, adam = work(plan, server)
    assert momentum.failed == adam.failed == 1
    tries = Counter(name for word, name, _ in attempts() if word == "begin")
    assert tries.pop("adam-p01") == tries.pop("momentum-p01") == 3 and set(tries.values()) == {1}
    assert "exit code 0" in (reason := " ".join(momentum.reasons)) and "no reason at all" in reason and "in each of 3 attempts" in reason
    assert "SIGSEGV" in " ".join(adam.reasons), "a crash that prints nothing has a reason, too"
    check_whole(plan)


def test_what_the_machine_kills_is_no_outcome_of_its_arm(small: Small, server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    fake(die=["adam-p01"], memory=["momentum-p01"])
    plan = small()
    with pytest.raises(MachineError, match=r"the machine stopped (adam|momentum)-p01: .* and 1 more, 3 times each"):
        work(plan, server)
    err = capsys.readouterr().err
    assert "adam-p01: waits  (its process ended by SIGKILL (out of memory?))" in err and "momentum-p01: waits  (out of memory" in err
    tries = Counter(name for word, name, _ in attempts() if word == "begin")
    assert tries.pop("adam-p01") == tries.pop("momentum-p01") == 3
    assert len(tries) == 4 and set(tries.values()) == {1}, "the other trials are run meanwhile, and the confirming runs wait"
    assert not list(Path("runs").glob("*/*-p01-*/result.json"))
    fake()
    assert [(arm.done, arm.failed, arm.confirmed) for arm in work(plan, server)] == [(3, 0, 2)] * 2, "the next command tries again"
    check_whole(plan)


def test_a_trial_that_makes_no_step_is_killed_tried_again_and_named(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(hang=["adam-p01"])
    plan = small()
    (Path("runs") / plan.title).mkdir(parents=True)
    monkeypatch.setattr("bakeoff.sweep.step_watch.FLOOR", 2.0)
    monkeypatch.setattr("bakeoff.sweep.step_watch.FACTOR", 1.0)
    monkeypatch.setattr("bakeoff.sweep.step_watch.POLL", 0.1)
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=worker.serve, args=(worker.WorkerSpec(plan, Path("runs"), "", 1, None, TRIAL), there))
    process.start()
    there.close()
    events = []
    with contextlib.suppress(EOFError):
        while True:
            events.append(here.recv())
    process.join()
    statuses = [(event["status"], event["reason"]) for event in events if event["name"] == "adam-p01"]
    assert statuses == [("requeued", "no step for 2 s"), ("failed", "no step for 2 s, in each of 2 attempts")]
    tries = Counter(name for word, name, _ in attempts() if word == "begin")
    assert tries.pop("adam-p01") == 2 and set(tries.values()) == {1}, "the worker goes on with the others"
    check_whole(plan)


def test_the_longest_step_so_far_sets_the_limit_and_a_frozen_worker_does_not_count(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    from bakeoff.sweep.step_watch import FACTOR, FLOOR, POLL, START_UP, StepWatch

    now, beat, run_dir = [0.0], [0], RunDir(Path("run"))
    monkeypatch.setattr("bakeoff.sweep.step_watch.time.monotonic", lambda: now[0])
    monkeypatch.setattr(RunDir, "last_beat", lambda self: beat[0])
    steps = StepWatch(run_dir, small().planned_arms[0].run)

    def silence(seconds: float) -> float | None:
        end = now[0] + seconds
        while now[0] < end and steps.overdue() is None:
            now[0] += POLL
        return steps.overdue()

    assert silence(START_UP - 5) is None
    for _ in range(3):
        beat[0] += 1
        assert silence(20) is None
    now[0] += 10_000
    assert silence(0) is None, "the machine slept, or the worker was stopped"
    beat[0] += 1
    assert silence(FACTOR * 20) is None and silence(FACTOR * 10) is not None and FACTOR * 20 > FLOOR


def test_an_interrupted_trial_whose_config_is_gone_is_restored_from_the_plan(
    small: Small, server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    from bakeoff.sweep.trials import TrialLease, folder_of

    plan = small()
    lease = TrialLease("tune", 0, 0, {"optimizer.lr": plan.planned_arms[0].points[0]["optimizer.lr"]}, 0, 1, 0)
    folder = folder_of(plan, lease, root=Path("runs"), threads=1, uri="")
    texts = folder.config.read_text(), folder.job.read_text()
    folder.config.unlink()
    folder.job.unlink()
    work(plan, server)
    check_whole(plan)
    assert (folder.config.read_text(), folder.job.read_text()) == texts
    assert "momentum-p00: restored from the plan  (config.yaml and job.json of the interrupted run was gone)" in capsys.readouterr().err


def test_a_killed_worker_s_point_is_taken_up_once(small: Small, server: Any) -> None:
    fake(sleep=0.5)
    plan = small()
    killed: list[int] = []

    def strike() -> None:
        for seen in (1, 4):
            wait_for(functools.partial(begun_at_least, seen))
            wait_for(lambda: bool(at_work()))
            killed.append(psutil.Process(at_work()[-1]).ppid())
            os.kill(killed[-1], signal.SIGKILL)

    thread = threading.Thread(target=strike)
    thread.start()
    work(plan, server)
    thread.join()
    check_whole(plan)
    assert len(set(killed)) == 2
    tries = Counter(name for word, name, _ in attempts() if word == "begin")
    assert sorted(tries.values()) == [1] * 8 + [2] * 2, "two points began twice, the rest once"


def test_a_sweep_gives_up_when_its_workers_keep_dying(small: Small, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = small()
    (Path("runs") / plan.title).mkdir(parents=True)
    monkeypatch.setattr("bakeoff.sweep.worker.serve", os.abort)
    with pytest.raises(BakeoffError, match="workers died in a row"), SweepProgress(plan, workers=2) as display:
        runner.work(plan, resources=Resources(2, 1, None), root=Path("runs"), uri="", context=server, trial=TRIAL, display=display)


def test_a_child_s_tree_goes_down_with_its_parent(small: Small) -> None:
    fake(sleep=60)
    script = Path("parent.py")
    script.write_text(
        "import sys, time\nfrom pathlib import Path\nfrom bakeoff.training import processes\n"
        "if __name__ == '__main__':\n"
        "    context = processes.forkserver_context(threads=1, preload=())\n"
        f"    context.Process(target=processes.child_main, args=(sys.argv[1], {TRIAL!r})).start()\n    time.sleep(60)\n"
    )
    from bakeoff.sweep.trials import TrialLease, folder_of

    plan = small()
    folder = folder_of(plan, TrialLease("tune", 0, 0, {"optimizer.lr": 0.1}, 0, 1, 0), root=Path("runs"), threads=1, uri="")
    parent = subprocess.Popen([sys.executable, str(script), str(folder.path)])
    wait_for(lambda: bool(begun()))
    assert folder.busy() and os.getsid(begun()["momentum-p00"]) == begun()["momentum-p00"], "it leads a session of its own"
    parent.kill()
    parent.wait()
    wait_for(lambda: not folder.busy(), seconds=3)


def begun_at_least(count: int) -> bool:
    return sum(word == "begin" for word, _, _ in attempts()) >= count


def wait_for(reached: Callable[[], bool], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def line(*words: str) -> subprocess.Popen[str]:
    Path("line.py").write_text(LINE)
    command = [sys.executable, "line.py", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


@pytest.mark.slow
def test_ctrl_c_stops_in_seconds_and_the_same_line_goes_on(small: Small) -> None:
    fake(sleep=2.5)
    plan = small()
    first = line()
    wait_for(lambda: len([words for words in attempts() if words[0] == "end"]) >= 2)
    wait_for(lambda: len(begun()) >= 4)
    # Trials that begin from now on outlast the second command, however slowly it starts.
    fake(sleep=120)
    # A second command beside it is refused, and harms nothing.
    second = line()
    _, told = second.communicate(timeout=60)
    assert "is being run by pid" in told and second.returncode == 1
    began = time.monotonic()
    os.killpg(first.pid, signal.SIGINT)  # as a terminal does: to every process of the group
    first.communicate(timeout=30)
    assert first.returncode == 130 and time.monotonic() - began < 8
    running = [words for words in attempts() if words[0] == "begin"]
    stopped = [
        RunDir(folder.path)
        for folder in iter_run_dirs(Path("runs"))
        if folder.read_result() is None and folder.read_job().kind != "summary"
    ]
    assert stopped and all('"KILLED"' in folder.journal.read_text() and not folder.busy() for folder in stopped)
    ended = [words for words in attempts() if words[0] == "end"]
    fake(sleep=0.01)
    third = line()
    out, err = third.communicate(timeout=120)
    assert third.returncode == 0 and out.strip() == "2", err
    check_whole(plan)
    tries = Counter(name for word, name, _ in attempts() if word == "begin")
    assert sum(tries.values()) == plan.runs + len(running) - len(ended), "only what was stopped began again"
    check_store(plan)


def check_store(plan: Plan) -> None:
    """The store has one run a point, all finished, and the summary with the plan and the report."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{Path.cwd()}/mlflow.db")
    experiment = client.get_experiment_by_name(plan.title)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    assert Counter(run.data.tags["kind"] for run in runs) == {"trial": plan.trials, "confirm": plan.runs - plan.trials, "summary": 1}
    assert {run.info.status for run in runs} == {"FINISHED"}
    (summary,) = [run for run in runs if run.data.tags["kind"] == "summary"]
    assert summary.data.tags["sweep.hash"] == plan.hash
    files = {item.path for item in client.list_artifacts(summary.info.run_id)}
    assert files == {"plan.json", "report"}
    assert "report/index.html" in {item.path for item in client.list_artifacts(summary.info.run_id, "report")}


def test_a_changed_plan_is_a_sibling_and_says_so(small: Small) -> None:
    from bakeoff.sweep.sweep_dir import Summary, siblings

    root = Path("runs")
    first = small()
    assert siblings(first, root=root) == []
    Summary(first, root=root, uri="").end("FINISHED")
    assert siblings(first, root=root) == []
    (note,) = siblings(small("trainer.max_epochs=2"), root=root)
    assert first.title in note and "fixed.trainer.max_epochs: 1 -> 2" in note


def test_a_resumed_sweep_may_have_another_store(small: Small) -> None:
    from bakeoff.sweep.sweep_dir import Summary

    plan = small()
    summary = Summary(plan, root=Path("runs"), uri="http://127.0.0.1:9")
    summary.folder.readdress("sqlite:///other.db")
    assert summary.folder.read_job().tracking_uri == "sqlite:///other.db"
    assert summary.folder.read_job().tags["sweep.hash"] == plan.hash
    summary.end("FINISHED")
    summary.end("FAILED")
    assert summary.folder.journal.read_text().count('"kind": "end"') == 1
