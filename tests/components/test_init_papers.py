"""The initializers of AlexNet's and VGG's papers, sparse and delta-orthogonal weights, element by element."""

from __future__ import annotations

import math
from typing import TypeVar

import pytest
import torch
from torch import nn

from bakeoff import builders
from bakeoff.components.initializers import AlexNetPaper, DeltaOrthogonal, Initializer, Sparse
from bakeoff.config.compose import compose
from bakeoff.errors import ArgumentError, ChoiceError

Net = TypeVar("Net", bound=nn.Module)


def filled(initializer: Initializer, net: Net, *, gain: float = 1.0) -> Net:
    initializer(net, activation_gain=gain, generator=torch.Generator().manual_seed(0))
    return net


def weights_and_biases(name: str, model: str) -> list[tuple[str, torch.Tensor, torch.Tensor]]:
    """(kind, weight, bias) of every layer of a run's net, in order."""
    net = builders.make_model(compose([f"initializer={name}", f"model={model}", "model.width=0.25"]))
    layers = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    return [(type(layer).__name__, layer.weight.detach().double(), layer.bias.detach()) for layer in layers]  # type: ignore[union-attr]


@pytest.mark.parametrize(("name", "raised", "hidden_std"), [("alexnet_paper", 1.0, 0.01), ("alexnet_caffe", 0.1, 0.005)])
def test_alexnet_as_published(name: str, raised: float, hidden_std: float) -> None:
    layers = weights_and_biases(name, "alexnet")
    assert [kind for kind, _, _ in layers] == ["Conv2d"] * 5 + ["Linear"] * 3
    expected = [0, raised, 0, raised, raised, raised, raised, 0]
    assert [sorted(set(bias.tolist())) for _, _, bias in layers] == [[pytest.approx(value)] for value in expected]
    for number, (_, weight, _) in enumerate(layers):
        std = hidden_std if number in (5, 6) else 0.01
        assert float(weight.square().mean().sqrt()) == pytest.approx(std, rel=5 / math.sqrt(2 * weight.numel()))


def test_vgg_as_published_has_a_variance_of_one_hundredth() -> None:
    for _, weight, bias in weights_and_biases("vgg_paper", "vgg11"):
        assert float(weight.square().mean()) == pytest.approx(1e-2, rel=10 / math.sqrt(2 * weight.numel()))
        assert not bias.any()


def test_the_same_positions_apply_to_another_net() -> None:
    net = nn.Sequential(*[nn.Conv2d(3, 3, 1) for _ in range(7)], nn.Linear(3, 3))
    filled(AlexNetPaper(bias=0.5), net)
    assert [float(net.get_parameter(f"{index}.bias").detach()[0]) for index in range(8)] == [0, 0.5, 0, 0.5, 0.5, 0, 0, 0]
    filled(AlexNetPaper(), nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.Conv2d(3, 3, 1, bias=False)))


@pytest.mark.parametrize("layer", [nn.Linear(200, 300), nn.Conv2d(16, 40, 5), nn.Conv2d(16, 40, 5, groups=4), nn.Linear(9, 50)], ids=str)
def test_sparse_gives_each_unit_its_number_of_normal_weights(layer: nn.Linear | nn.Conv2d) -> None:
    filled(Sparse(nonzero=15, std=0.5, gain="auto"), layer, gain=3.0)
    rows = layer.weight.detach().flatten(1)
    counts = (rows != 0).sum(1)
    assert (counts == min(15, rows.shape[1])).all()
    nonzero = rows[rows != 0].double()
    assert float(nonzero.std()) == pytest.approx(1.5, rel=5 / math.sqrt(2 * len(nonzero)))
    if rows.shape[1] > 15:
        # Every input is chosen about as often as another: 15 of fan_in, for each of the units.
        share = (rows != 0).double().mean(0)
        expected = 15 / rows.shape[1]
        assert float((share - expected).abs().max()) < 6 * math.sqrt(expected * (1 - expected) / len(rows))


def test_delta_orthogonal_has_orthonormal_columns_at_the_centre_and_zeros_around() -> None:
    weight = filled(DeltaOrthogonal(), nn.Conv2d(6, 10, (3, 5)), gain=1.7).weight.detach().double()
    centre = weight[:, :, 1, 2].clone()
    torch.testing.assert_close(centre.T @ centre, 1.7**2 * torch.eye(6, dtype=torch.float64), atol=1e-5, rtol=0)
    weight[:, :, 1, 2] = 0
    assert not weight.any()


def test_delta_orthogonal_has_orthonormal_rows_where_a_layer_narrows_and_a_matrix_for_each_group() -> None:
    narrowing = filled(DeltaOrthogonal(gain=1.0), nn.Conv2d(10, 6, 3)).weight.detach().double()[:, :, 1, 1]
    torch.testing.assert_close(narrowing @ narrowing.T, torch.eye(6, dtype=torch.float64), atol=1e-5, rtol=0)
    grouped = filled(DeltaOrthogonal(gain=1.0), nn.Conv2d(12, 16, 3, groups=4)).weight.detach().double()[:, :, 1, 1]
    for block in torch.split(grouped, 4):
        torch.testing.assert_close(block.T @ block, torch.eye(3, dtype=torch.float64), atol=1e-5, rtol=0)
    linear = filled(DeltaOrthogonal(gain=1.0), nn.Linear(7, 5)).weight.detach().double()
    torch.testing.assert_close(linear @ linear.T, torch.eye(5, dtype=torch.float64), atol=1e-5, rtol=0)


def test_delta_orthogonal_rejects_a_kernel_without_a_centre() -> None:
    with pytest.raises(ArgumentError, match=r"odd side, which have a centre; this net has one of \(2, 2\)"):
        filled(DeltaOrthogonal(), nn.Conv2d(3, 3, 2))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("sparse initializer.nonzero=0", "initializer.nonzero=0"),
        ("alexnet_paper initializer.hidden_std=0.0", "initializer.hidden_std=0.0"),
        ("lsuv initializer.images=1", "initializer.images=1"),
        ("from_run initializer.layers=vgg_papers", r"initializer.layers=vgg_papers: no such rule \(did you mean vgg_paper\?\)"),
        ("from_run initializer.rest._target_=bakeoff.components.initializers.LSUV", "initializer.rest: LSUV also needs images"),
        ("from_run initializer.rest._target_=os.system", "initializer.rest._target_=os.system: not a public name"),
        ("from_run +initializer.rest.bais=1.0", "did you mean bias"),
    ],
)
def test_errors_name_key_value_and_rule(override: str, words: str) -> None:
    with pytest.raises(ChoiceError, match=words):
        builders.validate_components(compose(f"initializer={override}".split()))
