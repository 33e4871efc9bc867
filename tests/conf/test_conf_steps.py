"""Every file of conf/ and sweeps/ takes training steps at a small width, and the published nets return scores at full size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from bakeoff import builders
from bakeoff.config.compose import ComposedConfig
from bakeoff.config.schema import RunConfig
from bakeoff.config.slots import SLOTS, package_data_dir
from bakeoff.sweep.plan import Plan

CONF, SWEEPS = package_data_dir("conf"), package_data_dir("sweeps")
SWEEP_NAMES = sorted(path.stem for path in SWEEPS.glob("*.yaml"))
CHOICES = [f"{slot}={path.stem}" for slot in (*SLOTS, "experiment") for path in sorted((CONF / slot).glob("*.yaml"))]
NEEDS_A_RUN = "initializer=from_run"
"""Needs a trained run, as in test_conf_published.py."""
SIZES = {"model=alexnet_2012": 227, "model=alexnet_caffe": 227, "model=alexnet_owt": 224}
NARROW = 0.1
PUBLISHED = [word for word in CHOICES if word.startswith("model=") and word not in ("model=alexnet", "model=alexnet_mini")]
IMAGES = 2


def take_steps(run: RunConfig, *, steps: int) -> bool:
    """Train on two random images with all parts of the run, check that all numbers are finite, and return whether a weight has changed."""
    torch.manual_seed(0)
    net, _ = builders.make_initialized_model(run)
    before = [weight.detach().clone() for weight in net.parameters()]
    optimizer: Any = builders.make_optimizer(run, net)
    loss = builders.make_loss(run)
    schedule = builders.make_scheduler(run, optimizer, total_steps=10, steps_per_epoch=5)
    images = torch.randn(IMAGES, run.data.channels, run.data.size, run.data.size)
    targets = torch.arange(IMAGES) % run.data.num_classes
    net.train()
    if callable(getattr(optimizer, "train", None)):  # schedule-free
        optimizer.train()

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value: torch.Tensor = loss(net(images), targets)
        assert value.isfinite(), value
        value.backward()  # type: ignore[no-untyped-call]
        return value

    for _ in range(steps):
        optimizer.step(closure)
        schedule.step()
    assert all(weight.isfinite().all() for weight in net.parameters())
    return any(not torch.equal(old, new) for old, new in zip(before, net.parameters(), strict=True))


@pytest.mark.parametrize("word", [word for word in CHOICES if word != NEEDS_A_RUN])
def test_every_choice_takes_training_steps(word: str, composed: Callable[..., ComposedConfig]) -> None:
    run = composed(word, *([f"data.size={SIZES[word]}"] if word in SIZES else [])).run
    if word.startswith(("model=", "experiment=")):
        run = run.replace(**{"model.width": NARROW})
    elif not word.startswith("optimizer="):  # the rate of momentum is too large for some losses on two images
        run = run.replace(**{"optimizer.lr": 1e-4})
    assert take_steps(run, steps=3)


def check_first_steps(plan: Plan) -> None:
    """Take a step with each arm's first point; SOAP's first step only initializes its preconditioner."""
    moved = {planned_arm.title: take_steps(planned_arm.run.replace(**planned_arm.points[0]), steps=1) for planned_arm in plan.planned_arms}
    assert {title for title, any_moved in moved.items() if not any_moved} == {title for title in moved if "soap" in title}


@pytest.mark.parametrize("name", SWEEP_NAMES)
def test_the_outermost_arms_of_every_sweep_take_a_training_step(name: str, planned: Callable[..., Plan]) -> None:
    check_first_steps(planned(name, "smoke" if name != "quickstart" else None, outer=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", SWEEP_NAMES)
def test_every_arm_of_every_sweep_takes_a_training_step(name: str, planned: Callable[..., Plan]) -> None:
    check_first_steps(planned(name, "smoke" if name != "quickstart" else None))


@pytest.mark.parametrize("word", PUBLISHED)
def test_published_nets_have_their_scores_at_full_size(word: str, composed: Callable[..., ComposedConfig]) -> None:
    size = SIZES.get(word, 224)
    run = composed(word, *([f"data.size={size}"] if word in SIZES else [])).run
    run = run.replace(**{"model.head": "imagenet", "model.size": size, "model.in_channels": 3, "model.num_classes": 1000})
    with torch.device("meta"):
        net = builders.make_uninitialized_model(run)
        scores = net(torch.empty(2, 3, size, size))
        builders.make_loss(run)(scores, torch.zeros(2, dtype=torch.long)).backward()
    assert scores.shape == (2, 1000)
    assert all(weight.grad is not None and weight.grad.shape == weight.shape for weight in net.parameters())
    assert 55e6 < sum(weight.numel() for weight in net.parameters()) < 150e6


PAPER_TRAINING = {
    "optimizer._target_": "bakeoff.components.optimizers.MomentumCaffe",
    "optimizer.lr": 0.01,
    "optimizer.momentum": 0.9,
    "optimizer.weight_decay": 5e-4,
    "optimizer.decay_all": True,
    "scheduler._target_": "bakeoff.components.schedulers.plateau",
    "scheduler.watch": "error",
    "scheduler.factor": 0.1,
    "scheduler.floor": 1e-3,
}
"""Settings that both papers share."""
PAPERS: dict[str, dict[str, Any]] = {
    "alexnet_2012_imagenet": {
        "model._target_": "bakeoff.nets.alexnet.alexnet_2012",
        "model.head": "imagenet",
        "model.width": 1.0,
        "model.dropout": 0.5,
        "activation._target_": "torch.nn.ReLU",
        "initializer._target_": "bakeoff.components.initializers.AlexNetPaper",
        "initializer.std": 0.01,
        "initializer.bias": 1.0,
        **PAPER_TRAINING,
        "loss._target_": "torch.nn.CrossEntropyLoss",
        "data.source._target_": "bakeoff.data.sources.imagenet",
        "data.size": 227,
        "data.augment.scale": [256],
        "data.augment.flip": True,
        "data.augment.lighting": 0.1,
        "data.views.kind": "ten_crop",
        "data.views.scales": [256],
        "data.normalize": "mean",
        "data.batch_size": 128,
        "trainer.max_epochs": 90,
        "test": True,
    },
    "vgg16_imagenet": {
        "model._target_": "bakeoff.nets.vgg.vgg16",
        "model.head": "imagenet",
        "model.width": 1.0,
        "model.dropout": 0.5,
        "initializer._target_": "bakeoff.components.initializers.Normal",
        "initializer.std": 0.1,
        "initializer.bias": 0.0,
        **PAPER_TRAINING,
        "data.size": 224,
        "data.augment.scale": [256, 512],
        "data.augment.flip": True,
        "data.augment.lighting": 0.1,
        "data.views.kind": "dense",
        "data.views.flip": True,
        "data.views.scales": [256, 384, 512],
        "data.normalize": "mean",
        "data.batch_size": 256,
        "trainer.max_epochs": 74,
        "test": True,
    },
}
"""Settings from the papers, or as interpreted by this project: a new default of a choice must not change them."""


@pytest.mark.parametrize("name", PAPERS)
def test_the_recipes_match_their_papers(name: str, composed: Callable[..., ComposedConfig]) -> None:
    flat = composed(f"experiment={name}").run.flat()
    assert {key: flat[key] for key in PAPERS[name]} == PAPERS[name]


def test_an_override_takes_precedence_over_an_experiment(composed: Callable[..., ComposedConfig]) -> None:
    run = composed("experiment=alexnet_cifar10", "data=fashion_mnist", "optimizer=adam", "model=vgg11", "trainer.max_epochs=2").run
    assert (run.choices["data"], run.choices["optimizer"], run.choices["model"]) == ("fashion_mnist", "adam", "vgg11")
    assert run.trainer.max_epochs == 2 and run.choices["initializer"] == "alexnet_paper"
    builders.validate_components(run)
