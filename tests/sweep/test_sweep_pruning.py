"""A pruner stops trials of one arm by that arm's own, never early, and is found out by audits that are counted exactly."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bakeoff.errors import PlanError
from bakeoff.run_files.journal import Journal, read_journal
from bakeoff.run_files.run_dir import iter_run_dirs
from bakeoff.sweep import runner
from bakeoff.sweep.leases import Owner
from bakeoff.sweep.metric_tail import MetricTail
from bakeoff.sweep.plan import Plan
from bakeoff.sweep.progress import SweepProgress
from bakeoff.sweep.resources import Resources
from bakeoff.sweep.trial_queue import TrialQueue
from bakeoff.sweep.trials import TrialLease
from bakeoff.training import processes

Small = Callable[..., Plan]
EPOCHS = 4


def home(plan: Plan) -> Path:
    folder = Path("runs") / plan.title
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def tune(
    plan: Plan, finals: dict[int, list[float]], curves: dict[tuple[int, int], list[float]] | None = None
) -> tuple[TrialQueue, list[TrialLease]]:
    """Runs every tuning point with the final value that is given for it, reporting a straight line unless a curve is given."""
    queue, audits = TrialQueue(plan, folder=home(plan)), []
    while (lease := queue.lease(Owner.here())) is not None:
        if lease.stage != "tune":
            audits.append(lease)
            final = finals[lease.arm_index][lease.of] if lease.stage == "audit" else 0.5
            queue.tell(lease, result("finished", final))
            continue
        final = finals[lease.arm_index][lease.point]
        curve = (curves or {}).get((lease.arm_index, lease.point)) or [final * epoch / EPOCHS for epoch in range(1, EPOCHS + 1)]
        at = next((e for e, value in enumerate(curve, 1) if queue.should_prune(lease, epoch=e, value=value, epochs=EPOCHS)), None)
        queue.tell(lease, result("finished", final) if at is None else result("pruned", curve[at - 1]))
    return queue, [lease for lease in audits if lease.stage == "audit"]


def result(status: str, value: float) -> dict[str, Any]:
    return {"status": status, "reason": "", "metrics": {"val/accuracy": value}, "seconds": 1.0}


RISING = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
FALLING = [0.8, 0.7, 0.6, 0.5, 0.05, 0.04]
MEDIAN = {"by": "median", "warmup": 0.5, "startup": 4, "audit": 2}


def test_nothing_is_pruned_unless_the_file_says_so(small: Small) -> None:
    plan = small(budget={"trials": 6})
    assert plan.spec.prune is None and plan.tree()["prune"] is None
    queue, audits = tune(plan, {0: FALLING, 1: RISING})
    assert [(one.done, one.pruned, one.audits) for one in queue.arms_progress()] == [(6, 0, 0)] * 2 and not audits
    assert small("prune=off", budget={"trials": 6}, prune=MEDIAN).spec.prune is None
    assert small("prune.by=asha", budget={"trials": 6}).spec.prune == small(budget={"trials": 6}, prune="asha").spec.prune


def test_a_pruned_trial_counts_in_its_own_arm_alone_and_audits_count_exactly(small: Small) -> None:
    plan = small(budget={"trials": 6}, prune=MEDIAN)
    queue, audits = tune(plan, {0: FALLING, 1: RISING})
    one, two = queue.arms_progress()
    assert (one.done, one.pruned, one.failed) == (6, 2, 0), "the two that are far below the arm's own median"
    assert (two.done, two.pruned) == (6, 0), "the other arm is not compared with it"
    assert one.best == 0.8 and (one.audits, one.audited, one.wrong) == (2, 2, 0) and two.audits == 0
    assert [(lease.arm_index, lease.seed) for lease in audits] == [(0, 0)] * 2 and {lease.of for lease in audits} == {4, 5}
    assert queue.over() and one.left == 0 and one.confirmed == 2
    states = [trial.state.name for trial in queue.studies["tune", 0].trials]
    assert states == ["COMPLETE"] * 4 + ["PRUNED"] * 2


def test_a_slow_starter_that_would_have_won_is_a_wrong_prune_and_still_not_chosen(small: Small) -> None:
    plan = small(budget={"trials": 7}, prune={**MEDIAN, "audit": 3})
    slow = {(0, 5): [0.0, 0.0, 0.1, 0.99]}
    finals = [0.8, 0.7, 0.6, 0.5, 0.05, 0.99, 0.04]
    queue, audits = tune(plan, {0: finals, 1: [*RISING, 0.7]}, slow)
    one, _ = queue.arms_progress()
    assert (one.pruned, one.audits, one.audited, one.wrong) == (3, 3, 3, 1)
    assert one.best == 0.8, "what an audit finds is told, and chooses nothing"
    setting = queue.studies["confirm", 0].user_attrs["setting"]
    assert setting["point"] == 0 and {lease.of for lease in audits} == {4, 5, 6}
    assert runner.audits(queue.arms_progress()) == ["momentum in all: 3 trials pruned; 1 of 3 run to their end would have been chosen"]


def test_the_audited_are_drawn_from_all_that_were_pruned(small: Small) -> None:
    plan = small(budget={"trials": 12}, prune={**MEDIAN, "audit": 2})
    finals = [0.8, 0.7, 0.6, 0.5, *[0.04] * 8]
    _, audits = tune(plan, {0: finals, 1: finals})
    chosen = [sorted(lease.of for lease in audits if lease.arm_index == planned_arm) for planned_arm in (0, 1)]
    assert all(len(found) == 2 and set(found) <= set(range(4, 12)) for found in chosen)
    assert chosen == [sorted(TrialQueue(plan, folder=home(plan)).sample(study_index)) for study_index in (0, 1)], "and stay the same"
    assert small(budget={"trials": 12}, prune={**MEDIAN, "audit": 0}).spec.prune.audit == 0  # type: ignore[union-attr]


@pytest.mark.parametrize("by", ["median", "asha", "hyperband"])
def test_no_pruner_stops_before_the_warm_up_or_at_the_end(small: Small, by: str) -> None:
    plan = small(budget={"trials": 9}, prune={"by": by, "warmup": 0.75, "startup": 2})
    queue, stopped = TrialQueue(plan, folder=home(plan)), []
    for number in range(18):
        lease = queue.lease(Owner.here())
        assert lease is not None
        for epoch in range(1, 9):
            if queue.should_prune(lease, epoch=epoch, value=1.0 - 0.1 * lease.point, epochs=8):
                stopped.append(epoch)
                break
        queue.tell(lease, result("pruned" if stopped and number else "finished", 0.5))
    assert stopped and set(stopped) <= {6, 7}


def test_a_value_that_is_no_number_and_a_repeated_epoch_say_nothing(small: Small) -> None:
    plan = small(budget={"trials": 6}, prune={**MEDIAN, "warmup": 0.0, "startup": 1})
    queue = TrialQueue(plan, folder=home(plan))
    first = queue.lease(Owner.here())
    assert first is not None
    for epoch in (1, 2, 3):
        assert not queue.should_prune(first, epoch=epoch, value=0.9, epochs=4)
    queue.tell(first, result("finished", 0.9))
    claims = [queue.lease(Owner.here()) for _ in range(2)]
    (second,) = [lease for lease in claims if lease is not None and lease.arm_index == first.arm_index]
    assert not queue.should_prune(second, epoch=1, value=float("nan"), epochs=4)
    assert queue.should_prune(second, epoch=2, value=0.1, epochs=4)
    assert not queue.should_prune(second, epoch=2, value=0.1, epochs=4)
    queue.requeue(second, died=False)
    assert not queue.should_prune(second, epoch=3, value=0.0, epochs=4) or second.token == 1


@pytest.mark.parametrize(
    ("prune", "part"),
    [
        ({"by": "mean"}, "prune.by=mean: must be 'median', 'asha' or 'hyperband' (did you mean median?)"),
        ({"warmup": 1.0}, "prune.warmup=1.0"),
        ({"audits": 3}, "prune.audits: no such key (did you mean audit?)"),
        ({"startup": 0}, "prune.startup=0"),
    ],
)
def test_a_wrong_pruner_is_told(small: Small, prune: dict[str, Any], part: str) -> None:
    with pytest.raises(PlanError) as caught:
        small(prune=prune)
    assert part in str(caught.value)


def test_a_watch_reads_epochs_from_a_journal_as_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        watch = MetricTail(path, metric="val/accuracy")
        assert list(watch.news()) == []
        journal.params({"total_steps": 25, "steps_per_epoch": 10})
        journal.metrics({"train/loss": 1.0}, step=10)
        journal.metrics({"val/accuracy": 0.25}, step=10)
        assert list(watch.news()) == [(1, 0.25, 3)] and list(watch.news()) == []
        journal.metrics({"val/accuracy": 0.3}, step=15)
        with open(path, "ab") as file:
            file.write(b'{"kind": "metr')
        assert list(watch.news()) == [], "the middle of an epoch and half a line say nothing"
    with Journal(path) as journal:
        journal.metrics({"val/accuracy": float("nan")}, step=20)
        journal.metrics({"val/accuracy": 0.5}, step=25)
    ((second, nan, _), third) = watch.news()
    assert second == 2 and nan != nan and third == (3, 0.5, 3)


@pytest.mark.slow
def test_pruned_processes_end_and_audits_run_again_from_the_start(small: Small) -> None:
    Path("runs").mkdir()
    Path("runs/fake.json").write_text(json.dumps({"epochs": 4, "sleep": 0.4, "crossing": ["adam-p02", "adam-p03"]}))
    plan = small(
        "optimizer=adam", budget={"trials": 4}, prune={"by": "median", "warmup": 0.25, "startup": 2, "audit": 1}, confirm={"seeds": 1}
    )
    folder = home(plan)
    context = processes.forkserver_context(threads=1, preload=("bakeoff.sweep.trial_queue",))
    with SweepProgress(plan, workers=1) as display:
        (one,) = runner.work(
            plan, resources=Resources(1, 1, None), root=Path("runs"), uri="", context=context, trial="fake_trial:execute", display=display
        )
    assert (one.done, one.pruned, one.audited, one.wrong, one.confirmed) == (4, 2, 1, 1, 1), one
    kinds = Counter(found.read_job().kind for found in iter_run_dirs(Path("runs")))
    assert kinds == {"trial": 4, "confirm": 1, "audit": 1}
    stopped = [found for found in iter_run_dirs(Path("runs")) if (found.read_result() or {}).get("status") == "pruned"]
    assert len(stopped) == 2 and not any(found.busy() for found in stopped)
    for found in stopped:
        lines = list(read_journal(found.journal))
        assert lines[-1]["kind"] == "end" and "pruned after epoch 1 of 4" in lines[-1]["reason"]
        assert any(line["kind"] == "tags" and line["values"].get("pruned") == "true" for line in lines)
    (audit,) = [found for found in iter_run_dirs(Path("runs")) if found.read_job().kind == "audit"]
    assert audit.read_job().tags["stage"] == "audit" and audit.path.parent == folder
    of = next(found for found in stopped if audit.read_job().name == f"{found.read_job().name}-audit")
    assert [line for line in audit.config.read_text().splitlines() if not line.startswith("name:")] == [
        line for line in of.config.read_text().splitlines() if not line.startswith("name:")
    ], "the same run"
