"""The fully convolutional form: the net's scores at its size, a map of scores for larger images, and shared weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from bakeoff.builders import make_fully_convolutional
from bakeoff.errors import ArgumentError, ChoiceError
from bakeoff.nets.alexnet import alexnet, alexnet_2012, alexnet_owt
from bakeoff.nets.fully_convolutional import to_fully_convolutional
from bakeoff.nets.vgg import vgg11, vgg16_c

# (net, its size, pixels between neighbouring cells of its map)
NETS = [(alexnet_2012, 99, 32), (alexnet_owt, 224, 32), (alexnet, 95, 32), (vgg11, 64, 32), (vgg16_c, 96, 32)]


def build(net: Any, **arguments: Any) -> Any:
    torch.manual_seed(0)
    settings = {"num_classes": 7, "in_channels": 3, "activation": nn.ReLU, "head": "imagenet", "width": 0.06, **arguments}
    return net(**settings).double().eval()


@pytest.mark.parametrize(("net", "size", "step"), NETS)
def test_at_the_nets_size_the_scores_are_those_of_the_net(net: Any, size: int, step: int) -> None:
    built = build(net, size=size)
    images = torch.randn(2, 3, size, size, dtype=torch.float64)
    maps = to_fully_convolutional(built)(images)
    assert maps.shape == (2, 7, 1, 1)
    torch.testing.assert_close(maps[:, :, 0, 0], built(images), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("net", "size", "step"), NETS)
def test_each_cell_is_the_head_on_its_window_of_the_features(net: Any, size: int, step: int) -> None:
    built = build(net, size=size)
    images = torch.randn(1, 3, size + 2 * step, size + step, dtype=torch.float64)
    maps, features, side = to_fully_convolutional(built)(images), built.features(images), built.feature_size
    assert maps.shape == (1, 7, 3, 2)
    for row, column in ((0, 0), (2, 1), (1, 0)):
        window = features[:, :, row : row + side, column : column + side]
        torch.testing.assert_close(maps[:, :, row, column], built.classifier(window.flatten(1)), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("net", "size", "step"), [row for row in NETS if row[0] in (alexnet_2012, vgg11, vgg16_c)])
def test_corner_cells_are_the_scores_of_corner_crops_without_padding_effects(net: Any, size: int, step: int) -> None:
    built = build(net, size=size)
    # A padded convolution sees zeros beyond a crop but not beyond the same region of the image: keep only its central tap.
    for layer in built.features:
        if isinstance(layer, nn.Conv2d) and layer.padding != (0, 0):
            centre = layer.kernel_size[0] // 2
            taps = torch.zeros_like(layer.weight)
            taps[..., centre, centre] = 1
            layer.weight.data *= taps * 5
    images = torch.randn(2, 3, size + step, size + step, dtype=torch.float64)
    maps = to_fully_convolutional(built)(images)
    assert maps.shape == (2, 7, 2, 2)
    for row in (0, 1):
        for column in (0, 1):
            crop = images[:, :, row * step : row * step + size, column * step : column * step + size]
            torch.testing.assert_close(maps[:, :, row, column], built(crop), rtol=1e-9, atol=1e-12)
    assert (maps[:, :, 0, 0] - maps[:, :, 1, 1]).abs().max() > 1e-6


def test_the_published_heads_become_7x7_and_6x6() -> None:
    for net, size, larger, side, cells in ((vgg11, 224, 256, 7, 2), (alexnet_2012, 227, 291, 6, 3), (alexnet_owt, 224, 256, 6, 2)):
        with torch.device("meta"):
            built = net(num_classes=1000, in_channels=3, activation=nn.ReLU, head="imagenet", size=size)
            assert built.feature_size == side
            assert to_fully_convolutional(built)(torch.empty(2, 3, larger, larger)).shape == (2, 1000, cells, cells)


def test_weights_are_shared_both_ways() -> None:
    built = build(vgg11, size=64)
    wide = to_fully_convolutional(built)
    assert {id(p) for p in wide.parameters()} == {id(p) for p in built.parameters()}
    images = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    before = wide(images)
    built.classifier[0].weight.data.neg_()
    assert not torch.equal(wide(images), before)
    assert built(images).shape == (1, 7), "the net is not changed"


def test_a_small_head_has_a_fully_convolutional_form() -> None:
    built = build(vgg11, head="small", size=32, hidden=[20])
    images = torch.randn(2, 3, 96, 64, dtype=torch.float64)
    assert to_fully_convolutional(built)(images).shape == (2, 7, 3, 2)


def test_a_net_without_a_fully_convolutional_form_is_an_error() -> None:
    with pytest.raises(ChoiceError, match=r"data\.views\.kind=dense: Sequential has no known fully convolutional form"):
        make_fully_convolutional(nn.Sequential(nn.Flatten(), nn.Linear(3, 2)))
    with pytest.raises(ChoiceError, match=r"data\.views\.kind=dense: alexnet_owt averages features of 2x2 to 6x6 at data\.size=100"):
        make_fully_convolutional(build(alexnet_owt, size=100))
    with pytest.raises(ArgumentError, match=r"^images of 32x96 pixels are too small"):
        to_fully_convolutional(build(vgg11, size=64))(torch.randn(1, 3, 32, 96, dtype=torch.float64))
