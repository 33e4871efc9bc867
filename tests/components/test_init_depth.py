"""The signal by depth under each initializer: the published values of a course, mean-field theory, and VGG-19."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bakeoff import builders
from bakeoff.components.initializers import DeltaOrthogonal, HeNormal, Initializer, Normal, XavierNormal
from bakeoff.config.compose import compose

LAYERS, UNITS, INPUTS = 10, 500, 1000
SCHEMES: dict[str, tuple[Initializer, float]] = {
    # (initializer, its variance times the fan-in of 500)
    "small": (Normal(std=0.01), 0.05),
    "xavier": (XavierNormal(gain=1.0), 1.0),
    "he": (HeNormal(gain=math.sqrt(2)), 2.0),
}
ACTIVATIONS: dict[str, tuple[nn.Module, Callable[[np.ndarray], np.ndarray]]] = {
    "tanh": (nn.Tanh(), np.tanh),
    "relu": (nn.ReLU(), lambda z: np.maximum(z, 0)),
    "sigmoid": (nn.Sigmoid(), lambda z: 1 / (1 + np.exp(-z))),
}
# Stanford CS231n (2016), lecture 5, slides "Weight initialization": standard deviations of the activations of hidden layers 1 to 10,
# as the slides print them, to six decimals.
COURSE = {
    ("tanh", "small"): [0.213081, 0.047551, 0.010630, 0.002378, 0.000532, 0.000119, 0.000026, 0.000006, 0.000001, 0.0],
    ("tanh", "xavier"): [0.627953, 0.486051, 0.407723, 0.357108, 0.320917, 0.292116, 0.273387, 0.254935, 0.239266, 0.228008],
    ("relu", "xavier"): [0.582273, 0.403795, 0.276912, 0.198685, 0.140299, 0.103280, 0.072748, 0.051572, 0.038583, 0.026076],
    ("relu", "he"): [0.825232, 0.827835, 0.813855, 0.826902, 0.834092, 0.860035, 0.870610, 0.889348, 0.845357, 0.844523],
}
EVERY = [(activation, scheme) for activation in ACTIVATIONS for scheme in SCHEMES]


@functools.cache
def measured(activation: str, scheme: str) -> list[float]:
    """Standard deviation of the activations of each layer, over inputs and units."""
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(*[nn.Linear(UNITS, UNITS) for _ in range(LAYERS)])
    SCHEMES[scheme][0](net, activation_gain=1.0, generator=generator)
    signal, stds = torch.randn(INPUTS, UNITS, generator=generator), []
    with torch.no_grad():
        for layer in net:
            signal = ACTIVATIONS[activation][0](layer(signal))
            stds.append(float(signal.std()))
    return stds


def mean_field(activation: str, scheme: str) -> list[float]:
    """The same in the limit of infinite width: z is normal with the variance weights * E[f^2] of the layer below; float64."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(201)
    weights = weights / weights.sum()
    square, stds = 1.0, []
    for _ in range(LAYERS):
        outputs = ACTIVATIONS[activation][1](math.sqrt(SCHEMES[scheme][1] * square) * nodes)
        mean, square = float(weights @ outputs), float(weights @ outputs**2)
        stds.append(math.sqrt(square - mean**2))
    return stds


@pytest.mark.parametrize(("activation", "scheme"), EVERY)
def test_standard_deviations_by_depth_follow_mean_field_theory(activation: str, scheme: str) -> None:
    # At 500 units a layer multiplies the standard deviation by a factor that scatters by some 3 % (of sqrt(2 / 500) / 2), and where
    # the signal's scale is free the factors add up as a random walk: 10 % after ten layers, of which 2.5 are allowed.
    for depth, (std, expected) in enumerate(zip(measured(activation, scheme), mean_field(activation, scheme), strict=True), 1):
        assert std == pytest.approx(expected, rel=0.08 * math.sqrt(depth)), f"layer {depth}"


@pytest.mark.parametrize(("activation", "scheme"), COURSE)
def test_standard_deviations_by_depth_are_those_of_the_course(activation: str, scheme: str) -> None:
    # Both sides are random, so that the tolerance is sqrt(2) times the one above, plus half of the last printed digit.
    for depth, (std, printed) in enumerate(zip(measured(activation, scheme), COURSE[activation, scheme], strict=True), 1):
        assert std == pytest.approx(printed, rel=0.08 * math.sqrt(2 * depth), abs=5e-7), f"layer {depth}"


def test_the_conclusions_of_the_course() -> None:
    last = {pair: measured(*pair)[-1] for pair in EVERY}
    assert last["tanh", "small"] < 1e-6 and last["relu", "small"] < 1e-6
    assert last["relu", "he"] / last["relu", "xavier"] == pytest.approx(32, rel=1e-3), "sqrt(2) a layer, whatever the draw"
    assert 0.2 < last["tanh", "xavier"] < 0.26 and 0.5 < last["tanh", "he"] < 0.6
    # A sigmoid's mean of 1/2 feeds every next layer, so that it neither vanishes nor grows.
    assert 0.02 < last["sigmoid", "small"] < 0.04 and 0.1 < last["sigmoid", "xavier"] < 0.15


IMAGES = torch.randn(16, 1, 32, 32, generator=torch.Generator().manual_seed(0))
# Range of the root mean square of VGG-19's scores, and of their standard deviation from image to image.
VGG19 = {
    "he_normal": ((0.2, 3), (0.02, 1)),
    "he_uniform": ((0.2, 3), (0.02, 1)),
    "orthogonal": ((0.1, 3), (0.02, 1)),
    "delta_orthogonal": ((0.05, 2), (0.01, 1)),
    "xavier_normal": ((0.03, 1), (0.004, 0.3)),
    "lsuv": ((0.3, 8), (0.05, 3)),
    "torch_default": ((0.02, 0.2), (0, 1e-6)),
    "normal": ((0, 1e-12), (0, 1e-12)),
    "alexnet_paper": ((0, 1e-8), (0, 1e-12)),
    "zeros": ((0, 0), (0, 0)),
}


@pytest.mark.parametrize("initializer", VGG19)
def test_scale_of_the_last_layer_of_a_plain_vgg19(initializer: str) -> None:
    run = compose([f"initializer={initializer}", "model=vgg19", "model.width=0.125", "initializer.head=as_rest"])
    with torch.no_grad():
        scores: Tensor = builders.make_model(run).eval()(IMAGES).double()
    (low, high), (least, most) = VGG19[initializer]
    assert low <= float(scores.square().mean().sqrt()) <= high
    # With torch's default only the biases of the last layers matter: all images get the same scores.
    assert least <= float(scores.std(0).mean()) <= most


@pytest.mark.parametrize("groups", [1, 2])
def test_delta_orthogonal_keeps_every_norm_through_depth(groups: int) -> None:
    net = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1, groups=groups), *[nn.Conv2d(16, 16, 5, padding=2, groups=groups) for _ in range(30)])
    DeltaOrthogonal(gain=1.0)(net, activation_gain=1.0, generator=torch.Generator().manual_seed(0))
    images = torch.randn(5, 8, 6, 6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ratio = net(images).flatten(1).norm(dim=1) / images.flatten(1).norm(dim=1)
    torch.testing.assert_close(ratio, torch.ones(5), atol=1e-4, rtol=0)
    flattened = nn.Conv2d(16, 16, 5, padding=2)
    nn.init.orthogonal_(flattened.weight)
    nn.init.zeros_(flattened.get_parameter("bias"))
    with torch.no_grad():
        out = flattened(torch.randn(5, 16, 6, 6))
    assert float(out.norm()) < 0.9 * math.sqrt(5 * 16 * 36), "a flattened kernel spreads over 25 taps and does not keep the norm"
