"""The published nets layer by layer: the tables of the papers, torchvision's scores, and local response normalization by its formula."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bakeoff.nets.alexnet import alexnet_2012, alexnet_caffe, alexnet_owt
from bakeoff.nets.vgg import vgg11, vgg11_lrn, vgg13, vgg16, vgg16_c


def on_meta(net: type[nn.Module], **arguments: Any) -> Any:
    settings: dict[str, Any] = {"num_classes": 1000, "in_channels": 3, "activation": nn.ReLU, "head": "imagenet", "size": 224, **arguments}
    with torch.device("meta"):
        return net(**settings)


def order(net: Any) -> str:
    """The kinds of all modules in the order of the forward pass."""
    names = {"Conv2d": "c", "ReLU": "r", "LocalResponseNorm": "n", "MaxPool2d": "p", "Linear": "f", "Dropout": "d"}
    return "".join(names[type(layer).__name__] for layer in (*net.features, *net.classifier))


@pytest.mark.parametrize("net", [alexnet_2012, alexnet_caffe])
def test_the_net_of_2012_matches_the_papers_table(net: type[nn.Module]) -> None:
    built = on_meta(net, size=227)
    maps, convolutions = torch.empty(1, 3, 227, 227, device="meta"), []
    for layer in built.features:
        maps = layer(maps)
        if isinstance(layer, nn.Conv2d):
            convolutions.append((tuple(maps.shape[1:]), layer.kernel_size[0], layer.stride[0], layer.padding[0], layer.groups))
    assert convolutions == [
        ((96, 55, 55), 11, 4, 0, 1),
        ((256, 27, 27), 5, 1, 2, 2),
        ((384, 13, 13), 3, 1, 1, 1),
        ((384, 13, 13), 3, 1, 1, 2),
        ((256, 13, 13), 3, 1, 1, 2),
    ]
    assert tuple(maps.shape[1:]) == (256, 6, 6)
    assert {(m.kernel_size, m.stride) for m in built.features if isinstance(m, nn.MaxPool2d)} == {(3, 2)}
    # Normalization between activation and pooling; dropout on the outputs of the hidden layers.
    assert order(built) == "crnp" + "crnp" + "cr" + "cr" + "crp" + "frd" + "frd" + "f"
    assert [(m.in_features, m.out_features) for m in built.classifier if isinstance(m, nn.Linear)] == [
        (9216, 4096),
        (4096, 4096),
        (4096, 1000),
    ]


def test_the_net_of_2014_has_dropout_at_inputs() -> None:
    assert order(on_meta(alexnet_owt)) == "crp" + "crp" + "cr" + "cr" + "crp" + "dfr" + "dfr" + "f"


def by_formula(a: Tensor, *, k: float, n: int, alpha: float, beta: float) -> Tensor:
    """Section 3.3 of the paper, channel by channel: a_i / (k + alpha * sum of a_j^2 over the n channels around i) ^ beta."""
    channels = a.shape[1]
    normalized = []
    for i in range(channels):
        low, high = max(0, i - n // 2), min(channels - 1, i + n // 2)
        normalized.append(a[:, i] / (k + alpha * sum(a[:, j] ** 2 for j in range(low, high + 1))) ** beta)
    return torch.stack(normalized, dim=1)


@pytest.mark.parametrize(
    ("net", "size", "settings", "number"),
    [
        (alexnet_2012, 227, {"k": 2.0, "alpha": 1e-4}, 2),
        (alexnet_caffe, 227, {"k": 1.0, "alpha": 1e-4 / 5}, 2),
        (vgg11_lrn, 224, {"k": 2.0, "alpha": 1e-4}, 1),
    ],
)
def test_local_response_normalization_is_the_formula(net: type[nn.Module], size: int, settings: dict[str, float], number: int) -> None:
    norms = [layer for layer in on_meta(net, size=size).features if isinstance(layer, nn.LocalResponseNorm)]
    a = torch.randn(2, 12, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 50
    assert len(norms) == number
    for norm in norms:
        torch.testing.assert_close(norm(a), by_formula(a, n=5, beta=0.75, **settings), rtol=1e-12, atol=0)
        assert (norm(a) - a / settings["k"] ** 0.75).abs().max() > 0.1, "large signals are held down"


def test_lrn_follows_the_first_activation_of_vgg() -> None:
    assert order(on_meta(vgg11_lrn)).startswith("crnpcrp") and order(on_meta(vgg11_lrn)).count("n") == 1
    assert order(on_meta(vgg11_lrn)).replace("n", "") == order(on_meta(vgg11))


def test_c_is_b_with_three_convolutions_of_1x1() -> None:
    rows = {net: [m for m in on_meta(net).features if isinstance(m, nn.Conv2d)] for net in (vgg13, vgg16_c, vgg16)}
    ones = [m for m in rows[vgg16_c] if m.kernel_size == (1, 1)]
    assert [(m.in_channels, m.out_channels, m.padding) for m in ones] == [(256, 256, (0, 0)), (512, 512, (0, 0)), (512, 512, (0, 0))]
    kinds = [m.kernel_size[0] for m in rows[vgg16_c]]
    assert kinds == [3, 3, 3, 3, 3, 3, 1, 3, 3, 1, 3, 3, 1]
    assert [m.out_channels for m in rows[vgg16_c]] == [m.out_channels for m in rows[vgg16]]
    three = [m for m in rows[vgg16_c] if m.kernel_size == (3, 3)]
    assert [(m.in_channels, m.out_channels) for m in three] == [(m.in_channels, m.out_channels) for m in rows[vgg13]]


@pytest.mark.parametrize(
    ("ours", "name", "size"),
    [
        (alexnet_owt, "alexnet", 224),
        (alexnet_owt, "alexnet", 130),
        pytest.param(vgg16, "vgg16_bn", 224, marks=pytest.mark.slow),
    ],
)
def test_scores_are_torchvisions_when_its_weights_are_loaded(ours: type[nn.Module], name: str, size: int) -> None:
    models = pytest.importorskip("torchvision.models")
    extra = {"batch_norm": True} if name.endswith("_bn") else {}
    net = on_meta(ours, num_classes=7, size=size, **extra)
    torch.manual_seed(0)
    theirs = getattr(models, name)(num_classes=7, **({"init_weights": False} if name.startswith("vgg") else {}))
    net.load_state_dict(theirs.state_dict(), assign=True)
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        scores = net.eval()(images)
        torch.testing.assert_close(scores, theirs.eval()(images), rtol=0, atol=0)
    assert scores.std() > 0
