"""L1 and L2 penalties on the weights, whatever the loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bakeoff.components.optimizers import decayed_parameters
from bakeoff.config.schema import PenaltyConfig, RunConfig


class Penalties:
    """The penalty l1 sum |w| + l2 / 2 sum w^2 over a net's weights. The gradient of the second term is l2 w, as weight decay's.

    It joins the loss that is minimized, not the one that is logged: the curves of runs with and without it can be compared.
    """

    def __init__(self, weights: Sequence[Tensor], penalty: PenaltyConfig) -> None:
        """Penalize `weights`, those that weight decay would act on, by the factors of `penalty`."""
        self.weights, self.l1, self.l2 = list(weights), penalty.l1, penalty.l2

    def __call__(self) -> Tensor:
        """Return the penalty of the current weights, a scalar with a gradient to them."""
        parts = [torch.zeros((), device=self.weights[0].device)] if self.weights else [torch.zeros(())]
        if self.l1:
            parts += [self.l1 * weight.abs().sum() for weight in self.weights]
        if self.l2:
            parts += [self.l2 / 2 * weight.square().sum() for weight in self.weights]
        return torch.stack([part.to(parts[0].device) for part in parts]).sum()


def make_penalties(run: RunConfig, net: nn.Module) -> Penalties | None:
    """Return the penalties of a run on the weights of its net; None where it has none."""
    if run.penalty == PenaltyConfig():
        return None
    return Penalties(decayed_parameters(net, decay_all=bool(run.optimizer.get("decay_all", False))), run.penalty)
