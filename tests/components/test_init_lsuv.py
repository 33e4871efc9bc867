"""LSUV on real nets with images of the run, and where those images come from."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from bakeoff import builders
from bakeoff.components.initializers import LSUV
from bakeoff.config.compose import compose
from bakeoff.errors import ArgumentError

LSUV_RUN = ["initializer=lsuv", "model.width=0.1"]


def outputs(net: nn.Module, images: Tensor) -> list[Tensor]:
    """The outputs of every weighted layer in execution order, with the batch's statistics in batch norms and without dropout."""
    layer_outputs: list[Tensor] = []
    layers = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    handles = [layer.register_forward_hook(lambda _, __, output: layer_outputs.append(output.double())) for layer in layers]
    for module in net.eval().modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train()
    with torch.no_grad():
        net(images)
    for handle in handles:
        handle.remove()
    return layer_outputs


@pytest.mark.parametrize("words", [["model=vgg16"], ["model=vgg11_bn", "activation=tanh"], ["model=alexnet", "activation=swiglu"]], ids=str)
def test_every_layer_gives_unit_variance_on_the_runs_images(words: list[str]) -> None:
    run = compose([*LSUV_RUN, *words, "initializer.images=128", "initializer.head=as_rest"])
    net = builders.make_model(run)
    layer_outputs = outputs(net, builders.first_training_images(run, 128))
    assert len(layer_outputs) >= 8
    for output in layer_outputs:
        assert float(output.var()) == pytest.approx(1, rel=1e-3)
    assert not any(parameter.any() for name, parameter in net.named_parameters() if name.endswith("bias"))


def test_rows_stay_orthogonal_and_the_net_is_otherwise_unchanged() -> None:
    net = nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(16, 4))
    net[3].eval()
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    images = torch.randn(64, 2, 4, 4, generator=torch.Generator().manual_seed(1)) + 3
    state = torch.get_rng_state()
    LSUV(bias=0.5)(net, activation_gain=1.0, generator=torch.Generator().manual_seed(0), images=images)
    assert torch.equal(torch.get_rng_state(), state)
    rows = net.get_parameter("0.weight").detach().double().flatten(1)
    gram = rows @ rows.T
    torch.testing.assert_close(gram, gram[0, 0] * torch.eye(4, dtype=torch.float64), atol=1e-5, rtol=1e-5)
    assert all(torch.equal(buffer, before[name]) for name, buffer in net.named_buffers())
    assert [module.training for module in net] == [True, True, True, False, True, True]
    assert not net[0]._forward_hooks and net.get_parameter("5.bias").tolist() == [0.5] * 4
    with torch.no_grad():
        assert float(outputs(net, images)[-1].var()) == pytest.approx(1, rel=1e-3)


def test_a_layer_with_constant_outputs_is_an_error() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Threshold(1e9, 0.0), nn.Linear(4, 2))
    with pytest.raises(ArgumentError, match=r"^LSUV cannot scale 2: its outputs have a standard deviation of 0\.0"):
        LSUV()(net, activation_gain=1.0, generator=torch.Generator(), images=torch.randn(8, 4))


def test_the_images_are_the_first_of_the_runs_order_and_not_augmented() -> None:
    run = compose([*LSUV_RUN, "seed=3", "data.batch_size=32", "data.augment.crop=0", "data.augment.flip=false"])
    images = builders.first_training_images(run, 40)
    assert images.shape == (40, 1, 32, 32) and images.dtype is torch.float32
    data = builders.make_data(run)
    data.setup("fit")
    batches = [batch for batch, _ in itertools.islice(data.train_dataloader(), 2)]
    # In the run's own memory format the last bit may round the other way.
    torch.testing.assert_close(images, torch.cat(batches)[:40].contiguous(), atol=1e-6, rtol=1e-6)
    augmented = run.replace(**{"data.augment": {"crop": 4, "flip": True}, "data.batch_size": 64, "trainer.accumulate": 2})
    assert torch.equal(builders.first_training_images(augmented, 40), images)
    assert not torch.equal(builders.first_training_images(run.replace(seed=4), 40), images)
    assert len(builders.first_training_images(run, 10**6)) == data.n_train


def test_initialization_has_its_own_random_stream() -> None:
    def order(initializer: str) -> Tensor:
        run = compose([f"initializer={initializer}", "model.width=0.1", "seed=5"])
        torch.manual_seed(1)
        before = torch.get_rng_state()
        first, second = builders.make_model(run).state_dict(), builders.make_model(run).state_dict()
        assert torch.equal(torch.get_rng_state(), before)
        assert all(torch.equal(first[name], second[name]) for name in first)
        data = builders.make_data(run)
        data.setup("fit")
        return torch.cat([labels for _, labels in data.train_dataloader()])

    assert torch.equal(order("he_normal"), order("lsuv"))
    assert torch.equal(order("he_normal"), order("sparse"))
