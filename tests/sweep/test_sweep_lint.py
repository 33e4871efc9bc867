"""Arms that differ in what is not compared are refused in one line each, or written down where the sweep file allows it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from bakeoff.config.slots import package_data_dir
from bakeoff.sweep.fairness import PARAMETERS, FairnessError
from bakeoff.sweep.plan import Plan, make_plan
from bakeoff.sweep.spec import RULES

Sheet = Callable[..., Path]
BARE: dict[str, Any] = {"tune": ..., "fixed": {"model.width": 0.125}, "confirm": {"seeds": 2}}
CHOICES: dict[str, dict[str, Any]] = {
    "trainer/long": {"defaults": ["auto", "_self_"], "max_epochs": 30},
    "trainer/short": {"defaults": ["auto", "_self_"], "max_steps": 7},
    "trainer/halves": {"defaults": ["auto", "_self_"], "accumulate": 2},
    "trainer/brain": {"defaults": ["auto", "_self_"], "precision": "bf16-mixed"},
    "trainer/clipped": {"defaults": ["auto", "_self_"], "clip": 1.0},
    "data/larger": {"defaults": ["digits", "_self_"], "batch_size": 64},
    "optimizer/tight": {"defaults": ["sgd", "_self_"], "space": {"lr": {"low": 0.01, "high": 1.0, "log": True}}},
    "optimizer/all": {"defaults": ["momentum", "_self_"], "decay_all": True},
}
EXPERIMENTS: dict[str, list[str]] = {"plain": [], "warm": ["scheduler.warmup=0.1"], "cut": ["data.augment.crop=0"], "seeded": ["seed=9"]}


def write_own() -> Path:
    """A --config-dir with choices that bring more along than they are called for."""
    for name, tree in CHOICES.items():
        path = Path("own") / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(tree))
    for name, words in EXPERIMENTS.items():
        path = Path("own/experiment") / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        tree: dict[str, Any] = {}
        for word in words:
            key, _, value = word.partition("=")
            node = tree
            *parents, last = key.split(".")
            for parent in parents:
                node = node.setdefault(parent, {})
            node[last] = yaml.safe_load(value)
        path.write_text("# @package _global_\n" + yaml.safe_dump(tree))
    return Path("own")


CASES = [
    ("steps", {"factors": {"trainer": ["auto", "long"]}}, "trainer.max_epochs", "10 (auto), 30 (long)"),
    ("steps", {"factors": {"trainer": ["auto", "short"]}}, "trainer.max_steps", "not set (auto), 7 (short)"),
    (
        "steps",
        {"factors": {"optimizer": ["sgd", "momentum"]}, "tune": {"trainer.max_epochs": {"low": 1, "high": 5}}},
        "tune.trainer",
        "own",
    ),
    ("batch", {"factors": {"data": ["digits", "larger"]}}, "data.batch_size", "32 (digits), 64 (larger)"),
    ("batch", {"factors": {"trainer": ["auto", "halves"]}}, "trainer.accumulate", "2 (halves)"),
    (
        "batch",
        {"factors": {"optimizer": ["sgd", "momentum"]}, "tune": {"data.batch_size": {"choices": [16, 32]}}},
        "tune.data.batch_size",
        "own",
    ),
    ("precision", {"factors": {"trainer": ["auto", "brain"]}}, "trainer.precision", "bf16-mixed (brain)"),
    ("recipe", {"factors": {"trainer": ["auto", "clipped"]}}, "trainer.clip", "1.0 (clipped)"),
    ("schedule", {"factors": {"experiment": ["plain", "warm"]}}, "scheduler.warmup", "0.1 (warm)"),
    ("data", {"factors": {"experiment": ["plain", "cut"]}}, "data.augment.crop", "0 (cut)"),
    ("data", {"factors": {"experiment": ["plain", "seeded"]}}, "seed", "9 (seeded)"),
    ("data", {"factors": {"optimizer": ["sgd", "momentum"]}, "tune": {"data.augment.crop": {"low": 0, "high": 4}}}, "tune.data", "own"),
    ("decay_all", {"factors": {"optimizer": ["momentum", "all"]}}, "optimizer.decay_all", "true (all)"),
    ("decay", {"factors": {"optimizer": ["momentum", "adamw"]}}, "weight decay", "L2 (momentum), decoupled (adamw)"),
    (
        "decay",
        {"factors": {"optimizer": ["adam", "adamw"]}, "tune": {"optimizer.weight_decay": "space"}, "fixed": {"optimizer.lr": 0.01}},
        "weight decay",
        "L2 (adam), decoupled (adamw)",
    ),
    (
        "tuning",
        {"factors": {"optimizer": ["momentum", "adam"]}, "tune": {"optimizer.momentum": "space"}},
        "tuning runs",
        "3 (momentum), 1 (adam)",
    ),
    ("space", {"factors": {"optimizer": ["sgd", "tight"]}, "tune": {"optimizer.lr": "space"}}, "in decades", "3.0 (sgd), 2.0 (tight)"),
]


@pytest.mark.parametrize(("rule", "changes", "key", "values"), CASES, ids=lambda value: value if isinstance(value, str) else "")
def test_what_is_not_declared_is_refused_or_allowed(sheet: Sheet, rule: str, changes: dict[str, Any], key: str, values: str) -> None:
    own = write_own()
    sheet(**{**BARE, **changes})
    with pytest.raises(FairnessError) as caught:
        make_plan("small", config_dir=own)
    (line,) = [line for line in caught.value.lines if f"small.yaml: {rule}: " in line]
    assert key in line and values in line and line.endswith(f"allow: [{rule}]") and "\n" not in line
    found = [line.split(": ")[1] for line in caught.value.lines]
    sheet(**{**BARE, **changes}, allow=found)
    made = make_plan("small", config_dir=own)
    written = json.loads(json.dumps(made.tree()))
    assert written["allow"] == found == [item["rule"] for item in written["differs"]]
    (told,) = [item["text"] for item in written["differs"] if item["rule"] == rule]
    assert values in told


DECLARED: list[dict[str, Any]] = [
    {"factors": {"trainer.max_epochs": [1, 2]}},
    {"factors": {"data.batch_size": [32, 64]}},
    {"factors": {"trainer.precision": ["32-true", "bf16-mixed"]}},
    {"factors": {"scheduler": ["constant", "cosine", "step"]}},
    {"factors": {"scheduler.warmup": [0.0, 0.1]}},
    {"factors": {"data.augment.crop": [0, 2]}},
    {"factors": {"optimizer.decay_all": [False, True]}},
    {"factors": {"model": ["alexnet", "vgg11"]}},
    {"factors": {"trainer.clip": [0.5, 1.0]}},
    {"factors": {"optimizer": ["sgd", "momentum", "adam", "rmsprop"]}},
    {"factors": {"optimizer": ["adam", "adamw"]}, "fixed": {"optimizer.weight_decay": 0.0}},
    {"factors": {"optimizer": ["momentum", "adam"]}, "tune": {"optimizer.lr": "space"}},
    {"factors": {"initializer": ["he_normal", "orthogonal"]}},
    {"factors": {"loss": ["softmax", "svm"]}},
    {"factors": {"optimizer": ["sgd", "adam"]}, "blocks": {"data": ["digits", "larger"], "trainer": ["auto", "long"]}},
]


@pytest.mark.parametrize("changes", DECLARED, ids=lambda changes: "+".join(changes["factors"]))
def test_what_is_the_factor_itself_is_declared_and_blocks_may_differ(sheet: Sheet, changes: dict[str, Any]) -> None:
    own = write_own()
    sheet(**{**BARE, **changes})
    assert make_plan("small", config_dir=own).differs == ()


def test_every_complaint_is_a_line_of_its_own(sheet: Sheet) -> None:
    own = write_own()
    sheet(**BARE, factors={"trainer": ["long", "brain", "clipped"], "optimizer": ["momentum", "adamw"]})
    with pytest.raises(FairnessError) as caught:
        make_plan("small", config_dir=own)
    assert [line.split(": ")[1] for line in caught.value.lines] == ["steps", "precision", "decay", "recipe"]


def sized(plan_: Plan, *counts: int) -> list[tuple[int, int, int]]:
    return [(count, 10, 355) for count in counts][: len(plan_.planned_arms)]


def test_nets_of_other_sizes_are_refused_or_allowed_unless_the_net_is_the_factor(small: Callable[..., Plan]) -> None:
    made = small(factors={"activation": ["relu", "elu"]}, tune=...)
    assert PARAMETERS == 1.05
    within = made.examined(sized(made, 1000, 1050))
    assert (
        within.differs == ()
        and [planned_arm.parameters for planned_arm in within.planned_arms] == [1000, 1050]
        and within.hash == made.hash
    )
    with pytest.raises(
        FairnessError, match=r"parameters: the arms' nets are more than 5 % apart in parameters: 1000 \(relu\), 1051 \(elu\)"
    ):
        made.examined(sized(made, 1000, 1051))
    allowed = small("allow=parameters", factors={"activation": ["relu", "elu"]}, tune=...)
    (finding,) = allowed.examined(sized(allowed, 1000, 2000)).differs
    assert finding.rule == "parameters" and allowed.hash != made.hash
    nets = small(factors={"model": ["alexnet", "vgg11"]}, tune=...)
    assert nets.examined(sized(nets, 1000, 9000)).differs == ()
    blocks = small(blocks={"model": ["alexnet", "vgg11"]})
    assert blocks.examined([(10, 1, 355), (90, 1, 355)] * 2).differs == ()


def test_an_unknown_rule_has_a_near_miss(small: Callable[..., Plan]) -> None:
    with pytest.raises(Exception, match=r"allow=paramters: must be .* \(did you mean parameters\?\)"):
        small("allow=paramters")
    assert small("allow=data,decay").spec.allow == ("data", "decay")
    assert {case[0] for case in CASES} | {"parameters"} == set(RULES), "every rule has its cases"


def test_the_decay_of_every_shipped_optimizer_is_known() -> None:
    from bakeoff.config.compose import compose_in_session, hydra_session

    names = sorted(path.stem for path in (package_data_dir("conf") / "optimizer").glob("*.yaml"))
    with hydra_session():
        kinds = {name: compose_in_session([f"optimizer={name}"]).descriptions["optimizer"].decay_kind for name in names}
    assert names and set(kinds.values()) <= {"L2", "decoupled", "within the trust ratio"}, kinds


@pytest.mark.slow
def test_what_decays_apart_really_does() -> None:
    """With no gradient, decoupled decay shrinks every weight by the same share at every step; L2 does not, but for plain SGD."""
    import torch

    from bakeoff import builders
    from bakeoff.config.compose import compose_config

    for name in ("momentum", "adam", "adamw", "nadam", "radam", "rmsprop", "adagrad", "adamax", "lion", "adan"):
        composed = compose_config([f"optimizer={name}", "optimizer.weight_decay=0.1", "optimizer.lr=0.01"])
        run = composed.run
        net = torch.nn.Linear(4, 4, bias=False)
        with torch.no_grad():
            net.weight.copy_(torch.arange(1.0, 17.0).reshape(4, 4))
        optimizer, shares = builders.make_optimizer(run, net), []
        for _ in range(3):
            before = net.weight.detach().clone()
            net.weight.grad = torch.zeros_like(net.weight)
            optimizer.step()
            shares.append((net.weight.detach() / before).flatten())
        all_shares = torch.cat(shares)
        constant = bool((all_shares.max() - all_shares.min()) < 1e-6 and all_shares.max() < 1)
        assert constant == (composed.descriptions["optimizer"].decay_kind == "decoupled"), (name, all_shares)
