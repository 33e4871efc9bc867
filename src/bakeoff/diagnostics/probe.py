"""The fixed batch on which a run is measured, and the steps of the measurements."""

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
"""The forward passes of the probe as a share of the training's arithmetic."""
PASSES_PER_IMAGE = 3
"""The cost of training on an image in forward passes: a forward pass, and a backward pass of twice its cost."""
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
    """Return the number of images, 16 to 256, for which all measurements cost `COST_SHARE` of the training's arithmetic.

    It depends only on the planned run, so that a resumed run is measured on the same images. A probe has at most four micro-batches.
    """
    affordable = COST_SHARE * PASSES_PER_IMAGE * total_steps * batch_size / len(list(measured_steps(total_steps)))
    return max(2, min(MAX_MICRO_BATCHES * micro_batch, MAX_IMAGES, max(MIN_IMAGES, int(affordable))))


def make_probe(loader: EpochSampler, *, total_steps: int) -> Probe:
    """Return the first training images of this rank's first epoch, augmented as in training; the loader keeps its position."""
    size = probe_size(total_steps, batch_size=loader.batch_size, micro_batch=loader.micro)
    fresh = copy.copy(loader)
    fresh.resume(epoch=-1, skip=0)
    fresh.set_epoch(0)
    batches = list(itertools.islice(fresh, math.ceil(size / fresh.micro)))
    images, labels = (torch.cat(parts)[:size] for parts in zip(*batches, strict=True))
    return Probe(images, labels)
