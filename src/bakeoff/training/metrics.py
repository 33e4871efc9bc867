"""Loss and accuracy of a stretch of batches, added up on the device."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

TOP_K = 5
MANY_CLASSES = 100
"""From so many classes on, the accuracy among the TOP_K best scores is reported as well."""


@dataclass(frozen=True)
class MeterReading:
    """Means over images; nan where there was none. `top_k_accuracy` is None where it is not measured."""

    loss: float
    accuracy: float
    top_k_accuracy: float | None = None

    def named(self, prefix: str) -> dict[str, float]:
        """Return the metrics under their names: `<prefix>/loss`, `<prefix>/accuracy` and perhaps `<prefix>/top5_accuracy`."""
        values = {f"{prefix}/loss": self.loss, f"{prefix}/accuracy": self.accuracy}
        return values if self.top_k_accuracy is None else values | {f"{prefix}/top{TOP_K}_accuracy": self.top_k_accuracy}


class LossAccuracyMeter:
    """Adds up loss, correct predictions and images on the device, so that the host waits for it once a window and not once a step.

    Attributes:
        sums: float64 (3,) or, with `top_k`, (4,): loss times images, correct, images, correct among the best k.
    """

    def __init__(self, device: torch.device | str = "cpu", *, top_k: int | None = None) -> None:
        """Start at zero.

        Args:
            device: Where the sums are kept: that of the batches.
            top_k: Count also the images whose class is among so many best scores.
        """
        self.top_k = top_k
        self.sums = torch.zeros(3 if top_k is None else 4, dtype=torch.float64, device=device)

    def update(self, loss: Tensor, scores: Tensor, targets: Tensor) -> None:
        """Add one batch.

        Args:
            loss: Its mean loss, a scalar.
            scores: (N, classes).
            targets: Classes (N,), or shares of each class (N, classes), of which the largest counts.
        """
        n = targets.shape[0]
        labels = targets.argmax(1) if targets.ndim == 2 else targets
        correct = (scores.detach().argmax(1) == labels).sum()
        counts = [loss.detach().double() * n, correct.double(), torch.full_like(correct, n, dtype=torch.float64)]
        if self.top_k is not None:
            counts.append((scores.detach().topk(self.top_k, 1).indices == labels.unsqueeze(1)).sum().double())
        self.sums += torch.stack(counts)

    def reset(self) -> None:
        """Go back to zero."""
        self.sums.zero_()

    def global_sums(self) -> Tensor:
        """Return the sums over all ranks, on the device. Every rank must call it."""
        sums = self.sums.clone()
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(sums)
        return sums

    def compute(self) -> MeterReading:
        """Return the means over all ranks. Every rank must call it."""
        loss, correct, n, *top_k = self.global_sums().tolist()
        if not n:
            return MeterReading(math.nan, math.nan, math.nan if top_k else None)
        return MeterReading(loss / n, correct / n, top_k[0] / n if top_k else None)
