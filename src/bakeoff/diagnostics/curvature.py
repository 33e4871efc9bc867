"""The loss around a net's weights: the Hessian's largest eigenvalue, and a plane through the loss landscape."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vjp

from bakeoff import seeds
from bakeoff.diagnostics.layer_trace import side_effect_free
from bakeoff.diagnostics.probe import Probe

MAX_ITERATIONS, TOLERANCE = 40, 1e-3
Weights = dict[str, Tensor]


def functional_loss(net: nn.Module, loss: nn.Module, probe: Probe) -> Callable[[Weights], Tensor]:
    """Return the loss on the probe as a function of the net's weights."""

    def loss_at(weights: Weights) -> Tensor:
        scores = functional_call(_Uncompiled(net), {f"net.{name}": weight for name, weight in weights.items()}, (probe.images,))
        value: Tensor = loss(scores, probe.labels)
        return value

    return loss_at


class _Uncompiled(nn.Module):
    """Calls the `forward` of a net, since compiled nets do not support these transforms."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.net.forward(images)
        return scores


def sharpness(net: nn.Module, loss: nn.Module, probe: Probe, *, seed: int) -> float:
    """Return the eigenvalue of largest magnitude of the loss's Hessian on the probe, or nan if it is not finite.

    At most 40 power iterations with Hessian-vector products, until the Rayleigh quotient changes by less than a thousandth: B.
    Pearlmutter (1994), "Fast exact multiplication by the Hessian". Plain gradient descent is stable below 2 / learning rate: J. Cohen et
    al. (arXiv:2103.00065). The net is not changed; the probe has its precision; `seed` is the run's, for the first vector.
    """
    with side_effect_free(net, grad=True):
        weights = {name: weight.detach() for name, weight in net.named_parameters()}
        return top_eigenvalue(functional_loss(net, loss, probe), weights, seed=seed)


def top_eigenvalue(function: Callable[[Weights], Tensor], weights: Weights, *, seed: int) -> float:
    """Return the eigenvalue of largest magnitude of the Hessian of `function` at `weights`; see `sharpness`."""
    generator = seeds.make_generator(seed, "sharpness")
    vector = {name: torch.randn(w.shape, generator=generator, dtype=torch.float32).to(w) for name, w in weights.items()}
    # A single linearization suffices for all products: the Hessian is symmetric, so that reverse over reverse yields H v as v^T H.
    hessian_product = vjp(grad(function), weights)[1]
    eigenvalue = math.nan
    for _ in range(MAX_ITERATIONS):
        length = norm(vector)
        if length == 0 or not math.isfinite(length):
            return 0.0 if length == 0 else math.nan
        vector = {name: v / length for name, v in vector.items()}
        product = {name: v.detach() for name, v in hessian_product(vector)[0].items()}
        previous, eigenvalue = eigenvalue, dot(vector, product)
        vector = product
        if abs(eigenvalue - previous) <= TOLERANCE * abs(eigenvalue):
            break
    return eigenvalue


def dot(a: Weights, b: Weights) -> float:
    """Return the inner product over all tensors, in float64."""
    return float(sum((a[name].double() * b[name].double()).sum() for name in a))


def norm(a: Weights) -> float:
    """Return the Euclidean norm over all tensors."""
    return math.sqrt(dot(a, a))


def loss_plane(
    net: nn.Module, loss: nn.Module, probe: Probe, *, seed: int, points: int = 11, radius: float = 1.0
) -> tuple[list[float], list[list[float]]]:
    """Evaluate the loss around the weights w along two random directions u and v, with filters of the same norms as the net's.

    Vectors (biases, norms) are fixed. Source: H. Li et al., "Visualizing the loss landscape of neural nets" (arXiv:1712.09913). The net
    is not changed; the probe has its precision; `seed` is the run's, for the directions.

    Returns:
        Coefficients, `points` of them from -radius to radius, and `losses[i][j]` at w + coefficients[i] u + coefficients[j] v.
    """
    generator = seeds.make_generator(seed, "landscape")
    alphas = [radius * (2 * i / (points - 1) - 1) for i in range(points)]
    with side_effect_free(net):
        weights = {name: weight.detach() for name, weight in net.named_parameters()}
        u, v = ({name: _direction(w, generator) for name, w in weights.items()} for _ in range(2))
        loss_at = functional_loss(net, loss, probe)
        losses = [[float(loss_at({n: w + a * u[n] + b * v[n] for n, w in weights.items()})) for b in alphas] for a in alphas]
    return alphas, losses


def _direction(weight: Tensor, generator: torch.Generator) -> Tensor:
    """Return a random direction whose filters (rows) have the norms of those of `weight`; zero for a vector."""
    if weight.ndim < 2:
        return torch.zeros_like(weight)
    noise = torch.randn(weight.shape, generator=generator).to(weight)
    dims = tuple(range(1, weight.ndim))
    length = torch.linalg.vector_norm(weight, dim=dims, keepdim=True)
    direction: Tensor = noise * length / torch.linalg.vector_norm(noise, dim=dims, keepdim=True)
    return direction
