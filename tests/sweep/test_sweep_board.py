"""Every point is given out, taken over and decided once, whatever happens to the processes in between."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from bakeoff.errors import BusyError
from bakeoff.sweep import leases
from bakeoff.sweep.leases import Owner
from bakeoff.sweep.optuna_studies import JOURNAL
from bakeoff.sweep.plan import Plan
from bakeoff.sweep.trial_queue import TrialQueue
from bakeoff.sweep.trials import TrialLease, folder_of, run_of, score

Small = Callable[..., Plan]
DEAD = Owner("localhost", 2**22 - 3, 1.0)


def home(plan: Plan) -> Path:
    folder = Path("runs") / plan.title
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def result(value: float = 0.5, status: str = "finished", metric: str = "val/accuracy") -> dict[str, Any]:
    return {
        "id": "0" * 12,
        "name": "a run",
        "status": status,
        "reason": "" if status == "finished" else "why",
        "metrics": {metric: value} if status == "finished" else {},
        "seconds": 1.0,
    }


def claimed(queue: TrialQueue, owner: Owner | None = None) -> TrialLease:
    lease = queue.lease(owner or Owner.here())
    assert lease is not None
    return lease


def dead() -> Owner:
    import socket

    return Owner(socket.gethostname(), DEAD.pid, DEAD.start)


def test_points_go_round_the_arms_and_confirming_waits_for_tuning(small: Small) -> None:
    plan = small()
    queue = TrialQueue(plan, folder=home(plan))
    order = []
    for number in range(6):
        lease = claimed(queue)
        order.append((lease.stage, lease.point, lease.arm_index))
        assert lease.params == plan.planned_arms[lease.arm_index].points[lease.point]
        queue.tell(lease, result(0.1 * number))
    assert order == [("tune", point, planned_arm) for point in range(3) for planned_arm in range(2)]
    confirming = [claimed(queue) for _ in range(4)]
    assert [(c.stage, c.seed, c.arm_index) for c in confirming] == [
        ("confirm", seed, planned_arm) for seed in (1001, 1002) for planned_arm in (0, 1)
    ]
    # The third point of either arm scored best.
    assert all(c.params == plan.planned_arms[c.arm_index].points[2] for c in confirming)
    assert queue.lease(Owner.here()) is None and not queue.over()
    for lease in confirming:
        queue.tell(lease, result(0.7))
    assert queue.over() and queue.lease(Owner.here()) is None
    arms_progress = queue.arms_progress()
    assert [(s.done, s.confirmed, s.left) for s in arms_progress] == [(3, 2, 0), (3, 2, 0)]
    assert arms_progress[0].mean == pytest.approx(0.7)


def test_an_arm_confirms_when_its_own_tuning_is_done(small: Small) -> None:
    plan = small("budget.trials=1")
    queue = TrialQueue(plan, folder=home(plan))
    first, second = claimed(queue), claimed(queue)
    queue.tell(first, result())
    third = claimed(queue)
    assert (third.stage, third.arm_index) == ("confirm", 0)
    assert claimed(queue).arm_index == 0 and queue.lease(Owner.here()) is None
    queue.tell(second, result())
    assert claimed(queue).arm_index == 1


def test_a_dead_owner_s_point_is_taken_over_as_it_is(small: Small) -> None:
    plan = small()
    queue = TrialQueue(plan, folder=home(plan))
    kept, lost = claimed(queue), claimed(queue, dead())
    again = claimed(TrialQueue(plan, folder=home(plan)))
    assert (again.stage, again.arm_index, again.point, again.params) == (lost.stage, lost.arm_index, lost.point, lost.params)
    assert again.token == lost.token + 1
    # The fenced owner's late result is ignored, and it cannot renew.
    assert not queue.tell(lost, result(0.99)) and not queue.renew(lost) and not queue.requeue(lost, died=True)
    assert queue.tell(again, result(0.25)) and queue.tell(kept, result(0.5)) and queue.renew(claimed(queue))
    best = [arm_progress.best for arm_progress in queue.arms_progress()]
    assert best == [0.5, 0.25]
    assert not queue.tell(again, result(0.9)), "a point is decided once"


def test_what_the_dead_owner_s_run_wrote_is_adopted(small: Small) -> None:
    plan = small()
    queue = TrialQueue(plan, folder=home(plan))
    lost = claimed(queue, dead())
    folder_of(plan, lost, root=Path("runs"), threads=1, uri="").write_result(result(0.75))
    nxt = claimed(queue)
    assert (nxt.arm_index, nxt.point) != (lost.arm_index, lost.point)
    assert queue.arms_progress()[lost.arm_index].best == 0.75


def test_an_owner_that_died_while_it_was_given_a_point_loses_none(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = small()
    queue = TrialQueue(plan, folder=home(plan))

    def die(*_: object) -> None:
        raise SystemExit

    for home_of, name in ((optuna.Study, "ask"), (TrialQueue, "mark")):
        with monkeypatch.context() as patch:
            patch.setattr(home_of, name, die)
            with pytest.raises(SystemExit):
                queue.lease(Owner.here())
    fresh = TrialQueue(plan, folder=home(plan))
    points = [claimed(fresh) for _ in range(6)]
    assert Counter((c.arm_index, c.point) for c in points) == Counter(
        (planned_arm, point) for planned_arm in range(2) for point in range(3)
    )
    assert all(c.params == plan.planned_arms[c.arm_index].points[c.point] for c in points)


def test_a_lease_counts_on_another_host(small: Small) -> None:
    plan = small()
    queue = TrialQueue(plan, folder=home(plan))
    far = Owner("another-host", 1, 1.0)
    lost = claimed(queue, far)
    assert claimed(queue).point == 0 and claimed(queue).point == 1, "its lease still runs"
    with queue.alone():
        queue.mark(lost.stage, lost.arm_index, queue.trials(lost.stage, lost.arm_index)[lost.point], {"deadline": 0.0})
    assert claimed(queue).token == 2


def test_a_torn_last_line_is_cut(small: Small) -> None:
    plan = small()
    queue = TrialQueue(plan, folder=home(plan))
    lease = claimed(queue)
    with open(home(plan) / JOURNAL, "ab") as file:
        file.write(b'{"op_code": 5, "worker_id": "tor')
    # For one that is at work, and for one that begins.
    assert queue.tell(lease, result())
    assert TrialQueue(plan, folder=home(plan)).arms_progress()[0].done == 1


def test_failed_and_diverged_points_are_kept_counted_and_not_tried_again(small: Small) -> None:
    plan = small()
    queue = TrialQueue(plan, folder=home(plan))
    for status in ("failed", "diverged", "finished", "finished", "failed", "finished"):
        queue.tell(claimed(queue), result(0.5, status))
    one, two = queue.arms_progress()
    assert (one.done, one.failed, one.diverged) == (3, 2, 0) and (two.done, two.failed, two.diverged) == (3, 0, 1)
    assert one.reasons == ["why", "why"]
    values = [trial.value for trial in queue.studies["tune", 1].trials]
    assert values[0] == 0.0, "a diverged run counts as the worst"
    assert [trial.state.name for trial in queue.studies["tune", 0].trials] == ["FAIL", "COMPLETE", "FAIL"]


def test_an_arm_that_never_trained_is_not_confirmed(small: Small) -> None:
    plan = small()
    queue = TrialQueue(plan, folder=home(plan))
    for _ in range(6):
        lease = claimed(queue)
        queue.tell(lease, result(0.5, "diverged" if lease.arm_index else "finished"))
    stages = [claimed(queue) for _ in range(2)]
    assert [lease.arm_index for lease in stages] == [0, 0]
    assert queue.lease(Owner.here()) is None
    for lease in stages:
        queue.tell(lease, result())
    assert queue.over() and queue.arms_progress()[1].left == 0


@pytest.mark.parametrize(
    ("metric", "found", "value"),
    [
        ("val/accuracy", result(0.5), 0.5),
        ("val/accuracy", result(status="diverged"), 0.0),
        ("val/loss", result(status="diverged"), float("inf")),
        ("val/accuracy", {"status": "finished", "metrics": {"val/accuracy": "nan"}}, 0.0),
        ("val/loss", {"status": "finished", "metrics": {"val/loss": "inf"}}, float("inf")),
        ("val/accuracy", result(status="failed"), None),
        ("val/loss", result(0.5), None),
    ],
)
def test_what_optuna_is_told(metric: str, found: dict[str, Any], value: float | None) -> None:
    assert score(found, metric=metric) == value


def test_a_loss_that_diverged_does_not_break_the_study(small: Small) -> None:
    plan = small("metric.name=val/loss", "budget.sampler=tpe", metric="val/accuracy")
    queue = TrialQueue(plan, folder=home(plan))
    seen = []
    for number in range(6):
        lease = claimed(queue)
        seen.append((lease.arm_index, lease.params["optimizer.lr"]))
        queue.tell(lease, result(1.0 + number, "diverged" if number < 2 else "finished", "val/loss"))
    assert len(set(seen)) == 6, "each draw of TPE is another point"
    assert [arm_progress.best for arm_progress in queue.arms_progress()] == [3.0, 4.0]
    assert claimed(TrialQueue(plan, folder=home(plan))).stage == "confirm"


def hammer(plan: Plan, folder: Path, decided: Any) -> None:
    queue, owner = TrialQueue(plan, folder=folder), Owner.here()
    while (lease := queue.lease(owner)) is not None:
        decided.put((lease.stage, lease.arm_index, lease.point))
        queue.tell(lease, result())


def test_four_processes_at_once_keep_the_budget_to_the_trial(small: Small) -> None:
    plan = small("budget.trials=8", "confirm.seeds=4")
    context = multiprocessing.get_context("fork")
    decided = context.Queue()
    workers = [context.Process(target=hammer, args=(plan, home(plan), decided)) for _ in range(4)]
    for process in workers:
        process.start()
    given = [decided.get(timeout=60) for _ in range(plan.runs)]
    for process in workers:
        process.join(60)
    assert decided.empty() and len(set(given)) == plan.runs
    queue = TrialQueue(plan, folder=home(plan))
    assert queue.over()
    assert [len(study.trials) for study in queue.studies.values()] == [8, 8, 4, 4]


def test_the_run_of_a_lease(small: Small) -> None:
    plan = small()
    tune = TrialLease("tune", 1, 2, {"optimizer.lr": 0.003}, 0, 1, 0)
    run = run_of(plan, tune, threads=3)
    assert run.optimizer["lr"] == 0.003 and run.trainer.threads == 3 and not run.test
    assert run.title == "adam-p02" and run.tracking.experiment == plan.title
    confirm = TrialLease("confirm", 1, 0, {"optimizer.lr": 0.003}, 1001, 1, 0)
    run = run_of(plan, confirm, threads=3)
    assert (run.seed, run.data.split_seed, run.test, run.title) == (1001, 1001, True, "adam-s1001")
    one = folder_of(plan, confirm, root=Path("runs"), threads=3, uri="u")
    assert one == folder_of(plan, confirm, root=Path("runs"), threads=1, uri="u"), "a point has one folder"
    job = one.read_job()
    assert job.tags["study"] == "0"
    assert (job.kind, job.tags["arm"], job.tags["block"], job.tags["seed"]) == ("confirm", "adam", "all", "1001")
    assert "point" not in job.tags


def test_one_command_at_a_time(tmp_path: Path) -> None:
    with (
        leases.exclusive_lock(tmp_path / "lock", name="sweep x"),
        pytest.raises(BusyError, match="sweep x is being run by pid"),
        leases.exclusive_lock(tmp_path / "lock", name="sweep x"),
    ):
        pass
    with leases.exclusive_lock(tmp_path / "lock", name="sweep x"):
        pass


def test_a_queue_sees_at_once_what_another_process_has_decided(small: Small) -> None:
    plan = small("budget.trials=8", "confirm.seeds=4")
    queues = [TrialQueue(plan, folder=home(plan)) for _ in range(2)]
    for number in range(plan.runs):
        taker, reader = queues[number % 2], queues[1 - number % 2]
        lease = claimed(taker)
        assert sum(progress.running for progress in reader.arms_progress()) == 1
        assert reader.tell(lease, result(number * 0.618 % 1)) and not taker.tell(lease, result())
        fresh = TrialQueue(plan, folder=home(plan)).arms_progress()
        assert taker.arms_progress() == reader.arms_progress() == fresh and taker.over() == reader.over() == (number == plan.runs - 1)


def test_the_disk_is_waited_for_once_before_others_may_read(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = small()
    queue, synced = TrialQueue(plan, folder=home(plan)), []
    journal = home(plan) / JOURNAL
    monkeypatch.setattr("os.fsync", lambda descriptor: synced.append(journal.stat().st_size))
    lease = claimed(queue)
    assert synced == [journal.stat().st_size], "all lines of a claim are durable with its end"
    queue.tell(lease, result())
    assert len(synced) == 2 and synced[1] == journal.stat().st_size
    queue.over()
    assert len(synced) == 2, "nothing was written"
