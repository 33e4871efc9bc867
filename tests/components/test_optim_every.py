"""Every optimizer of conf/optimizer trains, decays the right parameters, follows the schedule, and resumes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bakeoff import builders
from bakeoff.config.compose import compose, dump_frozen, load_frozen
from bakeoff.config.schema import RunConfig
from bakeoff.config.slots import package_data_dir
from bakeoff.errors import ChoiceError
from bakeoff.run_files import checkpoints

EVERY = sorted(path.stem for path in (package_data_dir("conf") / "optimizer").glob("*.yaml"))
FIRST_ORDER = [name for name in EVERY if name != "lbfgs"]
EXPECTED = {"sgd", "momentum", "momentum_caffe", "nesterov", "adagrad", "adadelta", "rmsprop", "adam", "adamw", "nadam", "radam", "adamax"}
EXPECTED |= {"lion", "lamb", "adan", "muon", "soap", "shampoo", "prodigy", "schedule_free_sgd", "schedule_free_adamw", "lbfgs"}
FASHION = Path("/usr/share/datasets/fashion-mnist")
Step = Callable[[], Tensor]


@functools.cache
def composed(name: str, *overrides: str) -> RunConfig:
    return compose([f"optimizer={name}", "model.width=0.1", "trainer.threads=1", *overrides])


def chosen(name: str, **changes: Any) -> RunConfig:
    return composed(name).replace(**changes)


def toy(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """A small net with every kind of parameter: conv, norm, bias, slope, hidden and last matrix."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.PReLU(), nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3)
    )
    return net.to(dtype).to(memory_format=torch.channels_last)


def stepper(net: nn.Module, optimizer: Any, images: Tensor, targets: Tensor) -> Step:
    """One step of training on a batch, through a closure, as Lightning takes it."""
    if hasattr(optimizer, "train"):
        optimizer.train()

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(images), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    def step() -> Tensor:
        loss = optimizer.step(closure)
        assert isinstance(loss, Tensor)
        return loss.detach()

    return step


def batch(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(12, 1, 4, 4, generator=generator).to(dtype), torch.arange(12) % 3


def test_the_expected_optimizers_exist() -> None:
    assert set(EVERY) >= EXPECTED


@functools.cache
def batches(text: str) -> list[tuple[Tensor, Tensor]]:
    """The first epoch's batches of a run, read once for all optimizers."""
    data = builders.make_data(load_frozen(text, origin="test"))
    data.setup("fit")
    return list(data.train_dataloader())


def descent(run: RunConfig, *, images: int, steps: int) -> tuple[float, float]:
    """The loss over the first training images before and after some steps on batches of them."""
    parts = batches(dump_frozen(run.replace(optimizer=composed("sgd").optimizer, choices={})))[: images // run.data.batch_size]
    net = builders.make_model(run).to(memory_format=torch.channels_last)
    optimizer = builders.make_optimizer(run, net)

    def loss() -> float:
        if hasattr(optimizer, "eval"):
            optimizer.eval()
        net.eval()
        with torch.no_grad():
            mean = sum(float(nn.functional.cross_entropy(net(x), y)) for x, y in parts) / len(parts)
        net.train()
        return mean

    before = loss()
    for k in range(steps):
        stepper(net, optimizer, *parts[k % len(parts)])()
    return before, loss()


@pytest.mark.parametrize("name", FIRST_ORDER)
def test_lowers_the_training_loss_of_a_net(name: str) -> None:
    before, after = descent(
        chosen(name, **{"data.batch_size": 32, "data.subset": 80, "model.dropout": 0.0, "initializer.head": "as_rest"}), images=64, steps=16
    )
    assert after < 0.98 * before


@pytest.mark.slow
@pytest.mark.parametrize("name", FIRST_ORDER)
def test_lowers_the_training_loss_of_a_net_on_fashion_mnist(name: str) -> None:
    if not FASHION.is_dir():
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    run = composed(name, "data=fashion_mnist", "data.subset=300", "data.batch_size=32", f"data.root={FASHION}", "model.width=0.15")
    before, after = descent(run, images=256, steps=40)
    assert after < 0.9 * before


@pytest.mark.parametrize("name", EVERY)
def test_resumes_from_a_checkpoint_with_the_same_bits(name: str, tmp_path: Path) -> None:
    run = chosen(name)

    def start() -> tuple[nn.Sequential, Any, Any, Step]:
        net = toy()
        optimizer = builders.make_optimizer(run, net)
        schedule = builders.make_scheduler(run, optimizer, total_steps=20, steps_per_epoch=5)
        return net, optimizer, schedule, stepper(net, optimizer, *batch())

    def trained(schedule: Any, step: Step, steps: int) -> None:
        for _ in range(steps):
            step()
            schedule.step()

    uninterrupted, expected_optimizer, schedule, step = start()
    trained(schedule, step, 13)
    first, optimizer, schedule, step = start()
    trained(schedule, step, 6)
    state = {"net": first.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
    checkpoints.save_checkpoint(tmp_path, state)
    checkpoint = checkpoints.read_latest_checkpoint(tmp_path)
    assert checkpoint is not None
    second, optimizer, schedule, step = start()
    second.load_state_dict(checkpoint["net"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    schedule.load_state_dict(checkpoint["schedule"])
    trained(schedule, step, 7)
    for (key, a), b in zip(uninterrupted.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b), key
    assert not torch.equal(uninterrupted.get_parameter("0.weight"), toy().get_parameter("0.weight"))
    same_state(expected_optimizer.state_dict(), optimizer.state_dict())


def same_state(a: Any, b: Any) -> None:
    if isinstance(a, Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert set(a) == set(b)
        for key, value in a.items():
            same_state(value, b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for left, right in zip(a, b, strict=True):
            same_state(left, right)
    else:
        assert a == b


@pytest.mark.parametrize("name", [name for name in FIRST_ORDER])
@pytest.mark.parametrize("decay_all", [False, True])
def test_norms_biases_and_slopes_do_not_decay(name: str, decay_all: bool) -> None:
    def weights(decay: float) -> dict[str, Tensor]:
        net = toy(torch.float64)
        run = chosen(name, **{"optimizer.weight_decay": decay, "optimizer.decay_all": decay_all})
        optimizer: Any = builders.make_optimizer(run, net)
        if hasattr(optimizer, "train"):
            optimizer.train()
        for value in net.parameters():  # away from zero, where decay has an effect
            value.data.add_(0.5)
        generator = torch.Generator().manual_seed(2)
        for _ in range(2 if name == "soap" else 1):  # SOAP's first step only initializes its preconditioner
            for value in net.parameters():
                value.grad = torch.randn(value.shape, generator=generator, dtype=torch.float64)
            optimizer.step()
        return {key: value.detach().clone() for key, value in net.named_parameters()}

    # LAMB without decay has no layer-wise rates: a negligible decay is the reference.
    without, with_decay = weights(1e-300 if name == "lamb" else 0.0), weights(0.5)
    for key, value in without.items():
        decays = decay_all or (value.ndim >= 2)
        if name == "lamb" and value.numel() == 1:  # for a single number LAMB uses only the sign of the update
            continue
        assert torch.equal(value, with_decay[key]) != decays, key


@pytest.mark.parametrize("name", EVERY)
def test_every_group_follows_the_schedule(name: str) -> None:
    run = chosen(name, scheduler={"_target_": "bakeoff.components.schedulers.step", "at": [0.5]})
    optimizer: Any = builders.make_optimizer(run, toy())
    rates = [group["lr"] for group in optimizer.param_groups]
    schedule = builders.make_scheduler(run, optimizer, total_steps=4, steps_per_epoch=2)
    if hasattr(optimizer, "train"):
        optimizer.train()
    for _ in range(2):
        optimizer.step(lambda: torch.zeros(()))
        schedule.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([rate / 10 for rate in rates])


@pytest.mark.parametrize("name", ["soap", "shampoo", "prodigy"])
def test_a_misspelt_argument_is_an_error(name: str) -> None:
    with pytest.raises(ChoiceError, match=r"weight_decoy: .* has no such argument .did you mean weight_decay"):
        builders.validate_components(composed(name, "+optimizer.weight_decoy=0.1"))
