"""The gain of an activation: the factor of the weights that keeps the mean square of a signal from layer to layer."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from bakeoff.errors import ArgumentError

DRAWS = 64
"""Draws of a random activation at each point."""


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
    squares = [float((output.reshape(weight.shape).square() * weight).sum()) for output in outputs]
    square = math.fsum(squares) / len(squares)
    if not (math.isfinite(square) and square > 0):
        raise ArgumentError(f"{name} has a mean square of {square} on N(0, 1), which no gain of an initializer can keep")
    return 1 / math.sqrt(square)


def quadrature_grid(inputs: int) -> tuple[Tensor, Tensor]:
    """Return points (n,), or (n, inputs) for several, and weights (n,) of an integral over the standard normal distribution, in float64."""
    if inputs == 1:
        step = 5e-4
        z = torch.arange(-24_000, 24_001, dtype=torch.float64) * step
        return z, normal_density(z) * step
    if inputs == 2:
        step = 0.02
        axis = torch.arange(-450, 451, dtype=torch.float64) * step
        weight = normal_density(axis) * step
        return torch.cartesian_prod(axis, axis), torch.outer(weight, weight).flatten()
    n = 2**18
    sobol = torch.quasirandom.SobolEngine(inputs, scramble=True, seed=0)  # type: ignore[no-untyped-call]
    uniform: Tensor = sobol.draw(n, dtype=torch.float64)
    return torch.special.ndtri(uniform.clamp(1e-12, 1 - 1e-12)), torch.full((n,), 1 / n, dtype=torch.float64)


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
