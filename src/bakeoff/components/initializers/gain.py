"""The gain of an activation: the factor of the weights that keeps a signal, or its gradient, from layer to layer."""

from __future__ import annotations

import copy
import functools
import math
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from bakeoff.errors import ArgumentError, check_argument

GainRule = Literal["critical", "second_moment"]
DRAWS = 64
"""Draws of a random activation at each point."""
SCALES = [10.0 ** (k / 2) for k in range(-6, 7)]
"""Variances q of pre-activations, among which a critical one is searched."""
FINE, COARSE = 5e-4, 2e-3
"""Steps of the grid of one input: for one integral, and for the many of a search (error 1e-5)."""
NEARLY_ZERO = 1e-10
"""The variance at which the limit of small signals is taken."""


def activation_gain(activation: nn.Module) -> float:
    """Return 1 / sqrt(E[f(z)^2]) for z ~ N(0, 1): the gain that keeps the mean square of a signal through weights and `activation`.

    An activation of one input is integrated in float64 by the trapezoid rule on [-12, 12] in steps of 0.0005, with 0 (where activations
    have their kinks) on the grid. A unit of several inputs (`expansion`) gets that many independent N(0, 1) along dim 1: two by the
    product rule on [-9, 9] in steps of 0.02 (error 1e-5), more by 2^18 scrambled Sobol points (error about 1e-3). A random activation is
    drawn as in training; a learnable one has its initial parameters; one that depends on other channels is replaced by `pointwise()`.

    The gain of ReLU is sqrt(2) as in He et al. (arXiv:1502.01852), of SELU 1 as in Klambauer et al. (arXiv:1706.02515); torch's
    `calculate_gain` supports few activations, and returns 3/4 for SELU. `activation` is not changed.

    Raises:
        ArgumentError: the activation is zero everywhere, is not finite, or returns another shape than its expansion implies.
    """
    name = type(activation).__name__
    inputs = int(getattr(activation, "expansion", 1))
    z, weight = quadrature_grid(inputs)
    pointwise = getattr(activation, "pointwise", None)
    function: nn.Module = (pointwise() if callable(pointwise) else copy.deepcopy(activation)).cpu().double()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        if is_random(function, inputs=inputs):
            outputs = [draw_activation(function.train(), z, seed=seed) for seed in range(DRAWS)]
        else:
            outputs = [function.eval()(z.clone())]
    if any(output.numel() != weight.numel() for output in outputs):
        raise ArgumentError(f"{name} has expansion {inputs} but maps {tuple(z.shape)} to {tuple(outputs[0].shape)}")
    square = mean_over_draws([(output.reshape(weight.shape).square() * weight).sum() for output in outputs])
    if not (math.isfinite(square) and square > 0):
        raise ArgumentError(f"{name} has a mean square of {square} on N(0, 1), which no gain of an initializer can keep")
    return 1 / math.sqrt(square)


def gain_by_rule(activation: nn.Module, rule: GainRule) -> float:
    """Return what `gain: auto` means: the gain of the second moment, or the critical one where there is one.

    SELU keeps its second-moment gain of 1 under both rules: only there are mean 0 and variance 1 its fixed point (arXiv:1706.02515).
    """
    check_argument("auto_gain", rule, fits=rule in ("critical", "second_moment"), rule="choices: critical, second_moment")
    critical = critical_gain(activation) if rule == "critical" and not isinstance(activation, nn.SELU) else None
    return activation_gain(activation) if critical is None else critical


def gradient_factor(activation: nn.Module, *, gain: float, variance: float = 1.0) -> float | None:
    """Return chi = gain^2 E[f'(sqrt(q) z)^2] for z ~ N(0, 1): the factor of a gradient's mean square from layer to layer.

    Schoenholz et al. (arXiv:1611.01232), without biases.

    Args:
        activation: The activation, which is not changed.
        gain: The gain of the weights.
        variance: The variance q of the pre-activations.

    Returns:
        The factor; None for a unit of several inputs.
    """
    if getattr(activation, "expansion", 1) != 1:
        return None
    return gain**2 * _moments(activation, variance, step=FINE)[1]


def critical_gain(activation: nn.Module) -> float | None:
    """Return the gain at which neither signals nor gradients vanish or explode with depth, for biases of 0.

    Poole et al. (arXiv:1606.05340), Schoenholz et al. (arXiv:1611.01232): a variance q of pre-activations stays where gain^2 is
    q / E[f(sqrt(q) z)^2], and their gradients keep theirs where then chi = q E[f'(sqrt(q) z)^2] / E[f(sqrt(q) z)^2] = 1. That holds for
    every q if f is linear on both sides of 0 (ReLU: sqrt(2)), in the limit of small q if f is linear near 0 and flatter further out
    (tanh: 1), and at one q for sigmoid.

    Returns:
        The gain. None if there is no such q, or q grows or shrinks away from it: a softplus has chi below 1 at any fixed point; GELU,
        SiLU, Mish and hardswish leave theirs, since they are steeper for larger signals. None for a unit of several inputs as well.
    """
    if getattr(activation, "expansion", 1) != 1:
        return None
    moments = [_moments(activation, q, step=COARSE) for q in SCALES]
    if any(not math.isfinite(square) or square <= 0 for square, _ in moments):
        return None
    chis = [q * slope / square for q, (square, slope) in zip(SCALES, moments, strict=True)]
    amplifications = [square / q for q, (square, _) in zip(SCALES, moments, strict=True)]
    if max(amplifications) < (1 + 1e-4) * min(amplifications) and abs(chis[0] - 1) < 1e-3:
        return 1 / math.sqrt(amplifications[0])
    if any(b >= a for a, b in pairwise(amplifications)):
        return None  # a larger signal is amplified more: it leaves any fixed point
    square, slope = _moments(activation, NEARLY_ZERO, step=COARSE)
    if abs(NEARLY_ZERO * slope / square - 1) < 1e-3:
        return 1 / math.sqrt(slope)
    for (low, high), (below, above) in zip(pairwise(SCALES), pairwise(chis), strict=True):
        if below < 1 <= above:
            for _ in range(30):
                middle = math.sqrt(low * high)
                square, slope = _moments(activation, middle, step=COARSE)
                low, high = (middle, high) if middle * slope / square < 1 else (low, middle)
            return math.sqrt(high / _moments(activation, high, step=FINE)[0])
    return None


GAIN_COLUMNS = ("critical gain", "second-moment gain", "chi at that")


def gain_row(activation: nn.Module) -> tuple[str, str, str]:
    """Return both gains of an activation and, at the second-moment gain and a variance of 1, which it keeps, the factor of gradients."""
    gain, critical = activation_gain(activation), critical_gain(activation)
    chi = gradient_factor(activation, gain=gain)
    return "none" if critical is None else f"{critical:.4g}", f"{gain:.4g}", "none" if chi is None else f"{chi:.3f}"


def _moments(activation: nn.Module, q: float, *, step: float) -> tuple[float, float]:
    """Return E[f(sqrt(q) z)^2] and E[f'(sqrt(q) z)^2] for z ~ N(0, 1), of an activation of one input.

    The slope is that between neighbouring points of the grid, so that a kink at 0 costs no accuracy.
    """
    z, weight = quadrature_grid(1, step=step)
    function: nn.Module = copy.deepcopy(activation).cpu().double()
    points = z * math.sqrt(q)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        if is_random(function, inputs=1):  # one slope, its mean over the draws, would be another function
            outputs = [draw_activation(function.train(), points, seed=seed) for seed in range(DRAWS)]
        else:
            outputs = [function.eval()(points.clone())]
    squares = [(output.square() * weight).sum() for output in outputs]
    if len(outputs) > 1:  # at each point another draw: its slope is output / point, exact for a function linear on both sides of 0
        slopes = [((output / points).nan_to_num(0.0).square() * weight).sum() for output in outputs]
    else:
        slopes = [((outputs[0].diff() / points.diff()).square() * (weight[1:] + weight[:-1]) / 2).sum()]
    return mean_over_draws(squares), mean_over_draws(slopes)


def mean_over_draws(values: list[Tensor]) -> float:
    """Return the mean of one number a draw."""
    return math.fsum(map(float, values)) / len(values)


def quadrature_grid(inputs: int, *, step: float = FINE) -> tuple[Tensor, Tensor]:
    """Return points (n,), or (n, inputs) for several, and weights (n,) of an integral over the standard normal distribution, in float64."""
    if inputs == 1:
        return line_grid(step)
    if inputs == 2:
        step = 0.02
        axis = torch.arange(-450, 451, dtype=torch.float64) * step
        weight = normal_density(axis) * step
        return torch.cartesian_prod(axis, axis), torch.outer(weight, weight).flatten()
    n = 2**18
    sobol = torch.quasirandom.SobolEngine(inputs, scramble=True, seed=0)  # type: ignore[no-untyped-call]
    uniform: Tensor = sobol.draw(n, dtype=torch.float64)
    return torch.special.ndtri(uniform.clamp(1e-12, 1 - 1e-12)), torch.full((n,), 1 / n, dtype=torch.float64)


@functools.cache
def line_grid(step: float) -> tuple[Tensor, Tensor]:
    """Return the points and weights of one input on [-12, 12]."""
    half = round(12 / step)
    z = torch.arange(-half, half + 1, dtype=torch.float64) * step
    return z, normal_density(z) * step


def normal_density(z: Tensor) -> Tensor:
    """Return the standard normal density."""
    return torch.exp(-0.5 * z.square()) / math.sqrt(2 * math.pi)


def is_random(activation: nn.Module, *, inputs: int) -> bool:
    """Return whether two draws of the activation in training mode differ."""
    z = torch.linspace(-3, 3, 60 * inputs, dtype=torch.float64)
    first, second = (draw_activation(activation.train(), z.view(-1, inputs) if inputs > 1 else z, seed=k) for k in range(2))
    return not torch.equal(first, second)


def draw_activation(activation: nn.Module, z: Tensor, *, seed: int) -> Tensor:
    """Return one draw of a random activation; it seeds the CPU's global generator, so call it inside `fork_rng`."""
    torch.default_generator.manual_seed(seed)
    output: Tensor = activation(z.clone())
    return output
