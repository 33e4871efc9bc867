"""The gain of an activation: what weights are multiplied by so that a signal keeps its mean square from layer to layer."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from bakeoff.errors import ChoiceError

DRAWS = 64
"""How often a random activation is drawn on every point."""


def activation_gain(activation: nn.Module) -> float:
    """1 / sqrt(E[f(z)^2]) for z ~ N(0, 1): the gain that keeps the mean square of a signal through weights and `activation`.

    An activation of one input is integrated in float64 by the trapezoid rule on [-12, 12] in steps of 0.0005, with 0 (where activations
    have their kinks) on the grid. One of several (`expansion`) takes that many independent N(0, 1) along dim 1: two by the product rule on
    [-9, 9] in steps of 0.02 (good to 1e-5), more by 2^18 scrambled Sobol points (good to about 1e-3). A random activation is drawn as in
    training; a learnable one counts as it starts; one that looks at other channels too gives its function of one unit by `pointwise()`.

    ReLU gives sqrt(2) as He et al. (arXiv:1502.01852), SELU 1 as Klambauer et al. (arXiv:1706.02515); torch's `calculate_gain` knows
    few activations and gives 3/4 for SELU. Errors: ChoiceError where the activation is zero everywhere or not finite.
    """
    title = type(activation).__name__
    inputs = int(getattr(activation, "expansion", 1))
    z, weight = grid(inputs)
    pointwise = getattr(activation, "pointwise", None)
    made: nn.Module = (pointwise() if callable(pointwise) else copy.deepcopy(activation)).cpu().double()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        outputs = [drawn(made.train(), z, seed=k) for k in range(DRAWS)] if is_random(made, inputs=inputs) else [made.eval()(z.clone())]
    if any(output.numel() != weight.numel() for output in outputs):
        raise ChoiceError(f"activation: {title} says expansion={inputs} and gives {tuple(outputs[0].shape)} for {tuple(z.shape)}")
    squares = [float((output.reshape(weight.shape).square() * weight).sum()) for output in outputs]
    square = math.fsum(squares) / len(squares)
    if not (math.isfinite(square) and square > 0):
        raise ChoiceError(f"activation: {title} has a mean square of {square} on N(0, 1), which no gain of an initializer can keep")
    return 1 / math.sqrt(square)


def grid(inputs: int) -> tuple[Tensor, Tensor]:
    """(points [n], or [n, inputs] where there are several; weights [n]) of an integral over the standard normal law, float64."""
    if inputs == 1:
        step = 5e-4
        z = torch.arange(-24_000, 24_001, dtype=torch.float64) * step
        return z, density(z) * step
    if inputs == 2:
        step = 0.02
        axis = torch.arange(-450, 451, dtype=torch.float64) * step
        weight = density(axis) * step
        return torch.cartesian_prod(axis, axis), torch.outer(weight, weight).flatten()
    n = 2**18
    sobol = torch.quasirandom.SobolEngine(inputs, scramble=True, seed=0)  # type: ignore[no-untyped-call]
    uniform: Tensor = sobol.draw(n, dtype=torch.float64)
    return torch.special.ndtri(uniform.clamp(1e-12, 1 - 1e-12)), torch.full((n,), 1 / n, dtype=torch.float64)


def density(z: Tensor) -> Tensor:
    """The standard normal density."""
    return torch.exp(-0.5 * z.square()) / math.sqrt(2 * math.pi)


def is_random(activation: nn.Module, *, inputs: int) -> bool:
    """Whether two draws of the activation in training mode differ."""
    z = torch.linspace(-3, 3, 60 * inputs, dtype=torch.float64)
    first, second = (drawn(activation.train(), z.view(-1, inputs) if inputs > 1 else z, seed=k) for k in range(2))
    return not torch.equal(first, second)


def drawn(activation: nn.Module, z: Tensor, *, seed: int) -> Tensor:
    """One draw of a random activation; the CPU's global generator is left seeded, so this belongs inside a fork of it."""
    torch.default_generator.manual_seed(seed)
    output: Tensor = activation(z.clone())
    return output
