"""Losses that torch lacks, called as loss(scores, targets)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from bakeoff.errors import ChoiceError

# The names that a config may use as a target.
__all__ = ["MulticlassHinge"]


class MulticlassHinge(nn.Module):
    """Mean over the batch of sum over the wrong classes j of max(0, margin - s_y + s_j)^p: Weston, Watkins (1998), the "SVM loss".

    scores: float [batch, C]; targets: int64 [batch]; a scalar comes back. Scores of zero give (C - 1) * margin^p, so C - 1 with
    p=1 and margin=1. torch's `MultiMarginLoss` is the same divided by C. Scores below float32 are raised to float32 first.
    """

    def __init__(self, *, p: Literal[1, 2] = 1, margin: float = 1.0) -> None:
        super().__init__()
        if p not in (1, 2):
            raise ChoiceError(f"loss.p={p}: choices: 1, 2")
        if not (math.isfinite(margin) and margin > 0):
            raise ChoiceError(f"loss.margin={margin}: must be a finite number above 0")
        self.p = p
        self.margin = margin

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The loss as a scalar, with a gradient to `scores`."""
        wide = scores if scores.dtype == torch.float64 else scores.float()
        return scores.shape[1] * nn.functional.multi_margin_loss(wide, targets, p=self.p, margin=self.margin)

    def extra_repr(self) -> str:
        """p and margin, as print shows them."""
        return f"p={self.p}, margin={self.margin}"
