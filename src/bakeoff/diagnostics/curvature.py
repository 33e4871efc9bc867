"""The loss around a net's weights: the top eigenvalue of its Hessian, and slices through its landscape."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vjp

from bakeoff import seeds
from bakeoff.diagnostics.layer_trace import side_effect_free

ITERATIONS, TOLERANCE = 40, 1e-3
Weights = dict[str, Tensor]


def loss_of(net: nn.Module, loss: nn.Module, images: Tensor, labels: Tensor) -> Callable[[Weights], Tensor]:
    """The loss on a batch as a function of the weights."""

    def value(weights: Weights) -> Tensor:
        scores = functional_call(_Plain(net), {f"net.{name}": weight for name, weight in weights.items()}, (images,))
        result: Tensor = loss(scores, labels)
        return result

    return value


class _Plain(nn.Module):
    """Goes round a compiled net, whose compiler does not know these transforms."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.net.forward(images)
        return scores


def sharpness(net: nn.Module, loss: nn.Module, images: Tensor, labels: Tensor, *, seed: int) -> float:
    """The eigenvalue of the loss's Hessian on a batch that is greatest in size; the net stays as it is. nan where the loss is none.

    Power iteration on Hessian-vector products, at most 40, until the Rayleigh quotient moves by less than a thousandth. Source: B.
    Pearlmutter (1994), "Fast exact multiplication by the Hessian"; J. Cohen et al. (arXiv:2103.00065) for what it says of the rate: plain
    gradient descent is stable below 2 / sharpness.
    """
    with side_effect_free(net, grad=True):
        weights = {name: weight.detach() for name, weight in net.named_parameters()}
        return top_eigenvalue(loss_of(net, loss, images, labels), weights, seed=seed)


def top_eigenvalue(value: Callable[[Weights], Tensor], weights: Weights, *, seed: int) -> float:
    """The eigenvalue of the Hessian of `value` at `weights` that is greatest in size: see `sharpness`."""
    generator = seeds.make_generator(seed, "sharpness")
    along = {name: torch.randn(w.shape, generator=generator, dtype=torch.float32).to(w) for name, w in weights.items()}
    # One linearization serves all products: the Hessian is symmetric, so that reverse over reverse gives H v as v^T H.
    pull = vjp(grad(value), weights)[1]
    found = math.nan
    for _ in range(ITERATIONS):
        size = norm(along)
        if size == 0 or not math.isfinite(size):
            return size if size == 0 else math.nan
        along = {name: v / size for name, v in along.items()}
        product = {name: v.detach() for name, v in pull(along)[0].items()}
        before, found = found, dot(along, product)
        along = product
        if abs(found - before) <= TOLERANCE * abs(found):
            break
    return found


def dot(a: Weights, b: Weights) -> float:
    """The inner product over all tensors, in float64."""
    return float(sum((a[name].double() * b[name].double()).sum() for name in a))


def norm(a: Weights) -> float:
    """The Euclidean norm over all tensors."""
    return math.sqrt(dot(a, a))


def slices(
    net: nn.Module, loss: nn.Module, images: Tensor, labels: Tensor, *, seed: int, points: int = 11, reach: float = 1.0
) -> tuple[list[float], list[list[float]]]:
    """(alphas, loss[i][j] at w + alphas[i] u + alphas[j] v) for two random directions u, v, each filter as long as the net's own.

    Vectors (biases, norms) are not moved. Source: H. Li et al., "Visualizing the loss landscape of neural nets" (arXiv:1712.09913).
    """
    generator = seeds.make_generator(seed, "landscape")
    alphas = [reach * (2 * i / (points - 1) - 1) for i in range(points)]
    with side_effect_free(net):
        weights = {name: weight.detach() for name, weight in net.named_parameters()}
        u, v = ({name: _direction(w, generator) for name, w in weights.items()} for _ in range(2))
        value = loss_of(net, loss, images, labels)
        table = [[float(value({n: w + a * u[n] + b * v[n] for n, w in weights.items()})) for b in alphas] for a in alphas]
    return alphas, table


def _direction(weight: Tensor, generator: torch.Generator) -> Tensor:
    """A normal direction whose filters (rows) are as long as those of `weight`; zero for a vector."""
    if weight.ndim < 2:
        return torch.zeros_like(weight)
    drawn = torch.randn(weight.shape, generator=generator).to(weight)
    dims = tuple(range(1, weight.ndim))
    length = torch.linalg.vector_norm(weight, dim=dims, keepdim=True)
    direction: Tensor = drawn * length / torch.linalg.vector_norm(drawn, dim=dims, keepdim=True)
    return direction
