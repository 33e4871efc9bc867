"""Every sampler gives every arm as many points, inside its spaces, the same at every call and after every stop."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pytest

from bakeoff.config.search_space import SearchSpace
from bakeoff.errors import PlanError
from bakeoff.sweep import optuna_studies
from bakeoff.sweep.candidates import Point, points
from bakeoff.sweep.leases import Owner
from bakeoff.sweep.plan import Plan
from bakeoff.sweep.spec import LISTED, MODELS, SAMPLERS, Budget
from bakeoff.sweep.trial_queue import TrialQueue
from bakeoff.sweep.trials import TrialLease, folder_of, run_of

Small = Callable[..., Plan]
SPACES = {
    "optimizer.lr": SearchSpace(1e-4, 1.0, log=True),
    "optimizer.momentum": SearchSpace(0.5, 0.9),
    "data.augment.crop": SearchSpace(0, 3, integer=True),
    "initializer.mode": SearchSpace(0, 2, integer=True, choices=("fan_in", "fan_out", "fan_avg")),
}
TUNE = {
    "optimizer.lr": "space",
    "optimizer.weight_decay": {"low": 1e-6, "high": 1e-2, "log": True},
    "scheduler.warmup": {"choices": [0.0, 0.05, 0.1]},
}


def imported(sampler: str) -> None:
    """What a fork server has imported long before: the children of a Gaussian process would each do it again."""
    if sampler == "gp":
        import torch  # noqa: F401


def home(plan: Plan) -> Path:
    folder = Path("runs") / plan.title
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def loss(params: Point) -> float:
    """A valley with its floor at lr 1e-2 and decay 1e-4."""
    return (math.log10(params["optimizer.lr"]) + 2) ** 2 + 0.1 * (math.log10(params.get("optimizer.weight_decay", 1e-4)) + 4) ** 2


def told(plan: Plan, queue: TrialQueue, *, stop: int | None = None) -> list[tuple[int, int, Point]]:
    """Works through tuning as one worker would, up to `stop` points."""
    given: list[tuple[int, int, Point]] = []
    while (stop is None or len(given) < stop) and (lease := queue.lease(Owner.here())) is not None:
        if lease.stage != "tune":
            queue.requeue(lease, died=False)
            break
        given.append((lease.arm_index, lease.study, lease.params))
        queue.tell(lease, {"status": "finished", "metrics": {"val/accuracy": 1 / (1 + loss(lease.params))}, "seconds": 1.0})
    return given


@pytest.mark.parametrize("sampler", LISTED)
def test_listed_points_lie_in_their_spaces_and_cover_them(sampler: str) -> None:
    budget = Budget.model_validate({"trials": 81 if sampler == "grid" else 96, "sampler": sampler})
    spaces = {key: space for key, space in SPACES.items() if sampler != "grid" or key != "data.augment.crop"}
    made = points(spaces, budget=budget, seed=3) if sampler != "grid" else points(spaces, budget=Budget(sampler="grid", points=5), seed=3)
    assert made == points(spaces, budget=budget if sampler != "grid" else Budget(sampler="grid", points=5), seed=3)
    counts = Counter(point["initializer.mode"] for point in made)
    assert set(counts) == {"fan_in", "fan_out", "fan_avg"} and max(counts.values()) - min(counts.values()) <= (
        24 if sampler == "random" else 3
    )
    for key, space in spaces.items():
        if not space.choices:
            values = [float(point[key]) for point in made]
            assert all(space.low <= value <= space.high for value in values)
            assert min(values) < space.low * 3 + 0.1 and max(values) > space.high * 0.7
    if sampler != "grid":
        assert {point["data.augment.crop"] for point in made} == {0, 1, 2, 3}


def test_choices_are_dealt_out_evenly_by_halton() -> None:
    for count in (2, 3, 4, 7):
        space = {"k": SearchSpace(0, count - 1, integer=True, choices=tuple("abcdefg"[:count])), "lr": SearchSpace(1e-4, 1.0, log=True)}
        counts = Counter(point["k"] for point in points(space, budget=Budget(trials=28, sampler="halton"), seed=0))
        assert len(counts) == count and max(counts.values()) - min(counts.values()) <= 3


def test_a_grid_is_every_combination_with_both_ends() -> None:
    spaces = {"lr": SPACES["optimizer.lr"], "mode": SPACES["initializer.mode"]}
    made = points(spaces, budget=Budget(sampler="grid", points=5), seed=0)
    rates = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    assert [(point["lr"], point["mode"]) for point in made] == list(itertools.product(rates, ("fan_in", "fan_out", "fan_avg")))
    assert made == points(spaces, budget=Budget(trials=15, sampler="grid"), seed=1), "a whole root of the trials"
    assert points({"lr": spaces["lr"]}, budget=Budget(trials=1, sampler="grid"), seed=0) == ({"lr": 0.01},), "one point: the middle"
    with pytest.raises(PlanError, match=r"budget\.trials=16: no grid over lr, mode has so many points; 15 or 18 would be one"):
        points(spaces, budget=Budget(trials=16, sampler="grid"), seed=0)
    with pytest.raises(PlanError, match=r"k has 3 whole numbers only"):
        points({"k": SearchSpace(1, 3, integer=True)}, budget=Budget(trials=4, sampler="grid"), seed=0)


@pytest.mark.parametrize(
    ("budget", "tune", "part"),
    [
        ({"sampler": "grid", "points": 3, "trials": 9}, TUNE, "keep one"),
        ({"sampler": "halton", "points": 3}, TUNE, "is for sampler: grid"),
        ({"sampler": "cmaes"}, {"optimizer.lr": "space"}, "two or more tuned keys"),
        ({"sampler": "cmaes"}, TUNE, "all of them numbers"),
        ({"studies": 0}, TUNE, "budget.studies=0: must be greater than or equal to 1"),
        ({}, {"scheduler.warmup": {"choices": [0.1]}}, "two or more"),
        ({}, {"scheduler.warmup": {"choices": [0.1, 0.1]}}, "two or more distinct plain values"),
        ({}, {"scheduler.warmup": {"choices": [0.1, 2.0]}}, "scheduler.warmup=2.0"),
        ({}, {"optimizer.lr": []}, "empty list"),
        ({}, {"optimizer.lr": {"for": {"optimiser": ["adam"]}}}, "did you mean optimizer"),
        ({}, {"optimizer.lr": {"for": {"optimizer": ["adamm"]}}}, "did you mean adam"),
        ({}, {"optimizer.momentum": {"for": {"optimizer": ["adam"]}}}, "has no such key [arm adam]"),
    ],
)
def test_what_does_not_make_points_is_told(small: Small, budget: dict[str, Any], tune: dict[str, Any], part: str) -> None:
    with pytest.raises(PlanError) as caught:
        small(budget={**budget}, tune=tune)
    assert part in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "sampler", [name if name in ("halton", "tpe") else pytest.param(name, marks=pytest.mark.slow) for name in SAMPLERS]
)
def test_every_arm_and_study_gets_the_same_budget_whatever_the_sampler(small: Small, sampler: str) -> None:
    imported(sampler)
    tune = {key: space for key, space in TUNE.items() if sampler != "cmaes" or key != "scheduler.warmup"}
    budget: dict[str, Any] = {"sampler": sampler, "trials": 12, "studies": 1 if sampler == "grid" else 2}
    plan = small(tune=tune, budget=budget, allow=["decay"])
    queue = TrialQueue(plan, folder=home(plan))
    given = told(plan, queue, stop=plan.trials)
    each = Counter((planned_arm, study) for planned_arm, study, _ in given)
    assert set(each.values()) == {12} and len(each) == 2 * budget["studies"]
    for planned_arm, _, params in given:
        for key, space in plan.planned_arms[planned_arm].spaces.items():
            assert params[key] in space.choices if space.choices else space.low <= params[key] <= space.high
    assert queue.lease(Owner.here()).stage == "confirm"  # type: ignore[union-attr]


@pytest.mark.parametrize("sampler", [pytest.param(name, marks=pytest.mark.slow) if name == "gp" else name for name in MODELS])
def test_a_model_learns_from_its_own_study_and_goes_on_after_a_stop(small: Small, sampler: str) -> None:
    imported(sampler)
    keys = ("optimizer.lr", "optimizer.weight_decay")
    plan = small(
        "optimizer=adam", tune={key: TUNE[key] for key in keys}, budget={"sampler": sampler, "trials": 22}
    )  # ten of them before a model is asked
    whole = [params for *_, params in told(plan, TrialQueue(plan, folder=home(plan)))]
    assert len({repr(params) for params in whole}) == 22
    other = Path("elsewhere")
    other.mkdir()
    first = told(plan, TrialQueue(plan, folder=other), stop=13)
    rest = told(plan, TrialQueue(plan, folder=other))
    assert [params for *_, params in first + rest] == whole, "the same points, in one go or in two"
    tail = sum(loss(params) for params in whole[-6:]) / 6
    assert tail < 0.7 * sum(loss(params) for params in whole[:6]) / 6, "it closes in on the floor"


def test_replicated_tuning_has_points_of_its_own_and_deals_the_seeds_out(small: Small) -> None:
    plan = small(budget={"trials": 4, "studies": 3}, confirm={"seeds": 6})
    lists = [plan.slice_of(study_index) for study_index in range(6)]
    assert len({repr(one) for one in lists[::2]}) == 3 and all(len(one) == 4 for one in lists)
    assert plan.slice_of(0) == small(budget={"trials": 4}, confirm={"seeds": 6}).planned_arms[0].points
    assert plan.trials == 24 and plan.runs == 24 + 12
    queue = TrialQueue(plan, folder=home(plan))
    told(plan, queue)
    seen: dict[tuple[int, int], set[int]] = {}
    settings: dict[tuple[int, int], set[str]] = {}
    while (lease := queue.lease(Owner.here())) is not None:
        seen.setdefault((lease.arm_index, lease.study), set()).add(lease.seed)
        settings.setdefault((lease.arm_index, lease.study), set()).add(repr(lease.params))
        tags = folder_of(plan, lease, root=Path("runs"), threads=1, uri="").read_job().tags
        assert tags["study"] == str(lease.study) and tags["seed"] == str(lease.seed)
        queue.tell(lease, {"status": "finished", "metrics": {"val/accuracy": 0.5}, "seconds": 1.0})
    for planned_arm in (0, 1):
        assert [sorted(seen[planned_arm, study]) for study in range(3)] == [[1001, 1004], [1002, 1005], [1003, 1006]]
    assert all(len(found) == 1 for found in settings.values()) and len({min(found) for found in settings.values()}) > 3
    assert queue.over() and [one.seeds for one in queue.arms_progress()] == [6, 6] and len(queue.arms_progress()[0].settings) == 3
    studied = TrialLease("tune", 1, 2, {"optimizer.lr": 0.1}, 2, 1, 0, 2)
    job = folder_of(plan, studied, root=Path("runs"), threads=1, uri="").read_job()
    assert (job.tags["point"], job.tags["study"], job.name) == ("10", "2", "adam-p10")


def test_spaces_are_for_the_arms_that_they_name(small: Small) -> None:
    own = {"low": 1e-3, "high": 1e-2, "log": True}
    tune = {
        "optimizer.lr": [{"for": {"optimizer": ["adam"]}, **own}, "space"],
        "optimizer.momentum": {"for": {"optimizer": "momentum"}, "choices": [0.8, 0.9]},
        "optimizer.weight_decay": {"for": {"optimizer": ["adam"]}},
    }
    small = partial(small, allow=["space"])
    momentum, adam = small(tune=tune).planned_arms
    assert adam.spaces["optimizer.lr"] == SearchSpace(1e-3, 1e-2, log=True) != momentum.spaces["optimizer.lr"]
    assert momentum.spaces["optimizer.momentum"].choices == (0.8, 0.9)
    assert set(momentum.spaces) == {"optimizer.lr", "optimizer.momentum"} and set(adam.spaces) == {"optimizer.lr", "optimizer.weight_decay"}
    assert set(small("optimizer=adam", tune=tune).planned_arms[0].spaces) == set(adam.spaces), "a narrowed sweep keeps its conditions"


def test_confirming_seeds_are_fresh_and_folds_go_round(small: Small) -> None:
    with pytest.raises(PlanError, match=r"seed=1001: tuning would use the confirming seed 1001"):
        small("seed=1001")
    with pytest.raises(PlanError, match="confirming seed 1001"):
        small("seed=1000", budget={"studies": 2})
    plan = small(fixed={"data": "digits", "data.folds": 3}, confirm={"seeds": 5})
    runs = [run_of(plan, TrialLease("confirm", 0, at, {}, seed, 1, 0), threads=1) for at, seed in enumerate(plan.spec.confirm.first_seeds)]
    assert [(run.data.split_seed, run.data.fold) for run in runs] == [(1001, 0), (1001, 1), (1001, 2), (1004, 0), (1004, 1)]
    assert [run.seed for run in runs] == [1001, 1002, 1003, 1004, 1005] and all(run.test for run in runs)


def test_a_complement_is_even_in_the_logarithm_of_one_less_x() -> None:
    spaces = {"optimizer.momentum": SearchSpace(0.7, 0.995, complement=True)}
    for sampler in ("halton", "random"):
        found = [point["optimizer.momentum"] for point in points(spaces, budget=Budget(trials=300, sampler=sampler), seed=0)]
        assert all(0.7 <= value <= 0.995 for value in found)
        middle = 1 - math.sqrt(0.3 * 0.005)  # half of the points lie beyond the geometric middle of 1 - x
        assert sum(value > middle for value in found) / 300 == pytest.approx(0.5, abs=0.02 if sampler == "halton" else 0.08)
    grid = [point["optimizer.momentum"] for point in points(spaces, budget=Budget(sampler="grid", points=3), seed=0)]
    assert grid == pytest.approx([0.7, middle, 0.995], abs=1e-6)


@pytest.mark.parametrize("sampler", ["halton", "tpe", pytest.param("gp", marks=pytest.mark.slow)])
def test_a_complement_is_trained_and_confirmed_as_it_was_drawn(small: Small, sampler: str) -> None:
    imported(sampler)
    tune = {"optimizer.lr": "space", "optimizer.momentum": "space"}
    plan = small("optimizer=momentum", f"budget.sampler={sampler}", "budget.trials=4", tune=tune)
    space = plan.planned_arms[0].spaces["optimizer.momentum"]
    assert space == SearchSpace(0.7, 0.995, complement=True)
    queue, trained = TrialQueue(plan, folder=home(plan)), []
    while (lease := queue.lease(Owner.here())) is not None:
        value = lease.params["optimizer.momentum"]
        assert 0.7 <= value <= 0.995
        run = run_of(plan, lease, threads=1)
        assert run.optimizer["momentum"] == value
        if lease.stage == "tune":
            trained.append(value)
        else:
            assert value == min(trained, key=lambda one: abs(one - 0.9)), "the best one, to the last digit"
        queue.tell(lease, {"status": "finished", "metrics": {"val/accuracy": 1 - abs(value - 0.9)}, "seconds": 1.0})
    assert len(set(trained)) == 4
    assert queue.arms_progress()[0].setting["optimizer.momentum"] == min(trained, key=lambda one: abs(one - 0.9))
    if sampler == "halton":
        assert trained == [point["optimizer.momentum"] for point in plan.planned_arms[0].points]


def test_a_complement_s_wrong_space_is_told_in_one_line(small: Small) -> None:
    for space in ({"low": 0.5, "high": 1.0, "complement": True}, {"low": 0.5, "high": 0.9, "log": True, "complement": True}):
        with pytest.raises(PlanError, match="high must be below 1, and log must be omitted"):
            small("optimizer=momentum", tune={"optimizer.momentum": space})


def test_optuna_lets_another_process_go_on_with_a_running_trial() -> None:
    """`resume_trial` rests on a private attribute of Optuna: this fails when a release drops or changes it."""
    storage = optuna.storages.InMemoryStorage()
    first = optuna.create_study(storage=storage, study_name="s", sampler=optuna.samplers.RandomSampler(seed=0))
    first.ask()
    began = first.ask({"x": optuna.distributions.FloatDistribution(0.0, 1.0)})
    again = optuna.load_study(storage=storage, study_name="s")
    resumed = optuna_studies.resume_trial(again, again.get_trials()[began.number])
    assert resumed.number == began.number and resumed.suggest_float("x", 0.0, 1.0) == began.params["x"], "what was drawn stays"
    resumed.report(0.5, 1)
    resumed.set_user_attr("owner", "b")
    again.tell(resumed.number, 0.5)
    trial = first.get_trials()[began.number]
    assert (trial.value, trial.intermediate_values, trial.user_attrs) == (0.5, {1: 0.5}, {"owner": "b"})
    assert first.get_trials()[0].state == optuna.trial.TrialState.RUNNING, "the other trial is untouched"
