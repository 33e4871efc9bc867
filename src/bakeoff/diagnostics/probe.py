"""The fixed batch that a run is measured on, and the steps at which it is measured."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from bakeoff.data.epoch_sampler import EpochSampler

COST_SHARE = 0.008
"""Share of a run's arithmetic that the forward passes of the probe may take."""
PASSES_PER_IMAGE = 3
"""What training on an image costs in forward passes: one forward, and a backward of twice that."""
MIN_IMAGES, MAX_IMAGES, MAX_MICRO_BATCHES = 16, 256, 4


@dataclass(frozen=True)
class Probe:
    """Images `(n, C, H, W)` and labels `(n,)`."""

    images: Tensor
    labels: Tensor


def measured_steps(total_steps: int) -> Iterator[int]:
    """Yield 0, 1, 2, 4, 8, ... and `total_steps`: the steps at which a run is measured."""
    step = 0
    while step < total_steps:
        yield step
        step = max(1, 2 * step)
    yield total_steps


def probe_size(total_steps: int, *, batch_size: int, micro_batch: int) -> int:
    """Return the number of images for which all measurements cost `COST_SHARE` of the training's arithmetic, 16 to 256.

    It depends on the planned run alone, so that a resumed one is measured on the same images.

    Args:
        total_steps: Optimizer steps of the whole run.
        batch_size: The global batch.
        micro_batch: Images of one forward pass; the probe takes at most four of them.
    """
    affordable = COST_SHARE * PASSES_PER_IMAGE * total_steps * batch_size / len(list(measured_steps(total_steps)))
    return max(2, min(MAX_MICRO_BATCHES * micro_batch, MAX_IMAGES, max(MIN_IMAGES, int(affordable))))


def make_probe(loader: EpochSampler, *, total_steps: int) -> Probe:
    """Take the first training images of this rank's first epoch, augmented as they are trained on.

    Args:
        loader: The run's training loader at any position, which it keeps.
        total_steps: Optimizer steps of the whole run.
    """
    size = probe_size(total_steps, batch_size=loader.batch_size, micro_batch=loader.micro)
    fresh = copy.copy(loader)
    fresh.resume(epoch=-1, skip=0)
    fresh.set_epoch(0)
    batches = list(itertools.islice(fresh, math.ceil(size / fresh.micro)))
    images, labels = (torch.cat(parts)[:size] for parts in zip(*batches, strict=True))
    return Probe(images, labels)
