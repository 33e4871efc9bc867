"""`--more` queues the seeds of the plan's next analysis when the report asks for them: the same for all arms, never beyond the plan."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bakeoff.errors import BakeoffError, BusyError, PlanError
from bakeoff.sweep import extend, interim, leases
from bakeoff.sweep.leases import Owner
from bakeoff.sweep.plan import Plan
from bakeoff.sweep.runner import LOCK
from bakeoff.sweep.sweep_dir import Summary
from bakeoff.sweep.trial_queue import TrialQueue

Small = Callable[..., Plan]


def home(plan: Plan) -> Path:
    folder = Path("runs") / plan.title
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def finish(plan: Plan) -> list[tuple[str, int, int]]:
    """Decides everything that is open; gives (arm, study, seed) of the confirming runs."""
    queue, confirmed = TrialQueue(plan, folder=home(plan)), []
    while (lease := queue.lease(Owner.here())) is not None:
        if lease.stage == "confirm":
            confirmed.append((plan.planned_arms[lease.arm_index].arm, lease.study, lease.seed))
        queue.tell(lease, {"status": "finished", "metrics": {"val/accuracy": 0.5}, "seconds": 1.0})
    assert queue.over()
    return confirmed


def started(plan: Plan) -> Plan:
    Summary(plan, root=Path("runs"), uri="").end("FINISHED")
    return plan


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the report says."""
    said = {"kind": "under-powered"}
    monkeypatch.setattr(
        extend, "current_report", lambda plan: SimpleNamespace(verdict=SimpleNamespace(grade=said["kind"], headline="So it stands."))
    )
    return said


@pytest.mark.parametrize(
    ("confirm", "first", "analyses"),
    [
        ({}, 10, [10, 20, 30, 40, 50]),
        ({"seeds": 4}, 4, [4, 8, 12, 16, 20]),
        ({"seeds": 4, "max_seeds": 8}, 4, [4, 8]),
        ({"seeds": 4, "max_seeds": 4}, 4, [4]),
        ({"seeds": 4, "max_seeds": 11}, 4, [4, 8]),
        ({"seeds": 0}, 0, []),
        ({"seeds": [7, 3]}, 2, [2, 4, 6, 8, 10]),
    ],
)
def test_analyses_are_multiples_of_the_first_up_to_the_most(small: Small, confirm: dict[str, Any], first: int, analyses: list[int]) -> None:
    plan = small(confirm=confirm)
    written = json.loads(json.dumps(plan.tree()))["confirm"]
    assert written["looks"] == analyses and len(written["seeds"]) == first
    assert written["max_seeds"] == len(written["pool"]) == (analyses[-1] if analyses else 0)
    assert written["pool"][:first] == written["seeds"] and len(set(written["pool"])) == len(written["pool"])


def test_the_most_must_hold_the_first_and_is_part_of_the_plan(small: Small) -> None:
    with pytest.raises(PlanError, match=r"confirm\.max_seeds=1: must be confirm\.seeds=2 or more"):
        small(confirm={"seeds": 2, "max_seeds": 1})
    assert small("confirm.max_seeds=4").hash != small().hash == small("confirm.max_seeds=10").hash
    assert small(confirm={"seeds": [9, 4], "max_seeds": 4}).spec.confirm.pool == (9, 4, 10, 11)


def test_more_queues_one_analysis_for_all_arms_and_ends_with_the_plan(small: Small, asked: dict[str, Any]) -> None:
    plan = started(small(confirm={"seeds": 2, "max_seeds": 6}))
    done = finish(plan)
    for seeds in ((1003, 1004), (1005, 1006)):
        queued = extend.extend_sweep(plan)
        assert queued.seeds == seeds and f"queued 4 runs: seeds {seeds[0]} to {seeds[1]} for 2 arms" in queued.line
        with pytest.raises(
            PlanError, match=r"--more: 4 runs of the current analysis are still to come; bakeoff sweep small runs them first"
        ):
            extend.extend_sweep(plan)
        new = finish(plan)
        assert sorted((arm, seed) for arm, _, seed in new) == [(arm, seed) for arm in ("adam", "momentum") for seed in seeds]
        done += new
    last = extend.extend_sweep(plan)
    assert last.seeds == () and "the plan ends at confirm.max_seeds=6: So it stands." in last.line
    assert Counter(seed for *_, seed in done) == dict.fromkeys(range(1001, 1007), 2) and finish(plan) == []
    assert {study for _, study, _ in done} == {0}


@pytest.mark.parametrize("kind", ["supported", "tie", "unknown"])
def test_nothing_is_asked_for_where_more_seeds_decide_nothing(small: Small, asked: dict[str, Any], kind: str) -> None:
    plan = started(small())
    finish(plan)
    asked["kind"] = kind
    queued = extend.extend_sweep(plan)
    assert queued.seeds == () and queued.line == f"{plan.title}: nothing is asked for after 2 seeds: So it stands."
    assert interim.reached(plan, folder=home(plan)).seeds == 2 and not (home(plan) / interim.LOOKS).exists()


def test_more_is_for_the_same_plan_that_has_been_run(small: Small, asked: dict[str, Any]) -> None:
    plan = small()
    with pytest.raises(PlanError, match="has not been run yet; bakeoff sweep small runs it"):
        extend.extend_sweep(plan)
    assert not Path("runs").exists()
    started(plan)
    with pytest.raises(PlanError, match="10 runs of the current analysis"):
        extend.extend_sweep(plan)
    finish(plan)
    other = small("budget.trials=4")
    with pytest.raises(PlanError, match=rf"{other.title} has not been run yet.*budget.trials: 3 -> 4"):
        extend.extend_sweep(other)
    with pytest.raises(PlanError, match="no confirming stage"):
        extend.extend_sweep(started(small("confirm.seeds=0")))
    with leases.exclusive_lock(home(plan) / LOCK, name="this"), pytest.raises(BusyError):
        extend.extend_sweep(plan)
    assert extend.extend_sweep(plan).seeds == (1003, 1004)


def test_a_damaged_count_is_told(small: Small) -> None:
    plan = small()
    (home(plan) / interim.LOOKS).write_text("{")
    with pytest.raises(BakeoffError, match=r"looks\.json: damaged"):
        TrialQueue(plan, folder=home(plan))
    (home(plan) / interim.LOOKS).write_text('{"seeds": 3}')
    with pytest.raises(BakeoffError, match="seeds=3: not an analysis of the plan; analyses: 2, 4"):
        TrialQueue(plan, folder=home(plan))


TINY = ("data.subset=400", "data.batch_size=32", "trainer.accelerator=cpu", "tracking.system_every=60", "workers=2")


@pytest.mark.slow
def test_a_real_sweep_is_planned_run_and_asked_for_more(small: Small) -> None:
    import subprocess

    def line(*words: str) -> tuple[int, str, str]:
        command = [sys.executable, "-m", "bakeoff.commands.main", "sweep", "small", *TINY, *words]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
        return ended.returncode, ended.stdout, ended.stderr

    small(budget={"trials": 2}, confirm={"seeds": 2, "max_seeds": 4})
    code, out, err = line("--plan", "--json")
    told = json.loads(out)
    assert code == 0 and 0 < told["cost"]["seconds"] < 300 and told["runs"] == 8, err
    assert told["warning"].startswith("margin=0.005: 355 test images cannot show so little"), "from the data themselves"
    assert [planned_arm["steps"] for planned_arm in told["cells"]] == [11, 11] and told["cells"][0]["parameters"] == told["cells"][1][
        "parameters"
    ] > 0
    assert sorted(path.name for path in Path().iterdir()) == ["sweeps"], "a plan leaves nothing behind"
    code, out, err = line("--more")
    assert (code, out) == (2, "") and "has not been run yet" in err and not Path("runs").exists()
    code, out, err = line("--json")
    first = json.loads(out)
    assert code == 0 and first["hash"] == told["hash"] and [planned_arm["confirmed"] for planned_arm in first["cells"]] == [2, 2], err
    kind = first["report"]["verdict"]["kind"] if isinstance(first["report"].get("verdict"), dict) else first["report"]["grade"]
    code, out, err = line("--more", "--json")
    if kind == "under-powered":
        assert code == 0 and [planned_arm["confirmed"] for planned_arm in json.loads(out)["cells"]] == [4, 4] and "queued 4 runs" in err
    else:
        assert code == 0 and out == "" and "nothing is asked for after 2 seeds" in err
