"""Every file of conf/ and sweeps/ composes and builds, defaults in YAML and Python agree, and fingerprints are pinned."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import yaml
from pydantic import BaseModel

from bakeoff.builders import validate_components
from bakeoff.config import compose
from bakeoff.config.choices import DESCRIPTIVE_KEYS, choice_files, describe_target, read_choice
from bakeoff.config.compose import ComposedConfig
from bakeoff.config.schema import SCIENCE, AugmentConfig, DataConfig, FieldKind, RunConfig, TrackingConfig, TrainerConfig, fingerprint
from bakeoff.config.slots import GROUPS, SLOTS, package_data_dir
from bakeoff.config.targets import ALLOWED_TARGETS
from bakeoff.errors import ConfigError
from bakeoff.sweep.candidates import ends
from bakeoff.sweep.plan import Plan
from bakeoff.sweep.request import read_request

Compose = Callable[..., ComposedConfig]
CONF, SWEEPS = package_data_dir("conf"), package_data_dir("sweeps")
CHOICES = [(group, path.stem) for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]
SWEEP_NAMES = sorted(path.stem for path in SWEEPS.glob("*.yaml"))
BY_DATASET = {"source", "num_classes", "channels", "native_size", "size", "fit", "augment", "batch_size"}
"""Fields of `data` that differ between datasets; for the others all files agree with the Python defaults."""
NEEDS = {
    "model=alexnet_2012": ["data.size=227"],
    "model=alexnet_caffe": ["data.size=227"],
    "model=alexnet_owt": ["data.size=224"],
}
"""Choice -> overrides that it needs."""
CALL = {"trust", "resume"}
"""Keys of run.yaml that belong to a command line, not to the run."""

PINNED = {
    (): "b007e56db956078d",
    ("model=vgg11_bn", "data=cifar10", "optimizer=adam", "optimizer.lr=3e-4", "seed=1"): "2f7648315c32cf16",
    ("model=alexnet", "activation=elu", "initializer=orthogonal", "optimizer=sgd", "scheduler=step", "loss=svm"): "2f418b5a896ba6d1",
}
"""These must not change, since earlier results would no longer match: a new field needs a default that preserves them."""

CHANGED: dict[str, Any] = {
    "model": {"_target_": "bakeoff.nets.alexnet.alexnet", "width": 0.5},
    "activation": {"_target_": "torch.nn.Tanh"},
    "initializer": {"_target_": "bakeoff.components.initializers.zeros"},
    "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.123},
    "scheduler": {"_target_": "bakeoff.components.schedulers.constant"},
    "loss": {"_target_": "torch.nn.MultiMarginLoss"},
    "seed": 7,
    "test": True,
    "name": "another",
    "choices": {"model": "renamed"},
    "data.source": {"_target_": "bakeoff.data.sources.cifar10"},
    "data.num_classes": 11,
    "data.channels": 4,
    "data.native_size": 9,
    "data.size": 40,
    "data.fit": "pad",
    "data.augment": {"crop": 7, "flip": True},
    "data.folds": 5,
    "data.fold": 2,
    "data.views": {"kind": "ten_crop"},
    "data.workers": 1,
    "penalty": {"l1": 1e-5},
    "diagnostics": "none",
    "data.normalize": False,
    "data.batch_size": 48,
    "data.val_fraction": 0.25,
    "data.split_seed": 3,
    "data.subset": 500,
    "data.eval_batch_size": 100,
    "data.root": "elsewhere",
    "data.download": True,
    "trainer.max_epochs": 99,
    "trainer.max_steps": 5,
    "trainer.max_time": "00:00:10:00",
    "trainer.precision": "bf16-mixed",
    "trainer.accumulate": 2,
    "trainer.clip": 1.0,
    "trainer.divergence": 3.0,
    "trainer.accelerator": "cpu",
    "trainer.devices": 2,
    "trainer.strategy": "ddp",
    "trainer.threads": 3,
    "trainer.deterministic": False,
    "trainer.channels_last": False,
    "trainer.compile": True,
    "trainer.log_every": 77,
    "trainer.checkpoint_every": 4,
    "trainer.progress": False,
    "tracking.uri": "http://127.0.0.1:5999",
    "tracking.experiment": "other",
    "tracking.folder": "other",
    "tracking.system_every": 3.0,
}
"""Another value for every field."""


def read(path: str) -> dict[str, Any]:
    tree = yaml.safe_load((CONF / path).read_text(encoding="utf-8"))
    assert isinstance(tree, dict)
    return tree


def plain(value: Any) -> Any:
    return value.model_dump() if isinstance(value, BaseModel) else value


def kinds(node: type[BaseModel], prefix: str = "") -> dict[str, FieldKind]:
    """Dotted field -> its kind."""
    kind_by_field: dict[str, FieldKind] = {}
    for name, info in node.model_fields.items():
        own = [item for item in info.metadata if isinstance(item, FieldKind)]
        if own:
            assert len(own) == 1, f"{prefix}{name} is of {own}"
            kind_by_field[f"{prefix}{name}"] = own[0]
        else:
            inner = info.annotation
            assert isinstance(inner, type) and issubclass(inner, BaseModel), f"{prefix}{name} has no kind"
            kind_by_field |= kinds(inner, f"{prefix}{name}.")
    return kind_by_field


KINDS = kinds(RunConfig)


@pytest.fixture(scope="module")
def default() -> RunConfig:
    return compose.compose()


def test_no_slot_is_empty() -> None:
    assert {group for group, _ in CHOICES} >= {*SLOTS, "trainer", "tracking"}
    assert len(SWEEP_NAMES) >= 5


@pytest.mark.parametrize(("group", "name"), CHOICES, ids=[f"{group}={name}" for group, name in CHOICES])
def test_every_choice_composes_builds_and_has_a_description(group: str, name: str, composed: Compose) -> None:
    config = composed(f"{group}={name}", *NEEDS.get(f"{group}={name}", []))
    if name == "gpu" and not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="has 0 GPUs"):
            validate_components(config.run)
    elif name == "from_run":
        with pytest.raises(ConfigError, match=r"initializer\.run: names no run"):
            validate_components(config.run)
    else:
        validate_components(config.run)
    about = str(read(f"{group}/{name}.yaml").get("about", ""))
    assert about and "\n" not in about.strip()
    for key, space in config.spaces.items():
        assert key in config.run.flat(), f"{group}/{name}.yaml: space for {key}, which is not an argument"
        for end in ends(space):
            config.check(config.run.replace(**{key: end}))
    if group in SLOTS:
        assert config.run.choices[group] == name


@pytest.mark.parametrize("slot", [slot for slot in SLOTS if slot != "data"])
def test_a_replaced_choice_keeps_no_argument_of_the_old_one(slot: str, default: RunConfig, composed: Compose) -> None:
    old = getattr(default, slot)
    for name in [name for group, name in CHOICES if group == slot]:
        word = f"{slot}={name}"
        config = getattr(composed(word, *NEEDS.get(word, [])).run, slot)
        keys = set(read_choice(CONF / slot / f"{name}.yaml")) - set(DESCRIPTIVE_KEYS)
        assert set(config) == keys, f"{word} after {old['_target_']}"


@pytest.mark.parametrize("name", SWEEP_NAMES)
def test_every_sweep_has_a_plan_with_valid_arms(name: str, planned: Callable[..., Plan]) -> None:
    scales = yaml.safe_load((SWEEPS / f"{name}.yaml").read_text(encoding="utf-8")).get("scales") or {}
    assert name == "quickstart" or set(scales) == {"smoke", "paper"}, f"sweeps/{name}.yaml has not these scales"
    plan = planned(name, "smoke" if scales else None, outer=True)
    assert plan.spec.question.endswith("?")
    for planned_arm in plan.planned_arms:
        assert planned_arm.run.choices["data"] == "digits"
        validate_components(planned_arm.run)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SWEEP_NAMES if name != "quickstart"])
def test_every_scale_of_a_sweep_has_its_own_plan(name: str, planned: Callable[..., Plan]) -> None:
    default, smoke, paper = (planned(name, scale) for scale in (None, "smoke", "paper"))
    assert len({default.hash, smoke.hash, paper.hash}) == 3
    assert smoke.runs < default.runs <= paper.runs
    assert smoke.runs <= 100, "a first look takes minutes"
    assert (
        {planned_arm.arm for planned_arm in smoke.planned_arms}
        <= {planned_arm.arm for planned_arm in default.planned_arms}
        == {planned_arm.arm for planned_arm in paper.planned_arms}
    )
    for planned_arm in [*smoke.planned_arms, *{planned_arm.block: planned_arm for planned_arm in paper.planned_arms}.values()]:
        validate_components(planned_arm.run)


SPARED = {
    "initializers": ("initializer", {"zeros", "constant", "from_run"}),
    "activations": ("activation", {"celu"}),
    "optimizers": ("optimizer", {"lbfgs"}),
    "losses": ("loss", set()),
}
"""Sweep -> its slot, and what of the slot it leaves out, as its own comment says."""


@pytest.mark.parametrize("name", SPARED)
def test_a_slots_sweep_has_all_choices_except_those_it_names(name: str) -> None:
    slot, spared = SPARED[name]
    arms = list(read_request(name).spec.factors[slot])
    assert set(arms) == {choice for group, choice in CHOICES if group == slot} - spared
    comments = " ".join(re.findall("#(.*)", (SWEEPS / f"{name}.yaml").read_text(encoding="utf-8")))
    assert all(choice in comments for choice in spared)


@pytest.mark.parametrize(("path", "node"), [("trainer/auto.yaml", TrainerConfig), ("tracking/local.yaml", TrackingConfig)])
def test_the_defaults_in_yaml_and_python_agree(path: str, node: type[BaseModel]) -> None:
    tree = read(path)
    tree.pop("about")
    assert tree == node().model_dump()


@pytest.mark.parametrize("name", [name for group, name in CHOICES if group == "data"])
def test_every_dataset_has_every_key_of_data(name: str) -> None:
    tree = read(f"data/{name}.yaml")
    tree.pop("about")
    tree.pop("space", None)
    assert set(tree) == set(DataConfig.model_fields)
    assert set(tree["augment"]) == set(AugmentConfig.model_fields)
    for key in set(tree) - BY_DATASET:
        assert tree[key] == plain(DataConfig.model_fields[key].default), f"data/{name}.yaml: {key}"


def test_run_yaml_has_every_key_of_a_run() -> None:
    tree = read("run.yaml")
    groups = {key for entry in tree["defaults"] if isinstance(entry, dict) for key in entry if not key.startswith("override ")}
    assert groups == set(GROUPS)
    values = {key: value for key, value in tree.items() if key not in {"defaults", "hydra"}}
    own = {name: info for name, info in RunConfig.model_fields.items() if name not in {*GROUPS, "choices"}}
    assert set(values) - CALL == set(own)
    for key, info in own.items():
        assert values[key] == plain(info.default), f"run.yaml: {key}"


def test_a_description_names_arguments_of_its_choice() -> None:
    assert {name.split(".")[0] for name in ALLOWED_TARGETS} == set(SLOTS)
    for slot, name in [(slot, name) for slot, name in CHOICES if slot in SLOTS]:
        tree = read_choice(CONF / slot / f"{name}.yaml")
        own = yaml.safe_load((CONF / slot / f"{name}.yaml").read_text(encoding="utf-8"))
        assert set(own.get("ranges", {})) | set(tree.get("added", {})) <= set(tree), f"{slot}/{name}.yaml"
        assert all(tree[key] == value for key, value in tree.get("added", {}).items() if key not in own and slot != "initializer")
        assert slot != "optimizer" or tree["decay_kind"] in ("L2", "decoupled", "within the trust ratio")
        assert tree.get("decoupled_by") is None or isinstance(tree[tree["decoupled_by"]], bool)


def test_choices_with_the_same_target_have_the_same_description() -> None:
    for slot, name in [(slot, name) for slot, name in CHOICES if slot in SLOTS and slot != "data"]:
        tree = read_choice(CONF / slot / f"{name}.yaml")
        described = describe_target(slot, tree["_target_"])
        assert set(described.ranges) == set(tree.get("ranges", {})) and described.added == tree.get("added", {}), f"{slot}/{name}.yaml"


def test_bases_are_not_choices() -> None:
    assert set(choice_files("model")) == {name for group, name in CHOICES if group == "model"}
    assert not any("_base_" in str(path) for group in GROUPS for path in choice_files(group).values())


@pytest.mark.parametrize("overrides", PINNED, ids=lambda overrides: " ".join(overrides) or "default")
def test_fingerprints_do_not_change(overrides: tuple[str, ...]) -> None:
    # The choices set a head and a critical gain, which earlier configs lack.
    run = compose.compose((*overrides, "initializer.head=as_rest", "initializer.auto_gain=second_moment"))
    assert fingerprint(run) == PINNED[overrides]
    earlier = {key: value for key, value in run.initializer.items() if key not in ("head", "auto_gain")}
    assert fingerprint(run.replace(initializer=earlier)) == PINNED[overrides] != fingerprint(compose.compose(overrides))


def test_every_field_has_another_value_to_try() -> None:
    assert set(CHANGED) == set(KINDS)


@pytest.mark.parametrize("key", KINDS)
def test_only_science_changes_the_fingerprint(key: str, default: RunConfig) -> None:
    changed = default.replace(**{key: CHANGED[key]})
    assert changed != default, f"{key}: not another value"
    assert (fingerprint(changed) != fingerprint(default)) == (KINDS[key] is SCIENCE)
    assert fingerprint(compose.load_frozen(compose.dump_frozen(changed), origin="test")) == fingerprint(changed)


def test_shampoo_takes_no_momentum() -> None:
    assert compose.compose(["optimizer=shampoo"]).optimizer["momentum"] == 0
    with pytest.raises(ConfigError, match=r"optimizer\.momentum=0\.9: must be a number equal to 0 \(the library mixes"):
        compose.compose(["optimizer=shampoo", "optimizer.momentum=0.9"])
