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
        "status": status,
        "reason": "" if status == "finished" else "why",
        "metrics": {metric: value} if status == "finished" else {},
        "seconds": 1.0,
    }


def claimed(board: TrialQueue, owner: Owner | None = None) -> TrialLease:
    claim = board.claim(owner or Owner.here())
    assert claim is not None
    return claim


def dead() -> Owner:
    import socket

    return Owner(socket.gethostname(), DEAD.pid, DEAD.start)


def test_points_go_round_the_arms_and_confirming_waits_for_tuning(small: Small) -> None:
    plan = small()
    board = TrialQueue(plan, folder=home(plan))
    order = []
    for number in range(6):
        claim = claimed(board)
        order.append((claim.stage, claim.point, claim.cell))
        assert claim.params == plan.cells[claim.cell].points[claim.point]
        board.tell(claim, result(0.1 * number))
    assert order == [("tune", point, cell) for point in range(3) for cell in range(2)]
    confirming = [claimed(board) for _ in range(4)]
    assert [(c.stage, c.seed, c.cell) for c in confirming] == [("confirm", seed, cell) for seed in (1001, 1002) for cell in (0, 1)]
    # The third point of either arm scored best.
    assert all(c.params == plan.cells[c.cell].points[2] for c in confirming)
    assert board.claim(Owner.here()) is None and not board.over()
    for claim in confirming:
        board.tell(claim, result(0.7))
    assert board.over() and board.claim(Owner.here()) is None
    standings = board.standings()
    assert [(s.done, s.confirmed, s.left) for s in standings] == [(3, 2, 0), (3, 2, 0)]
    assert standings[0].mean == pytest.approx(0.7)


def test_an_arm_confirms_when_its_own_tuning_is_done(small: Small) -> None:
    plan = small("budget.trials=1")
    board = TrialQueue(plan, folder=home(plan))
    first, second = claimed(board), claimed(board)
    board.tell(first, result())
    third = claimed(board)
    assert (third.stage, third.cell) == ("confirm", 0)
    assert claimed(board).cell == 0 and board.claim(Owner.here()) is None
    board.tell(second, result())
    assert claimed(board).cell == 1


def test_a_dead_owner_s_point_is_taken_over_as_it_is(small: Small) -> None:
    plan = small()
    board = TrialQueue(plan, folder=home(plan))
    kept, lost = claimed(board), claimed(board, dead())
    again = claimed(TrialQueue(plan, folder=home(plan)))
    assert (again.stage, again.cell, again.point, again.params) == (lost.stage, lost.cell, lost.point, lost.params)
    assert again.token == lost.token + 1
    # The fenced owner's late word is not heard, and it cannot renew.
    assert not board.tell(lost, result(0.99)) and not board.renew(lost) and not board.put_back(lost, died=True)
    assert board.tell(again, result(0.25)) and board.tell(kept, result(0.5)) and board.renew(claimed(board))
    best = [standing.best for standing in board.standings()]
    assert best == [0.5, 0.25]
    assert not board.tell(again, result(0.9)), "a point is decided once"


def test_what_the_dead_owner_s_run_wrote_is_adopted(small: Small) -> None:
    plan = small()
    board = TrialQueue(plan, folder=home(plan))
    lost = claimed(board, dead())
    folder_of(plan, lost, root=Path("runs"), threads=1, uri="").write_result(result(0.75))
    nxt = claimed(board)
    assert (nxt.cell, nxt.point) != (lost.cell, lost.point)
    assert board.standings()[lost.cell].best == 0.75


def test_an_owner_that_died_while_it_was_given_a_point_loses_none(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = small()
    board = TrialQueue(plan, folder=home(plan))

    def die(*_: object) -> None:
        raise SystemExit

    for home_of, name in ((optuna.Study, "ask"), (TrialQueue, "mark")):
        with monkeypatch.context() as patch:
            patch.setattr(home_of, name, die)
            with pytest.raises(SystemExit):
                board.claim(Owner.here())
    fresh = TrialQueue(plan, folder=home(plan))
    points = [claimed(fresh) for _ in range(6)]
    assert Counter((c.cell, c.point) for c in points) == Counter((cell, point) for cell in range(2) for point in range(3))
    assert all(c.params == plan.cells[c.cell].points[c.point] for c in points)


def test_a_lease_counts_on_another_host(small: Small) -> None:
    plan = small()
    board = TrialQueue(plan, folder=home(plan))
    far = Owner("another-host", 1, 1.0)
    lost = claimed(board, far)
    assert claimed(board).point == 0 and claimed(board).point == 1, "its lease still runs"
    with board.alone():
        board.mark(lost.stage, lost.cell, board.trials(lost.stage, lost.cell)[lost.point], {"deadline": 0.0})
    assert claimed(board).token == 2


def test_a_torn_last_line_is_cut(small: Small) -> None:
    plan = small()
    board = TrialQueue(plan, folder=home(plan))
    claim = claimed(board)
    with open(home(plan) / JOURNAL, "ab") as file:
        file.write(b'{"op_code": 5, "worker_id": "tor')
    # For one that is at work, and for one that begins.
    assert board.tell(claim, result())
    assert TrialQueue(plan, folder=home(plan)).standings()[0].done == 1


def test_failed_and_diverged_points_are_kept_counted_and_not_tried_again(small: Small) -> None:
    plan = small()
    board = TrialQueue(plan, folder=home(plan))
    for status in ("failed", "diverged", "finished", "finished", "failed", "finished"):
        board.tell(claimed(board), result(0.5, status))
    one, two = board.standings()
    assert (one.done, one.failed, one.diverged) == (3, 2, 0) and (two.done, two.failed, two.diverged) == (3, 0, 1)
    assert one.reasons == ["why", "why"]
    values = [trial.value for trial in board.studies["tune", 1].trials]
    assert values[0] == 0.0, "a diverged run counts as the worst"
    assert [trial.state.name for trial in board.studies["tune", 0].trials] == ["FAIL", "COMPLETE", "FAIL"]


def test_an_arm_that_never_trained_is_not_confirmed(small: Small) -> None:
    plan = small()
    board = TrialQueue(plan, folder=home(plan))
    for _ in range(6):
        claim = claimed(board)
        board.tell(claim, result(0.5, "diverged" if claim.cell else "finished"))
    stages = [claimed(board) for _ in range(2)]
    assert [claim.cell for claim in stages] == [0, 0]
    assert board.claim(Owner.here()) is None
    for claim in stages:
        board.tell(claim, result())
    assert board.over() and board.standings()[1].left == 0


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
    board = TrialQueue(plan, folder=home(plan))
    seen = []
    for number in range(6):
        claim = claimed(board)
        seen.append((claim.cell, claim.params["optimizer.lr"]))
        board.tell(claim, result(1.0 + number, "diverged" if number < 2 else "finished", "val/loss"))
    assert len(set(seen)) == 6, "each draw of TPE is another point"
    assert [standing.best for standing in board.standings()] == [3.0, 4.0]
    assert claimed(TrialQueue(plan, folder=home(plan))).stage == "confirm"


def hammer(plan: Plan, folder: Path, queue: Any) -> None:
    board, owner = TrialQueue(plan, folder=folder), Owner.here()
    while (claim := board.claim(owner)) is not None:
        queue.put((claim.stage, claim.cell, claim.point))
        board.tell(claim, result())


def test_four_processes_at_once_keep_the_budget_to_the_trial(small: Small) -> None:
    plan = small("budget.trials=8", "confirm.seeds=4")
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    crew = [context.Process(target=hammer, args=(plan, home(plan), queue)) for _ in range(4)]
    for process in crew:
        process.start()
    given = [queue.get(timeout=60) for _ in range(plan.runs)]
    for process in crew:
        process.join(60)
    assert queue.empty() and len(set(given)) == plan.runs
    board = TrialQueue(plan, folder=home(plan))
    assert board.over()
    assert [len(study.trials) for study in board.studies.values()] == [8, 8, 4, 4]


def test_the_run_of_a_claim(small: Small) -> None:
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
        leases.exclusive(tmp_path / "lock", what="sweep x"),
        pytest.raises(BusyError, match="sweep x is being run by pid"),
        leases.exclusive(tmp_path / "lock", what="sweep x"),
    ):
        pass
    with leases.exclusive(tmp_path / "lock", what="sweep x"):
        pass
