"""Which image comes when: a pure function of (seed, epoch), the same whatever the devices, accumulation, stops and resumes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from bakeoff.data.pca_lighting import Lighting
from bakeoff.errors import DataError, check_argument
from bakeoff.seeds import make_generator

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class BatchPlan:
    """How training images are shared out into batches.

    Attributes:
        batch_size: Images of a global batch, over all devices and accumulated micro-batches.
        seed: Seed of the order and the augmentation.
        accumulate: Micro-batches of an optimizer step.
        max_steps: Optimizer steps after which training ends; it shortens the last epoch.
        eval_batch_size: Images of a validation or test batch on one device.
    """

    batch_size: int
    seed: int
    accumulate: int = 1
    max_steps: int | None = None
    eval_batch_size: int = 512

    def steps_per_epoch(self, n_train: int) -> int:
        """Return the optimizer steps of an epoch of `n_train` images, or raise the DataError of a batch that is larger."""
        if self.batch_size > n_train:
            raise DataError(f"batch_size={self.batch_size}: is larger than the {n_train} training images (see `subset`, `val_fraction`)")
        return n_train // self.batch_size


@dataclass(frozen=True)
class Shard:
    """One process's share of the data: every `world_size`-th item, from number `rank` on."""

    rank: int = 0
    world_size: int = 1

    @property
    def slice(self) -> slice:
        """The share as a slice of a sequence or tensor."""
        return slice(self.rank, None, self.world_size)


SINGLE_PROCESS = Shard()


def micro_batch_size(batch_size: int, *, devices: int, accumulate: int) -> int:
    """Return how many images one device takes in one forward pass, or raise the ArgumentError of a global batch that does not divide."""
    parts = devices * accumulate
    rule = f"is the global batch, and must be a positive multiple of devices={devices} times accumulate={accumulate} (= {parts})"
    check_argument("batch_size", batch_size, fits=batch_size >= 1 and batch_size % parts == 0, rule=rule)
    return batch_size // parts


class EpochSampler:
    """One rank's training micro-batches of one epoch at a time, as a sized iterable; the kinds of it say where the images come from.

    The last, incomplete batch of the `n` training images is dropped. Lightning calls `set_epoch` on a loader's `sampler`, which is the
    object itself. A batch that does not divide is an ArgumentError, one that is larger than `n` a DataError.
    """

    def __init__(self, n: int, *, plan: BatchPlan, shard: Shard = SINGLE_PROCESS) -> None:
        self.micro = micro_batch_size(plan.batch_size, devices=shard.world_size, accumulate=plan.accumulate)
        self.steps_per_epoch = plan.steps_per_epoch(n)
        self.n, self.shard, self.epoch = n, shard, 0
        self.batch_size, self.accumulate, self.seed, self.max_steps = plan.batch_size, plan.accumulate, plan.seed, plan.max_steps
        self._skip = (-1, 0)

    @property
    def sampler(self) -> EpochSampler:
        """The object itself: where Lightning looks for `set_epoch`."""
        return self

    @property
    def steps(self) -> int:
        """Optimizer steps of this epoch: fewer where max_steps ends it."""
        if self.max_steps is None:
            return self.steps_per_epoch
        return max(0, min(self.steps_per_epoch, self.max_steps - self.epoch * self.steps_per_epoch))

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration."""
        self.epoch = epoch

    def resume(self, *, epoch: int, skip: int) -> None:
        """Leave out the first `skip` micro-batches of `epoch`, which were trained on before; other epochs stay complete."""
        self._skip = (epoch, skip)

    @property
    def start(self) -> int:
        """The first micro-batch of this epoch that is yielded."""
        epoch, skip = self._skip
        return skip if epoch == self.epoch else 0

    def __len__(self) -> int:
        """Return the number of micro-batches that are left of this epoch."""
        return max(0, self.steps * self.accumulate - self.start)

    def __iter__(self) -> Iterator[Batch]:
        """Iterate over the batches."""
        raise NotImplementedError

    def order(self, epoch: int) -> Tensor:
        """Return the indices of the images of every global batch of an epoch, int64[steps, batch_size]."""
        order = torch.randperm(self.n, generator=make_generator(self.seed, "order", epoch))[: self.steps * self.batch_size]
        return order.view(self.steps, self.batch_size)

    def micro_batch(self, values: Tensor, k: int) -> Tensor:
        """Return what this rank's micro-batch number k gets, (micro, ...), of values of a global batch, (batch_size, ...)."""
        return values.view(self.accumulate, self.shard.world_size, self.micro, *values.shape[1:])[k % self.accumulate, self.shard.rank]

    def alphas(self, epoch: int, step: int, *, channels: int, std: float) -> Tensor:
        """Draw the lighting's alpha ~ N(0, std) for each image of a global batch and each component, float64[batch_size, channels].

        A stream beside that of crops and flips, so that lighting switched on leaves those as they are.
        """
        generator = make_generator(self.seed, "augment", epoch, step, 1)
        return std * torch.randn(self.batch_size, channels, dtype=torch.float64, generator=generator)

    def lighting_shift(self, lighting: Lighting | None, epoch: int, k: int) -> Tensor | None:
        """Return what the lighting adds to the channels of this rank's micro-batch number k, float64[micro, C]; None without lighting."""
        if lighting is None:
            return None
        alphas = self.alphas(epoch, k // self.accumulate, channels=lighting.channels, std=lighting.std)
        return lighting.shift(self.micro_batch(alphas, k))
