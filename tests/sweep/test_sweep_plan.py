"""A sweep file and a line become a plan, or one line that says what is wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bakeoff.config.search_space import SearchSpace
from bakeoff.config.slots import package_data_dir
from bakeoff.errors import BakeoffError
from bakeoff.sweep.candidates import points
from bakeoff.sweep.overrides import parsed, pieces, text
from bakeoff.sweep.plan import Plan, make_plan
from bakeoff.sweep.request import read_request
from bakeoff.sweep.spec import Budget
from bakeoff.sweep.sweep_dir import difference

Small = Callable[..., Plan]


def test_a_plan_resolves_every_arm_in_every_block(small: Small) -> None:
    made = small(blocks={"model": ["alexnet", "vgg11"]})
    assert [(planned_arm.arm, planned_arm.block) for planned_arm in made.planned_arms] == [
        ("momentum", "alexnet"),
        ("momentum", "vgg11"),
        ("adam", "alexnet"),
        ("adam", "vgg11"),
    ]
    momentum, adam = made.planned_arms[0], made.planned_arms[2]
    assert momentum.spaces["optimizer.lr"] != adam.spaces["optimizer.lr"], "each arm is tuned in its own choice's space"
    assert all(len(planned_arm.points) == 3 for planned_arm in made.planned_arms)
    assert made.trials == 12 and made.runs == 12 + 4 * 2
    assert adam.run.optimizer["_target_"] == "torch.optim.Adam" and adam.run.model["width"] == 0.125


def test_three_keys_are_enough(small: Small) -> None:
    made = small(tune=..., budget=..., confirm=..., fixed=..., scales=...)
    assert [planned_arm.points for planned_arm in made.planned_arms] == [({},), ({},)], "nothing to tune: one trial an arm"
    assert made.spec.confirm.first_seeds == tuple(range(1001, 1011))
    assert made.spec.margin == 0.005


def test_an_arm_without_the_key_is_not_tuned_in_it(small: Small) -> None:
    made = small(tune={"optimizer.momentum": {"low": 0.5, "high": 0.9}, "optimizer.lr": "space"})
    assert set(made.planned_arms[0].spaces) == {"optimizer.momentum", "optimizer.lr"}
    assert set(made.planned_arms[1].spaces) == {"optimizer.lr"}


@pytest.mark.parametrize(
    ("changes", "words", "parts"),
    [
        ({"question": ...}, (), ("question", "missing")),
        ({"factors": {}}, (), ("factors", "must not be empty")),
        ({"factors": {"optimizer": []}}, (), ("factors.optimizer", "empty list")),
        ({"factors": {"optimizer": ["adam", "adam"]}}, (), ("adam is listed twice",)),
        ({"factors": {"optimizer": ["adammm", "sgd"]}}, (), ("optimizer=adammm", "did you mean adam", "choices:")),
        ({"factors": {"optimiser": ["adam", "sgd"]}}, (), ("optimiser", "did you mean optimizer")),
        ({"factors": {"seed": [1, 2]}}, (), ("seed", "confirm.seeds")),
        ({"blocs": {"model": ["alexnet"]}}, (), ("blocs", "did you mean blocks")),
        ({"budget": {"trails": 3}}, (), ("budget.trails", "did you mean trials")),
        ({"budget": {"trials": 0}}, (), ("budget.trials=0", "equal to 1")),
        ({"budget": {"sampler": "halten"}}, (), ("budget.sampler=halten", "did you mean halton")),
        ({"confirm": {"seeds": 1.5}}, (), ("confirm.seeds=1.5",)),
        ({"confirm": {"seeds": [4, 4]}}, (), ("seeds", "twice")),
        ({"metric": {"name": "val/acuracy"}}, (), ("val/acuracy", "never logged", "did you mean val/accuracy")),
        ({"metric": {"name": "test/accuracy"}}, (), ("test/accuracy", "test set")),
        ({"metric": {"name": "val/loss", "goal": "maximize"}}, (), ("metric.goal=maximize", "minimize")),
        ({"metric": {"name": "val/accuracy", "goals": "maximize"}}, (), ("metric.goals", "did you mean goal")),
        ({"margin": -1}, (), ("margin=-1", "equal to 0")),
        ({"baseline": "adm"}, (), ("baseline=adm", "did you mean adam", "arms: momentum, adam")),
        ({"tune": {"optimizer.lrr": "space"}}, (), ("optimizer.lrr", "no arm has this key", "did you mean optimizer.lr")),
        ({"tune": {"optimizer.lrr": {"low": 1.0, "high": 2.0}}}, (), ("optimizer.lrr", "no arm has this key")),
        ({"tune": {"optimizer.eps": "space"}}, (), ("optimizer.eps", "no arm declares a space")),
        ({"tune": {"optimizer.lr": {"low": 2.0, "high": 1.0}}}, (), ("tune.optimizer.lr", "low < high")),
        ({"tune": {"optimizer.lr": {"low": -1.0, "high": 1.0}}}, (), ("tune.optimizer.lr", "optimizer.lr=-1.0")),
        ({"tune": {"optimizer.lr": "spaces"}}, (), ("tune.optimizer.lr", "space")),
        ({"fixed": {"optimizer.lr": 0.1}}, (), ("optimizer.lr", "both tune and fixed")),
        ({"fixed": {"modle.width": 0.1}}, (), ("modle", "did you mean model")),
        ({"fixed": {"data.batch_size": 10, "trainer.accumulate": 3}}, (), ("data.batch_size=10", "divide")),
        ({"fixed": {"test": True}}, (), ("test", "confirming stage")),
        ({}, ("optimizer=lion",), ("optimizer=lion", "choices: momentum, adam")),
        ({}, ("optimizer=",), ("optimizer=", "choices: momentum, adam")),
        ({}, ("optimizer.lr=-1",), ("optimizer.lr=-1", "tunes this key")),
        ({}, ("trainer.max_epoch=2",), ("trainer.max_epoch", "did you mean max_epochs")),
        ({}, ("model.width=nan",), ("model.width", "finite")),
        ({}, ("model=alexnet,vgg11",), ("model=alexnet,vgg11", "one value here")),
        ({}, ("workers=0",), ("workers=0", "1 or more")),
        ({}, ("workers=two",), ("workers=two", "whole number")),
        ({}, ("scale=smok",), ("scale=smok", "did you mean smoke")),
        ({}, ("metric.name=val/f1",), ("val/f1", "never logged")),
        ({}, ("resume=abc",), ("resume", "same command")),
        ({}, ("fast",), ("fast", "key=value")),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    small: Small, changes: dict[str, object], words: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    with pytest.raises(BakeoffError) as caught:
        small(*words, **changes)
    message = str(caught.value)
    assert all(part in message for part in parts), message
    assert "\n" not in message
    assert not Path("runs").exists()


def test_an_unknown_sweep_has_a_near_miss(small: Small) -> None:
    small()
    with pytest.raises(BakeoffError, match=r"smal: no such sweep \(did you mean small\?\)"):
        read_request("smal")
    Path("sweeps/torn.yaml").write_text("question: [")
    with pytest.raises(BakeoffError, match=r"torn\.yaml: line 2: "):
        read_request("torn")


def test_the_line_wins_over_fixed_and_narrows(small: Small) -> None:
    made = small("optimizer=adam", "model=vgg11", "model.width=0.25", "budget.trials=5", blocks={"model": ["alexnet", "vgg11"]})
    assert [(planned_arm.arm, planned_arm.block) for planned_arm in made.planned_arms] == [("adam", "vgg11")]
    assert made.planned_arms[0].run.model["width"] == 0.25
    assert len(made.planned_arms[0].points) == 5


def test_a_scale_is_a_set_of_fixed_values_below_the_line(small: Small) -> None:
    made = small("scale=smoke")
    assert made.planned_arms[0].run.trainer.max_epochs == 2 and len(made.planned_arms[0].points) == 2
    assert small("scale=smoke", "trainer.max_epochs=7").planned_arms[0].run.trainer.max_epochs == 7
    assert small("scale=paper").hash != small().hash


SITE = (
    "workers=2",
    "trainer.devices=2",
    "trainer.threads=1",
    "tracking.uri=http://127.0.0.1:9",
    "tracking.folder=elsewhere",
    "data.root=/x",
    "data.download=true",
)
SCIENCE = (
    "trainer.max_epochs=2",
    "optimizer=adam",
    "budget.trials=4",
    "confirm.seeds=3",
    "margin=0.02",
    "seed=1",
    "model.width=0.25",
    "budget.sampler=random",
    "baseline=adam",
    "allow=decay",
    "prune=median",
    "budget.studies=2",
    "confirm.max_seeds=4",
    "metric.name=val/loss",
)


@pytest.mark.parametrize("word", SITE)
def test_where_it_runs_leaves_the_hash_as_it_is(small: Small, word: str) -> None:
    assert small(word).hash == small().hash


@pytest.mark.parametrize("word", SCIENCE)
def test_what_matters_changes_the_hash(small: Small, word: str) -> None:
    changes = {"metric": "val/accuracy"} if word.startswith("metric") else {}
    assert small(word, **changes).hash != small(**changes).hash


def test_words_and_order_of_a_file_are_no_part_of_the_hash(small: Small) -> None:
    first = small().hash
    assert small(question="Which one, then?").hash == first
    assert small(factors={"optimizer": ["adam", "momentum"]}).hash == first
    assert small(tune={"optimizer.lr": {"low": 1e-4, "high": 1.0, "log": True}}).hash != first


def test_a_changed_plan_says_what_differs(small: Small) -> None:
    old = json.loads(json.dumps(small().tree()))
    assert difference(old, small("trainer.max_epochs=2", "budget.trials=5").tree()) == [
        "budget.trials: 3 -> 5",
        "fixed.trainer.max_epochs: 1 -> 2",
    ]
    assert difference(old, old) == ["spaces or defaults"]


def test_plan_json_holds_all_that_a_report_reads(small: Small) -> None:
    from bakeoff.report.design import read_design
    from bakeoff.run_files.stored_plan import parse_stored_plan

    made = small("workers=2", blocks={"model": ["alexnet", "vgg11"]})
    read_back = read_design(parse_stored_plan(json.loads(json.dumps(made.tree()))))
    assert read_back.arms == ("momentum", "adam") and read_back.blocks == ("alexnet", "vgg11")
    assert (read_back.trials, read_back.seeds, read_back.hash) == (made.trials, 2, made.hash)
    assert read_back.sequential.sizes == (2, 4, 6, 8, 10) == made.spec.confirm.analyses
    assert read_back.command == made.command == "bakeoff sweep small workers=2"


def test_points_are_the_same_at_every_call_and_fill_their_space() -> None:
    spaces = {"optimizer.lr": SearchSpace(1e-4, 1.0, log=True), "k": SearchSpace(1, 4, integer=True), "m": SearchSpace(0.5, 0.9)}
    first = points(spaces, budget=Budget(trials=64, sampler="halton"), seed=0)
    assert (
        first
        == points(spaces, budget=Budget(trials=64, sampler="halton"), seed=0)
        != points(spaces, budget=Budget(trials=64, sampler="halton"), seed=1)
    )
    assert first[:8] == points(spaces, budget=Budget(trials=8, sampler="halton"), seed=0), "a longer list begins with the shorter one"
    rates = sorted(point["optimizer.lr"] for point in first)
    # A quarter of the points in every decade, within what quasi-random points owe.
    for low in (1e-4, 1e-3, 1e-2, 1e-1):
        assert 14 <= sum(low <= rate < 10 * low for rate in rates) <= 18
    assert {point["k"] for point in first} == {1, 2, 3, 4} and all(isinstance(point["k"], int) for point in first)
    assert all(0.5 <= point["m"] <= 0.9 for point in first)
    drawn = points(spaces, budget=Budget(trials=64, sampler="random"), seed=0)
    assert len({point["optimizer.lr"] for point in drawn}) == 64 and drawn != first


def test_arms_are_tuned_at_the_same_places_of_their_spaces(small: Small) -> None:
    import math

    def shares(planned_arm: object) -> list[float]:
        space = planned_arm.spaces["optimizer.lr"]  # type: ignore[attr-defined]
        return [math.log(p["optimizer.lr"] / space.low) / math.log(space.high / space.low) for p in planned_arm.points]  # type: ignore[attr-defined]

    one, two = (shares(planned_arm) for planned_arm in small().planned_arms)
    assert one == pytest.approx(two, abs=1e-4)


def test_words_survive_the_way_to_hydra_and_back() -> None:
    assert pieces("a,[b,c],'d,e',{f:1,g:2}") == ["a", "[b,c]", "'d,e'", "{f:1,g:2}"]
    for value in (1e-3, 10, True, None, "adam", [1, 2], "he said 1", "12", "true"):
        assert parsed("key", text(value)) == value


@pytest.mark.parametrize("path", sorted(package_data_dir("sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_sweep_makes_a_plan_of_two_of_its_arms(path: Path) -> None:
    spec = read_request(path.stem).spec
    assert spec.question.endswith("?") and spec.margin > 0
    key = next(key for key, values in spec.factors.items() if len(values) > 1)
    known = {**spec.factors, **spec.blocks}
    words = [f"{name}={','.join(text(value) for value in values[: 1 + (name == key)])}" for name, values in known.items()]
    assert len(make_plan(path.stem, overrides=words).planned_arms) == 2


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(package_data_dir("sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_sweep_makes_a_plan(path: Path) -> None:
    spec = read_request(path.stem).spec
    made = make_plan(path.stem)
    assert len(made.planned_arms) >= 2
    for scale in ("smoke", "paper") if path.stem != "quickstart" else ():
        narrow = [f"{key}={text(values[0])}" for key, values in {**spec.factors, **spec.blocks}.items()]
        assert make_plan(path.stem, overrides=[f"scale={scale}", *narrow]).hash != made.hash


def test_planning_needs_neither_torch_nor_optuna() -> None:
    import subprocess

    code = (
        "import sys, bakeoff.sweep.plan, bakeoff.training.processes, bakeoff.sweep.runner, bakeoff.commands.sweep;"
        "print([name for name in ('torch', 'optuna', 'mlflow', 'hydra') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
