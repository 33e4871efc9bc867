"""Loss, hits and images of a stretch of batches, added up where they are computed."""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
from torch import Tensor

TOP = 5
MANY_CLASSES = 100
"""From so many classes on, the accuracy within the TOP best scores is told as well."""


class LossAccuracyMeter:
    """Loss, hits and images, added up on the device: one read-out a window instead of one a step.

    top: count also the images whose class is among so many best scores; 0 does not.
    """

    def __init__(self, device: torch.device | str = "cpu", *, top: int = 0) -> None:
        self.top, self.top_accuracy = top, math.nan
        self.values = torch.zeros(4 if top else 3, dtype=torch.float64, device="cpu" if str(device) == "mps" else device)

    def add(self, loss: Tensor, scores: Tensor, targets: Tensor) -> None:
        """One batch: its mean loss, its scores (N, classes) and its targets, (N,) or soft (N, classes): then the greatest counts."""
        n = targets.shape[0]
        labels = targets.argmax(1) if targets.ndim == 2 else targets
        hits = (scores.detach().argmax(1) == labels).sum()
        counts = [loss.detach().double() * n, hits.double(), torch.full_like(hits, n, dtype=torch.float64)]
        if self.top:
            counts.append((scores.detach().topk(self.top, 1).indices == labels.unsqueeze(1)).sum().double())
        self.values += torch.stack(counts)

    def means(self) -> tuple[float, float, float]:
        """(mean loss, accuracy, images) over all ranks; `top_accuracy` is set beside."""
        values = self.values.clone()
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(values)
        loss, hits, n, *among = values.tolist()
        self.top_accuracy = among[0] / n if among and n else math.nan
        return (loss / n, hits / n, n) if n else (math.nan, math.nan, 0.0)
