"""Schedule-free runs: evaluated, exported and tested at their average, trained and resumed as if nobody had looked."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.plugins import Precision
from torch import nn

from bakeoff import builders
from bakeoff.config.compose import compose
from bakeoff.config.schema import RunConfig
from bakeoff.data.epoch_sampler import BatchPlan, EpochSampler
from bakeoff.run_files import checkpoints
from bakeoff.run_files.run_dir import RunDir
from bakeoff.training.callbacks.weight_averaging import ScheduleFreeAveraging
from bakeoff.training.run_lifecycle import create_run_dir
from bakeoff.training.run_training import train_from_dir

SMALL = ["model=vgg11_bn", "model.width=0.05", "data.subset=320", "data.batch_size=32", "trainer.max_epochs=2", "trainer.threads=1"]
SMALL += ["trainer.log_every=3", "optimizer=schedule_free_sgd", "scheduler=constant"]


def make_run_dir(tmp_path: Path, name: str, *overrides: str) -> tuple[RunConfig, RunDir]:
    run = compose([*SMALL, f"tracking.folder={tmp_path / name}", f"tracking.uri=sqlite:///{tmp_path / 'mlflow.db'}", *overrides])
    return run, create_run_dir(run)


def last_checkpoint(run_dir: RunDir) -> dict[str, Any]:
    state = checkpoints.read_latest_checkpoint(run_dir.checkpoints)
    assert state is not None
    return state


@pytest.mark.parametrize(("stop", "optimizer"), [(5, "schedule_free_sgd"), (13, "schedule_free_adamw")])
def test_a_stopped_run_goes_on_with_the_same_bits(
    tmp_path: Path,
    train_until: Callable[[RunDir, int], None],
    assert_same_bits: Callable[[RunDir, RunDir], None],
    stop: int,
    optimizer: str,
) -> None:
    options = [f"optimizer={optimizer}", "trainer.checkpoint_every=1"]
    (_, uninterrupted), (_, resumed) = make_run_dir(tmp_path, "uninterrupted", *options), make_run_dir(tmp_path, "resumed", *options)
    expected = train_from_dir(uninterrupted.path)
    train_until(resumed, stop)
    assert train_from_dir(resumed.path).metrics == expected.metrics
    assert_same_bits(uninterrupted, resumed)


def test_what_is_kept_and_exported_is_the_average_with_statistics_of_its_own(tmp_path: Path) -> None:
    run, run_dir = make_run_dir(tmp_path, "runs", "test=true")
    result = train_from_dir(run_dir.path)
    state, net = last_checkpoint(run_dir), builders.load_trained_model(run_dir.path)
    names = [name for name, _ in net.named_parameters()]
    momentum, kept = run.optimizer["momentum"], state["optimizer"]
    index = [number for group in kept["param_groups"] for number in group["params"]]
    known = {id(parameter): name for name, parameter in net.named_parameters()}
    order = [known[id(p)] for group in builders.make_optimizer(run, net).param_groups for p in group["params"]]
    assert sorted(order) == sorted(names)
    for number, name in zip(index, order, strict=True):
        y, z, x = state["training"][name], kept["state"][number]["z"], state["net"][name]
        # y = (1 - momentum) z + momentum x, solved for x.
        torch.testing.assert_close(x, (y - (1 - momentum) * z) / momentum, rtol=1e-4, atol=1e-5)
        assert torch.equal(net.get_parameter(name), x)

    data = builders.make_data(run)
    data.setup("fit")
    first = next(module for module in net.modules() if isinstance(module, nn.Conv2d))
    norm = next(module for module in net.modules() if isinstance(module, nn.BatchNorm2d))
    with torch.no_grad():
        means = [first(images).mean((0, 2, 3)) for images, _ in data.train_dataloader()]
        torch.testing.assert_close(norm.running_mean, torch.stack(means).mean(0), rtol=1e-4, atol=1e-5)
        assert not torch.equal(state["net"]["features.1.running_mean"], state["training"]["features.1.running_mean"])
        for part, loader in (("val", data.val_dataloader()), ("test", data.test_dataloader())):
            hits = [(net(images).argmax(1) == targets).float() for images, targets in loader]
            assert result.metrics[f"{part}/accuracy"] == pytest.approx(torch.cat(hits).mean().item(), abs=1e-6)


def test_the_best_weights_are_those_that_were_validated(tmp_path: Path) -> None:
    run, run_dir = make_run_dir(tmp_path, "runs")
    result = train_from_dir(run_dir.path)
    net, data, loss = builders.make_uninitialized_model(run), builders.make_data(run), builders.make_loss(run)
    net.load_state_dict(checkpoints.read_model_weights(run_dir.checkpoints, name="best"))
    data.setup("fit")
    with torch.no_grad():
        (images, targets) = next(iter(data.val_dataloader()))
        assert loss(net.eval()(images), targets).item() == pytest.approx(result.best["val/loss"], rel=1e-4)


class Batches(EpochSampler):
    """Fixed batches of one size."""

    def __iter__(self) -> Any:
        for k in range(self.start, len(self)):
            yield torch.randn(4, 3, generator=torch.Generator().manual_seed(k)), torch.zeros(4, dtype=torch.int64)


def test_a_look_at_the_average_leaves_no_trace() -> None:
    import schedulefree

    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, 2))
    optimizer = schedulefree.SGDScheduleFree(net.parameters(), lr=0.1)
    optimizer.train()
    averaging = ScheduleFreeAveraging()
    for k in range(5):
        optimizer.zero_grad()
        net(torch.randn(8, 3)).square().mean().backward()
        optimizer.step()
        before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        loader = Batches(40, plan=BatchPlan(4, seed=0))
        loader.resume(epoch=0, skip=k)  # where training stands has no say
        with torch.inference_mode():
            averaged = averaging.swap_in(net, optimizer, loader, Precision())
            assert torch.equal(net[0].get_parameter("weight"), averaged["0.weight"])
            assert torch.equal(net[0].get_parameter("weight"), before["0.weight"]) == (k == 0)  # the average of one point is that point
            inputs = torch.cat([images for images, _ in itertools.islice(Batches(40, plan=BatchPlan(4, seed=0)), 10)])
            torch.testing.assert_close(net[1].running_mean, net[0](inputs).mean(0))
            averaging.swap_out(net, optimizer)
        assert optimizer.param_groups[0]["train_mode"]
        for name, tensor in net.state_dict().items():
            assert torch.equal(tensor, before[name]), name
