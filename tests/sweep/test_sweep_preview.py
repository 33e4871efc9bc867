"""A plan on the terminal: every fact that decides what would run and what it would cost, and nothing started."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import pytest

from bakeoff.errors import PlanError
from bakeoff.sweep.cost_preview import block_costs, expected, lines
from bakeoff.sweep.plan import Plan
from bakeoff.training import processes

Small = Callable[..., Plan]


def test_a_plan_says_what_would_run(small: Small) -> None:
    plan = small(
        blocks={"model": ["alexnet", "vgg11"]},
        tune={"optimizer.lr": "space", "scheduler.warmup": {"choices": [0.0, 0.1]}},
        budget={"trials": 4, "studies": 2},
        prune={"by": "asha", "audit": 1},
    ).examined([(1000, 40, 355), (5000, 40, 355)] * 2)
    rates = {planned_arm.arm: planned_arm.spaces["optimizer.lr"] for planned_arm in plan.planned_arms}
    assert rates["momentum"] != rates["adam"]
    cost = expected(plan, {"alexnet": (0.01, 3.0), "vgg11": (0.02, 6.0)}, workers=2)
    text = "\n".join(lines(plan, cost))
    for part in (
        "Which optimizer?",
        f"{plan.title}; compared by val/accuracy (maximize), margin 0.005",
        "arms      2: momentum, adam",
        "blocks    2: alexnet, vgg11",
        *(f"optimizer.lr in {space.low:g} .. {space.high:g} log: {arm}" for arm, space in rates.items()),
        "scheduler.warmup in {0.0, 0.1}: momentum, adam",
        "8 an arm and block by halton (listed in the plan, 2 studies of each): 32 runs",
        "asha, from 25% of a run on; 1 of an arm's pruned trials run to the end",
        "2 (1001 to 1002) shared by all arms: 8 runs, each with the test set once; --more may go on to 4, 6, 8, 10, each time with 2 new",
        "warning   margin=0.005: 355 test images cannot show so little: two nets that disagree on 5 % of the images differ by +-2.3 points",
        "40 a run, of batches of 32",
        "1,000 (momentum-alexnet, adam-alexnet); 5,000",
        "alexnet: 10 ms a step, about 3 s a run",
        "at workers=2",
        "nothing has been started; bakeoff sweep small runs it",
    ):
        assert part in text, (part, text)


def test_the_cost_is_the_sum_of_all_runs_over_the_workers(small: Small) -> None:
    plan = small(blocks={"model": ["alexnet", "vgg11"]}, confirm={"seeds": 2, "max_seeds": 4})
    cost = expected(plan, {"alexnet": (0.01, 3.0), "vgg11": (0.02, 6.0)}, workers=3)
    # Two arms: 3 trials and 2 seeds of 3 s, and as many of 6 s.
    assert cost["seconds"] == pytest.approx(2 * 5 * (3 + 6) / 3) and cost["seconds_with_all_looks"] == pytest.approx(2 * 7 * 9 / 3)
    grown = expected(small(budget={"trials": 3, "studies": 2}, confirm={"seeds": 2, "max_seeds": 6}), {"all": (0.01, 3.0)}, workers=1)
    assert (grown["seconds"], grown["seconds_with_all_looks"]) == (2 * (6 + 2) * 3, 2 * 3 * (6 + 2) * 3), "studies come with every analysis"
    assert cost["hours"] == pytest.approx(cost["seconds"] / 3600)


def test_allowed_differences_and_asked_points_are_told(small: Small) -> None:
    plan = small(
        "optimizer=momentum,adamw", factors={"optimizer": ["momentum", "adamw"]}, allow=["decay"], budget={"sampler": "tpe", "trials": 3}
    )
    text = "\n".join(lines(plan, expected(plan, {"all": (0.01, 3.0)}, workers=1)))
    assert "allowed   decay: weight decay is not the same thing in all arms: L2 (momentum), decoupled (adamw)" in text
    assert "3 an arm and block by tpe (asked in turn): 6 runs" in text and "blocks" not in text


def test_blocks_are_probed_in_a_process_of_their_own(small: Small) -> None:
    # By the name that a child can import, which the test's own module has not.
    fakes = importlib.import_module("fake_probe")
    plan = small(blocks={"model": ["alexnet", "vgg11"]})
    context = processes.forkserver_context(threads=1, preload=("bakeoff.sweep.trial_queue",))
    assert block_costs(plan, context=context, probe=fakes.fake_probe) == {"alexnet": (0.02, 3.0), "vgg11": (0.02, 4.0)}
    with pytest.raises(PlanError, match=r"data\.root=nowhere"):
        block_costs(plan, context=context, probe=fakes.broken_probe)


@pytest.mark.slow
def test_a_probe_s_figures_are_those_of_its_run(small: Small) -> None:
    from bakeoff.builders import validate_run
    from bakeoff.training.cost_probe import count_parameters, count_steps, measure_cost

    run = small("data.subset=400", "trainer.max_epochs=3", "trainer.threads=1", "trainer.accelerator=cpu").planned_arms[0].run
    data = validate_run(run)
    assert count_steps(run, steps_per_epoch=data.steps_per_epoch) == data.total_steps(3) == 33
    step, whole = measure_cost(run, max_seconds=2.0)
    assert 0 < step < 5 and whole == pytest.approx(step * (33 + 3 * data.n_val / 32 / 3))
    from bakeoff import builders

    assert count_parameters(run) == sum(p.numel() for p in builders.make_model(run).parameters())
    half = run.replace(**{"trainer.accumulate": 2, "trainer.max_steps": 5, "trainer.devices": 2, "trainer.strategy": "ddp"})
    step, whole = measure_cost(half, max_seconds=2.0)
    assert 0 < step < 5 and whole == pytest.approx(step * (5 + data.n_val / 32 / 3))
