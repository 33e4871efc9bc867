"""Our activations against their formulas in float64, the gains of units of several inputs, and nets built with them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import Tensor, nn

from bakeoff import builders
from bakeoff.components.activations import Maxout, ReGLU, ScaledTanh, SwiGLU
from bakeoff.components.initializers import HeNormal, activation_gain
from bakeoff.components.optimizers import parameter_groups
from bakeoff.config.compose import compose
from bakeoff.config.slots import package_data_dir
from bakeoff.errors import ArgumentError, ChoiceError

NAMES = sorted(path.stem for path in (package_data_dir("conf") / "activation").glob("*.yaml"))
EXPECTED = (
    *("identity", "sigmoid", "tanh", "scaled_tanh", "softsign", "relu", "leaky_relu", "prelu", "rrelu", "elu", "celu", "selu", "gelu"),
    *("silu", "mish", "softplus", "hardswish", "maxout", "reglu", "swiglu"),
)


def activation_of(name: str, *overrides: str) -> nn.Module:
    return builders.make_activation(compose([f"activation={name}", *overrides]))()


def pairs() -> tuple[Tensor, np.ndarray]:
    """Inputs of two channels per unit in float64, and the same numbers as numpy [batch, unit, input, position]."""
    z = 3 * torch.randn(4, 10, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return z, z.numpy().reshape(4, 5, 2, 7)


def test_every_expected_activation_exists() -> None:
    assert set(EXPECTED) <= set(NAMES)


def test_scaled_tanh_against_its_formula() -> None:
    z = np.linspace(-4, 4, 41)
    e = np.exp(2 * (2 / 3) * z)
    np.testing.assert_allclose(
        activation_of("scaled_tanh")(torch.from_numpy(z)).numpy(), 1.7159 * (e - 1) / (e + 1), rtol=1e-13, atol=1e-15
    )
    # The constants were chosen so that +-1 is mapped to +-1, up to their printed digits.
    assert float(ScaledTanh()(torch.ones((), dtype=torch.float64))) == pytest.approx(1, abs=1e-4)


def test_units_of_two_inputs_against_their_formulas() -> None:
    z, n = pairs()
    a, b = n[:, :, 0], n[:, :, 1]
    np.testing.assert_allclose(activation_of("maxout")(z).numpy(), np.where(a > b, a, b), rtol=0)
    np.testing.assert_allclose(ReGLU()(z).numpy(), np.where(a > 0, a, 0) * b, rtol=1e-15)
    np.testing.assert_allclose(SwiGLU()(z).numpy(), a / (1 + np.exp(-a)) * b, rtol=1e-12)
    # The defaults of the files: after a root-mean-square norm over all channels of an image and position.
    a, b = (part / np.sqrt((n**2).mean((1, 2)))[:, None] for part in (a, b))
    np.testing.assert_allclose(activation_of("reglu")(z).numpy(), np.where(a > 0, a, 0) * b, rtol=1e-12)
    np.testing.assert_allclose(activation_of("swiglu")(z).numpy(), a / (1 + np.exp(-a)) * b, rtol=1e-12)


@pytest.mark.parametrize("activation", [Maxout(pieces=2), Maxout(pieces=5), ReGLU(), SwiGLU(norm="rms"), ScaledTanh()], ids=str)
def test_gradients_and_memory_formats(activation: nn.Module) -> None:
    inputs = int(getattr(activation, "expansion", 1))
    z = torch.randn(2, 3 * inputs, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    assert torch.autograd.gradcheck(activation, (z,))
    last = activation(z.detach().to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, activation(z), rtol=1e-13, atol=1e-15)
    assert last.shape == (2, 3, 2, 2)


def test_the_inputs_of_a_unit_are_adjacent_so_that_groups_are_independent() -> None:
    net = nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), Maxout(pieces=2))
    images = torch.randn(1, 4, 3, 3, requires_grad=True)
    net(images)[:, :2].sum().backward()
    assert images.grad is not None
    assert images.grad[:, :2].any() and not images.grad[:, 2:].any()


def largest(pieces: int) -> float:
    """E[max^2] of `pieces` independent N(0, 1), from the density of the largest of them."""
    return float(integrate.quad(lambda z: z * z * pieces * stats.norm.pdf(z) * stats.norm.cdf(z) ** (pieces - 1), -12, 12, epsabs=1e-12)[0])


def test_gain_of_units_of_several_inputs() -> None:
    assert activation_gain(Maxout(pieces=2)) == pytest.approx(1, rel=1e-5)
    for pieces in (3, 5):
        assert activation_gain(Maxout(pieces=pieces)) == pytest.approx(1 / math.sqrt(largest(pieces)), rel=1e-3)
    assert activation_gain(ReGLU()) == pytest.approx(math.sqrt(2), rel=1e-5)
    # The value is independent of the gate, and has variance 1.
    assert activation_gain(SwiGLU()) == pytest.approx(activation_gain(nn.SiLU()), rel=1e-5)
    assert activation_gain(activation_of("swiglu")) == activation_gain(SwiGLU())


@pytest.mark.parametrize(("norm", "low", "high"), [("rms", 0.3, 10), ("none", 0, 1e-6)])
def test_a_deep_gated_net_needs_its_norm(norm: str, low: float, high: float) -> None:
    layers = [part for _ in range(10) for part in (nn.Linear(256, 512, bias=False), activation_of("reglu", f"activation.norm={norm}"))]
    net = nn.Sequential(*layers)
    HeNormal()(net, activation_gain=activation_gain(activation_of("reglu")), generator=torch.Generator().manual_seed(0))
    images = torch.randn(64, 256, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        # A signal that is too small by a factor of ten vanishes when squared ten times, unless the norm restores it.
        scale = float(net(0.1 * images).square().mean()) * activation_gain(activation_of("reglu")) ** 2
    assert low <= scale <= high


def test_gain_of_a_random_activation_is_that_of_training() -> None:
    lower, upper = 1 / 8, 1 / 3
    square = (1 + (lower**2 + lower * upper + upper**2) / 3) / 2
    before = torch.get_rng_state()
    assert activation_gain(activation_of("rrelu")) == pytest.approx(1 / math.sqrt(square), rel=3e-4)
    assert torch.equal(torch.get_rng_state(), before)
    assert activation_gain(activation_of("rrelu").eval()) == activation_gain(activation_of("rrelu"))
    # The mean slope, which evaluation uses, has another gain.
    assert abs(activation_gain(nn.LeakyReLU((lower + upper) / 2)) - 1 / math.sqrt(square)) > 1e-3


def test_published_gains() -> None:
    published = {"relu": 1.414, "tanh": 1.593, "selu": 1.000, "gelu": 1.534, "silu": 1.677, "elu": 1.245}
    assert {name: round(activation_gain(activation_of(name)), 3) for name in published} == published


def test_a_wrong_expansion_is_an_error() -> None:
    class Lies(nn.Module):
        expansion = 2

        def forward(self, z: Tensor) -> Tensor:
            return z

    with pytest.raises(ArgumentError, match="Lies has expansion 2 but maps"):
        activation_gain(Lies())
    with pytest.raises(ArgumentError, match=r"^expansion=3: Maxout takes 3 channels per unit, which do not divide 4 channels"):
        Maxout(pieces=3)(torch.zeros(1, 4))


@pytest.mark.parametrize(
    ("name", "override", "words"),
    [
        ("maxout", "pieces=1", "activation.pieces=1"),
        ("maxout", "match=parameter", "activation.match=parameter"),
        ("swiglu", "match=both", "activation.match=both"),
        ("reglu", "norm=batch", "activation.norm=batch"),
        ("scaled_tanh", "slope=0.0", r"activation\.slope=0\.0"),
    ],
)
def test_errors_name_key_value_and_rule(name: str, override: str, words: str) -> None:
    with pytest.raises(ChoiceError, match=words):
        activation_of(name, f"activation.{override}")


@pytest.mark.parametrize("name", NAMES)
def test_a_net_with_it_gives_finite_scores_and_gradients(name: str) -> None:
    run = compose([f"activation={name}", "model=alexnet", "model.width=0.1", "initializer.head=1.0"])
    builders.validate_components(run)
    net = builders.make_model(run).eval()
    scores = net(builders.first_training_images(run, 16))
    scores.square().mean().backward()
    assert scores.shape == (16, 10)
    assert 0.05 < float(scores.detach().std()) < 30
    gradients = [parameter.grad for parameter in net.parameters()]
    assert all(gradient is not None and bool(gradient.isfinite().all()) for gradient in gradients)


def test_a_learned_slope_does_not_decay() -> None:
    net = builders.make_model(compose(["activation=prelu", "model=alexnet", "model.width=0.1"]))
    decayed, rest = parameter_groups(net, weight_decay=0.1)
    slopes = [module.weight for module in net.modules() if isinstance(module, nn.PReLU)]
    assert len(slopes) == 7
    assert {id(slope) for slope in slopes} <= {id(parameter) for parameter in rest["params"]}
    assert not {id(slope) for slope in slopes} & {id(parameter) for parameter in decayed["params"]}


@pytest.mark.parametrize("name", ["maxout", "reglu", "swiglu"])
def test_match_is_recorded_and_determines_the_size(name: str) -> None:
    def parameters(activation: str, *overrides: str) -> int:
        run = compose([f"activation={activation}", "model=alexnet", "model.width=0.25", *overrides])
        if overrides:
            assert run.flat()["activation.match"] == overrides[0].partition("=")[2]
        return sum(parameter.numel() for parameter in builders.make_uninitialized_model(run).parameters())

    plain = parameters("relu")
    assert parameters(name, "activation.match=width") > 1.8 * plain
    assert parameters(name, "activation.match=parameters") == pytest.approx(plain, rel=0.02)
