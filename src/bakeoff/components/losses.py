"""Losses that torch lacks, called as loss(scores, targets).

Scores are float (N, C); targets are int64 (N,), the classes, or float (N, C), a probability for each class (what mixup and cutmix give).
The result is a scalar, the mean over the batch. The loss of soft targets is the mixture: the sum over the classes of their probability
times the loss of that class. Scores of lower precision are converted to float32 first.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from bakeoff.errors import check_argument

# The names that a config may use as a target.
__all__ = ["Focal", "MulticlassHinge", "OneAgainstRest", "SquaredError"]


def upcast_scores(scores: Tensor) -> Tensor:
    """Return float64 scores as they are, all others in float32."""
    return scores if scores.dtype == torch.float64 else scores.float()


def class_probabilities(targets: Tensor, scores: Tensor) -> Tensor:
    """Return targets of either kind as probabilities (N, C) of the scores' type."""
    if targets.ndim == 1:
        return functional.one_hot(targets, scores.shape[1]).to(scores.dtype)
    return targets.to(scores.dtype)


class MulticlassHinge(nn.Module):
    """Mean over the batch of sum over the wrong classes j of max(0, margin - s_y + s_j)^p: Weston, Watkins (1998), the "SVM loss".

    Scores of zero give (C - 1) * margin^p, so C - 1 with margin=1. torch's `MultiMarginLoss` is the same divided by C.
    """

    def __init__(self, *, p: Literal[1, 2] = 1, margin: float = 1.0) -> None:
        """Set the power and the margin, a finite number above 0."""
        super().__init__()
        check_argument("p", p, fits=p in (1, 2), rule="choices: 1, 2")
        check_argument("margin", margin, fits=math.isfinite(margin) and margin > 0, rule="must be a finite number above 0")
        self.p, self.margin = p, margin

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Return the loss as a scalar, with a gradient to `scores`."""
        scores, classes = upcast_scores(scores), scores.shape[1]
        if targets.ndim == 1:
            return classes * functional.multi_margin_loss(scores, targets, p=self.p, margin=self.margin)
        # A mixed batch has few classes per image, so a pass for each of them is cheaper than one for each of all C.
        passes = max(1, int((targets > 0).sum(1).max()))
        weights, labels = targets.to(scores.dtype).topk(passes, dim=1)
        total = torch.zeros((), dtype=scores.dtype, device=scores.device)
        for weight, label in zip(weights.T, labels.T, strict=True):
            losses = functional.multi_margin_loss(scores, label.contiguous(), p=self.p, margin=self.margin, reduction="none")
            total = total + classes * (weight * losses).mean()
        return total

    def extra_repr(self) -> str:
        """Return p and margin, as print shows them."""
        return f"p={self.p}, margin={self.margin}"


class SquaredError(nn.Module):
    """Mean over batch and classes of (s_j - t_j)^2, with one-hot targets t, on raw scores: Hui, Belkin (arXiv:2006.07322).

    Scores of zero give 1/C. The convention is that of torch's `MSELoss`: the sum over the classes would be C times it.
    """

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Return the loss as a scalar; a soft target adds (sum t - sum t^2) / C, which has no gradient, to its own squared error."""
        scores = upcast_scores(scores)
        t = class_probabilities(targets, scores)
        return (t.sum(1) * (scores.square().sum(1) + 1) - 2 * (scores * t).sum(1)).mean() / scores.shape[1]


class OneAgainstRest(nn.Module):
    """Mean over batch and classes of the binary cross entropy of sigmoid(s_j) against "it is class j": one logistic regression a class.

    Scores of zero give ln 2 = 0.693, whatever C. Source: Rifkin, Klautau (2004), In Defense of One-Vs-All Classification.
    """

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Return the loss as a scalar, with a gradient to `scores`."""
        scores = upcast_scores(scores)
        return functional.binary_cross_entropy_with_logits(scores, class_probabilities(targets, scores))


class Focal(nn.Module):
    """Mean over the batch of -(1 - q_y)^gamma ln q_y, q the softmax of the scores: Lin et al. (2017), arXiv:1708.02002.

    gamma=0 is the cross entropy. Scores of zero give (1 - 1/C)^gamma ln C.
    """

    def __init__(self, *, gamma: float = 2.0) -> None:
        """Set the power of the wrong classes' probability: a finite number, 0 or more."""
        super().__init__()
        check_argument("gamma", gamma, fits=math.isfinite(gamma) and gamma >= 0, rule="must be a finite number, 0 or more")
        self.gamma = gamma

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Return the loss as a scalar, with a gradient to `scores`."""
        scores = upcast_scores(scores)
        logs = scores.log_softmax(1)
        # At q = 1 a power below 1 has no finite slope; the clamp gives that entry a slope of zero.
        rest = (-torch.expm1(logs)).clamp(min=torch.finfo(logs.dtype).tiny)
        losses = -logs if self.gamma == 0 else -(rest**self.gamma) * logs
        return (class_probabilities(targets, scores) * losses).sum(1).mean()

    def extra_repr(self) -> str:
        """Return gamma, as print shows it."""
        return f"gamma={self.gamma}"


def chance_loss(loss: nn.Module, *, classes: int) -> float:
    """Return the mean loss over one image of each class for a net whose scores are equal for all classes."""
    return float(loss(torch.zeros(classes, classes), torch.arange(classes)))
