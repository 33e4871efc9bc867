"""Statistics of every initializer against closed formulas, gains, biases, and where the numbers come from."""

from __future__ import annotations

import math
import typing
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
import torch
from torch import nn

from bakeoff.components import initializers
from bakeoff.components.initializers import (
    AlexNetPaper,
    Constant,
    DeltaOrthogonal,
    Fans,
    HeNormal,
    HeUniform,
    Initializer,
    Normal,
    Orthogonal,
    Sparse,
    TorchDefault,
    TruncNormal,
    XavierNormal,
    XavierUniform,
    Zeros,
    activation_gain,
    fans,
)
from bakeoff.config.targets import build_errors
from bakeoff.errors import ChoiceError

GAIN = 1.7
Net = TypeVar("Net", bound=nn.Module)
EVERY = [
    Zeros(),
    Constant(),
    Normal(),
    TruncNormal(),
    XavierUniform(),
    XavierNormal(),
    HeUniform(),
    HeNormal(),
    Orthogonal(),
    TorchDefault(),
    Sparse(),
    DeltaOrthogonal(),
    AlexNetPaper(),
]


def small_net() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(8, 12, 3, groups=4), nn.BatchNorm2d(12), nn.PReLU(12), nn.Conv2d(12, 5, 3, bias=False), nn.Flatten(), nn.Linear(20, 7)
    )


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def filled(initializer: Initializer, net: Net, *, seed: int = 0, gain: float = GAIN) -> Net:
    initializer(net, activation_gain=gain, generator=generator(seed))
    return net


def layer(kind: str) -> nn.Conv2d | nn.Linear:
    return nn.Linear(500, 300) if kind == "linear" else nn.Conv2d(96, 160, 3, groups=4 if kind == "grouped" else 1)


# (fan_in, fan_out): conv 96 * 9, 160 * 9; grouped 96 / 4 * 9, 160 / 4 * 9; linear 500, 300
FANS = {"conv": (864, 1440), "grouped": (216, 360), "linear": (500, 300)}


@pytest.mark.parametrize("kind", FANS)
def test_fans_count_the_weights_of_one_group(kind: str) -> None:
    assert fans(layer(kind)) == Fans(*FANS[kind])
    assert fans(nn.Conv2d(3, 64, (11, 5), stride=4)) == Fans(3 * 55, 64 * 55)
    assert fans(nn.Conv2d(32, 32, 3, groups=32)) == Fans(9, 9)


TWO_SIGMA = math.sqrt(1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2)))
STDS: list[tuple[Initializer, Callable[[int, int], float]]] = [
    (Normal(std=0.03), lambda i, o: 0.03),
    (Normal(std=0.03, gain="auto"), lambda i, o: GAIN * 0.03),
    (Normal(std=0.03, gain=0.5), lambda i, o: 0.015),
    (TruncNormal(std=0.03), lambda i, o: TWO_SIGMA * 0.03),
    (TruncNormal(std=3.0, gain="auto"), lambda i, o: TWO_SIGMA * GAIN * 3.0),
    (XavierUniform(), lambda i, o: GAIN * math.sqrt(2 / (i + o))),
    (XavierNormal(gain=1.0), lambda i, o: math.sqrt(2 / (i + o))),
    (XavierNormal(), lambda i, o: GAIN * math.sqrt(2 / (i + o))),
    (HeUniform(), lambda i, o: GAIN / math.sqrt(i)),
    (HeUniform(mode="fan_out", gain=2.0), lambda i, o: 2 / math.sqrt(o)),
    (HeNormal(), lambda i, o: GAIN / math.sqrt(i)),
    (HeNormal(mode="fan_out"), lambda i, o: GAIN / math.sqrt(o)),
    (TorchDefault(), lambda i, o: 1 / math.sqrt(3 * i)),
]


@pytest.mark.parametrize("kind", FANS)
@pytest.mark.parametrize(("initializer", "formula"), STDS, ids=lambda value: str(value) if isinstance(value, Initializer) else "")
def test_mean_and_std_follow_the_closed_formula(initializer: Initializer, formula: Callable[[int, int], float], kind: str) -> None:
    weight = filled(initializer, layer(kind)).weight.detach().double()
    expected = formula(*FANS[kind])
    # At n weights the std of a normal sample scatters by 1 / sqrt(2 n), its mean by std / sqrt(n): five of each are allowed.
    n = weight.numel()
    assert float(weight.std()) == pytest.approx(expected, rel=5 / math.sqrt(2 * n))
    assert abs(float(weight.mean())) < 5 * expected / math.sqrt(n)


@pytest.mark.parametrize(
    ("initializer", "bound"),
    [
        (XavierUniform(), GAIN * math.sqrt(6 / 2304)),
        (HeUniform(), GAIN * math.sqrt(3 / 864)),
        (TorchDefault(), 1 / math.sqrt(864)),
        (TruncNormal(std=0.05), 0.1),
    ],
)
def test_bounded_initializers_fill_their_range_and_stay_within(initializer: Initializer, bound: float) -> None:
    largest = float(filled(initializer, layer("conv")).weight.detach().abs().max())
    assert 0.99 * bound < largest <= bound * (1 + 1e-6)


@pytest.mark.parametrize(("initializer", "is_normal"), [(HeNormal(), True), (XavierNormal(), True), (Normal(), True), (HeUniform(), False)])
def test_normal_initializers_have_tails_and_uniform_ones_have_none(initializer: Initializer, is_normal: bool) -> None:
    weight = filled(initializer, layer("conv")).weight.detach().double()
    kurtosis = float((weight / weight.std()).pow(4).mean())
    assert kurtosis == pytest.approx(3.0 if is_normal else 1.8, abs=0.1)


@pytest.mark.parametrize("shape", [(40, 30), (30, 40)])
def test_orthogonal_has_orthonormal_rows_or_columns_times_gain(shape: tuple[int, int]) -> None:
    weight = filled(Orthogonal(), nn.Linear(*shape)).weight.detach().double()
    gram = weight @ weight.T if shape[0] >= shape[1] else weight.T @ weight
    torch.testing.assert_close(gram, GAIN**2 * torch.eye(30, dtype=torch.float64), atol=1e-5, rtol=0)
    kernel = filled(Orthogonal(gain=1.0), nn.Conv2d(4, 6, 3)).weight.detach().double().flatten(1)
    torch.testing.assert_close(kernel @ kernel.T, torch.eye(6, dtype=torch.float64), atol=1e-5, rtol=0)


def test_constant_and_zeros_have_their_values() -> None:
    for initializer, expected in ((Constant(value=0.25), 0.25), (Constant(value=0.25, gain="auto"), 0.25 * GAIN)):
        weight = filled(initializer, layer("linear")).weight.detach()
        assert float(weight.min()) == float(weight.max()) == pytest.approx(expected)
    assert not filled(Zeros(), layer("linear")).weight.any()


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        (nn.Identity(), 1.0),
        (nn.ReLU(), 1.4142),
        (nn.Tanh(), 1.5925),
        (nn.SELU(), 1.0000),
        (nn.GELU(), 1.5335),
        (nn.SiLU(), 1.6766),
        (nn.ELU(), 1.2452),
        (nn.LeakyReLU(0.01), math.sqrt(2 / (1 + 0.01**2))),
        (nn.PReLU(init=0.25), math.sqrt(2 / (1 + 0.25**2))),
        (nn.Sigmoid(), 1.8462),
    ],
)
def test_activation_gain(activation: nn.Module, expected: float) -> None:
    assert activation_gain(activation) == pytest.approx(expected, abs=1e-4)


def test_activation_gain_matches_exact_values_and_does_not_change_the_activation() -> None:
    slope = nn.PReLU(init=0.5)
    assert activation_gain(nn.ReLU()) == pytest.approx(math.sqrt(2), rel=1e-9)
    assert activation_gain(slope) == pytest.approx(math.sqrt(2 / 1.25), rel=1e-7)
    assert slope.weight.dtype is torch.float32 and slope.training
    generator(0)
    z = torch.randn(2_000_000, dtype=torch.float64, generator=generator(3))
    assert activation_gain(nn.Mish()) == pytest.approx(1 / math.sqrt(float(nn.functional.mish(z).square().mean())), rel=5e-3)


def test_activation_gain_rejects_zero_and_infinite_activations() -> None:
    for broken in (nn.Threshold(100.0, 0.0), nn.Threshold(100.0, math.inf)):
        with pytest.raises(ChoiceError, match=r"^activation: Threshold has a mean square"), build_errors("activation", {}):
            activation_gain(broken)


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.Tanh(), nn.GELU(), nn.SELU()])
def test_he_with_auto_gain_keeps_the_mean_square_of_a_deep_net(activation: nn.Module) -> None:
    net = nn.Sequential(*[part for _ in range(12) for part in (nn.Linear(1024, 1024, bias=False), activation)])
    filled(HeNormal(), net, gain=activation_gain(activation))
    with torch.no_grad():
        out = net(activation(torch.randn(256, 1024, generator=generator(1))))
    assert 0.6 < float(out.square().mean()) * activation_gain(activation) ** 2 < 1.6


@pytest.mark.parametrize("initializer", EVERY, ids=str)
def test_norm_layers_and_slopes_are_unchanged_and_biases_are_set(initializer: Initializer) -> None:
    net = small_net()
    for parameter in net.parameters():
        torch.nn.init.constant_(parameter, 7.0)
    filled(initializer, net)
    for name in ("1.weight", "1.bias", "2.weight"):
        assert torch.equal(net.get_parameter(name), torch.full_like(net.get_parameter(name), 7.0))
    for index in (0, 5):
        bias = net.get_parameter(f"{index}.bias")
        if isinstance(initializer, TorchDefault):
            assert 0 < float(bias.detach().abs().max()) <= 1 / math.sqrt(fans(net[index]).fan_in)
        else:
            assert not bias.any()
    assert all(parameter.requires_grad and parameter.grad is None for parameter in net.parameters())


def test_bias_has_the_requested_value() -> None:
    assert (filled(HeNormal(bias=0.1), nn.Linear(4, 3)).bias == torch.tensor(0.1)).all()


@pytest.mark.parametrize("initializer", EVERY, ids=str)
def test_only_the_generator_determines_the_weights(initializer: Initializer) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = filled(initializer, small_net()).state_dict()
    torch.set_rng_state(before)
    net = small_net()
    advanced = torch.get_rng_state()
    filled(initializer, net)
    assert torch.equal(torch.get_rng_state(), advanced), "the global generator was drawn from"
    torch.manual_seed(99)
    again = filled(initializer, small_net()).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    other = filled(initializer, small_net(), seed=1).state_dict()
    drawn = not isinstance(initializer, Zeros | Constant)
    assert drawn == any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("initializer", EVERY, ids=str)
def test_memory_format_and_dtype_do_not_change_the_numbers(initializer: Initializer) -> None:
    plain = filled(initializer, small_net()).state_dict()
    last = filled(initializer, small_net().to(memory_format=torch.channels_last))
    assert last.get_parameter("0.weight").is_contiguous(memory_format=torch.channels_last)
    assert all(torch.equal(plain[name], value) for name, value in last.state_dict().items())
    double = filled(initializer, small_net().double()).state_dict()
    assert all(torch.equal(plain[name].double(), value.double()) for name, value in double.items())


def test_torch_default_has_the_bits_of_torchs_constructors() -> None:
    torch.manual_seed(5)
    theirs = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2), nn.Flatten(), nn.Linear(16, 4))
    ours = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2), nn.Flatten(), nn.Linear(16, 4))
    filled(TorchDefault(), ours, seed=5)
    assert all(torch.equal(a, b) for a, b in zip(theirs.parameters(), ours.parameters(), strict=True))


@pytest.mark.parametrize(
    ("kind", "arguments", "words"),
    [
        (Normal, {"std": 0.0}, ["initializer.std=0.0", "above 0"]),
        (Normal, {"std": math.nan}, ["initializer.std=nan"]),
        (TruncNormal, {"std": -1}, ["initializer.std=-1"]),
        (HeNormal, {"gain": "autos"}, ["initializer.gain=autos", "auto"]),
        (Orthogonal, {"gain": 0.0}, ["initializer.gain=0.0"]),
        (XavierNormal, {"bias": math.inf}, ["initializer.bias=inf"]),
        (Constant, {"value": math.nan}, ["initializer.value=nan"]),
        (HeUniform, {"mode": "fan_up"}, ["initializer.mode=fan_up", "fan_in", "fan_out"]),
    ],
)
def test_a_value_out_of_range_is_a_one_line_error(kind: type[Initializer], arguments: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ChoiceError) as error, build_errors("initializer", {}):
        kind(**arguments)
    assert all(word in str(error.value) for word in words) and "\n" not in str(error.value)


def test_every_public_initializer_is_tested_and_typed() -> None:
    # test_init_lsuv.py and test_init_from_run.py test the initializers that need images or another run.
    assert sorted([type(initializer).__name__ for initializer in EVERY] + ["LSUV", "FromRun"]) == sorted(initializers.__all__)
    assert typing.get_type_hints(HeNormal.__init__)["gain"] == float | typing.Literal["auto"]
    assert typing.get_type_hints(HeNormal.__init__)["mode"] == typing.Literal["fan_in", "fan_out"]
    for plain in (Zeros, TorchDefault):
        assert "gain" not in typing.get_type_hints(plain.__init__)
