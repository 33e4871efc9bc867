"""The input pipeline: whole batches are cut, flipped and normalized at once from uint8 images in memory.

Which image comes when, and how it is augmented, is a pure function of (seed, epoch, step), drawn for the whole global batch and
then shared out, so that neither the number of devices, nor accumulation, nor a stop and a resume changes what is trained on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bakeoff.data.epoch_sampler import SINGLE_PROCESS, Batch, BatchPlan, EpochSampler, Shard, micro_batch_size
from bakeoff.data.pca_lighting import Lighting
from bakeoff.seeds import make_generator

__all__ = ["NO_AUGMENTATION", "Augmentation", "Batch", "EvalBatches", "Normalizer", "TrainBatches", "layout", "micro_batch_size"]


@dataclass(frozen=True)
class Augmentation:
    """How training images are varied at random.

    Attributes:
        crop: Zero padding in pixels on each side before a random cut; for images in memory.
        flip: Mirror with probability 1/2.
        scale: Shorter side, or its least and greatest value, to which image files are resized; empty for the default.
        lighting: Standard deviation of PCA lighting; 0 switches it off.
    """

    crop: int = 0
    flip: bool = False
    scale: tuple[int, ...] = ()
    lighting: float = 0.0


NO_AUGMENTATION = Augmentation()


class Normalizer:
    """Turns uint8 images of either memory layout into the net's float32 input on a device.

    mean, std: per channel, of pixels scaled to 0..1; None leaves them at 0..1. channels_last: images come as [b, S, S, C] and go
    out as float32[b, C, S, S] in torch's channels_last memory format, without a copy; else they come as [b, C, S, S].
    """

    def __init__(
        self,
        *,
        channels: int,
        size: int,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        channels_last: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        centre = torch.tensor(mean if mean is not None else [0.0] * channels, dtype=torch.float64)
        spread = torch.tensor(std if std is not None else [1.0] * channels, dtype=torch.float64)
        shape = (channels, size, size) if channels_last else (channels, 1, 1)
        scale, shift = ((v.view(-1, 1, 1).expand(shape)) for v in (1 / (255 * spread), -centre / spread))
        if channels_last:  # written out in full: a broadcast over an innermost dimension of 3 is slow
            scale, shift = scale.permute(1, 2, 0), shift.permute(1, 2, 0)
        self.size, self.channels_last, self.device = size, channels_last, torch.device(device)
        self._scale, self._shift = (v.to(self.device, torch.float32).contiguous() for v in (scale, shift))
        self._unit = 1 / spread

    def __call__(self, images: Tensor, *, shift: Tensor | None = None) -> Tensor:
        """float32[b, C, H, W] on the device; H = W = size, but for views of an image.

        shift: float64[b, C] that is added to each image's channels, of pixels scaled to 0..1, before they are normalized.
        """
        scale, move = self._scale, self._shift
        if self.channels_last and images.shape[1:] != scale.shape:
            scale, move = scale[:1, :1], move[:1, :1]
        x = images.to(self.device, non_blocking=True).to(torch.float32).mul_(scale).add_(move)
        if shift is not None:
            step = (shift * self._unit).to(torch.float32).to(self.device, non_blocking=True)
            x.add_(step[:, None, None, :] if self.channels_last else step[:, :, None, None])
        return x.permute(0, 3, 1, 2) if self.channels_last else x


def layout(images: Tensor, *, channels_last: bool) -> Tensor:
    """uint8[N, C, H, W] in the memory order in which batches are gathered: [N, H, W, C] for channels_last."""
    return images.permute(0, 2, 3, 1).contiguous() if channels_last else images.contiguous()


class TrainBatches(EpochSampler):
    """One rank's training micro-batches (float32[m, C, S, S], int64[m]) of one epoch at a time, from images in memory.

    images: uint8[N, C, S, S] at the trained size; labels: int64[N]; both on the device where they are to live (the batches come
    out on `pixels.device`). augmentation: its crop and flip, decided for each image on its own. The padded images, and a mirrored
    copy of them, are kept; nothing is copied where nothing is augmented. lighting: noise along the principal components of the
    colours. Errors: see EpochSampler.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        pixels: Normalizer,
        plan: BatchPlan,
        augmentation: Augmentation = NO_AUGMENTATION,
        lighting: Lighting | None = None,
        shard: Shard = SINGLE_PROCESS,
    ) -> None:
        super().__init__(len(images), plan=plan, shard=shard)
        self.size, self.crop, self.flip, self.lighting = images.shape[-1], augmentation.crop, augmentation.flip, lighting
        self._pixels, self._labels = pixels, labels
        self._windows = self._cuts(images)

    def _cuts(self, images: Tensor) -> Tensor:
        """uint8[copies * N, 2 crop + 1, 2 crop + 1, ...]: a view of every possible cut; indexing it gathers one an image."""
        side, pad, last = self.size + 2 * self.crop, slice(self.crop, self.crop + self.size), self._pixels.channels_last
        if self.crop or self.flip:
            total, channels = self.n * (1 + self.flip), images.shape[1]
            shape = (total, side, side, channels) if last else (total, channels, side, side)
            kept = torch.zeros(shape, dtype=torch.uint8, device=images.device)
            inside = (kept.permute(0, 3, 1, 2) if last else kept)[:, :, pad, pad]
            inside[: self.n] = images
            if self.flip:
                inside[self.n :] = images.flip(-1)
        else:
            kept = layout(images, channels_last=last)
        if last:
            return kept.unfold(1, self.size, 1).unfold(2, self.size, 1).permute(0, 1, 2, 4, 5, 3)
        return kept.unfold(2, self.size, 1).unfold(3, self.size, 1).permute(0, 2, 3, 1, 4, 5)

    def __iter__(self) -> Iterator[Batch]:
        """Iterate over the batches."""
        # A generator: nothing is read before the first batch is asked for, when Lightning has set the epoch.
        first = self.start // self.accumulate
        draws = self._draw(self.epoch, first).to(self._labels.device)
        for k in range(self.start, self.steps * self.accumulate):
            index, mirrored, dy, dx = draws[k // self.accumulate - first, :, k % self.accumulate, self.shard.rank]
            if self.crop or self.flip:
                images = self._windows[index + self.n * mirrored if self.flip else index, dy, dx]
            else:
                images = self._windows[:, 0, 0].index_select(0, index)
            yield self._pixels(images, shift=self._lit(k)), self._labels[index].to(self._pixels.device, non_blocking=True)

    def _lit(self, k: int) -> Tensor | None:
        """float64[micro, C]: the lighting of micro-batch k of this epoch."""
        if self.lighting is None:
            return None
        alphas = self.alphas(self.epoch, k // self.accumulate, channels=self.lighting.channels, std=self.lighting.std)
        return self.lighting.shift(self.part(alphas, k))

    def _draw(self, epoch: int, first: int) -> Tensor:
        """int64[steps, 4, accumulate, world, micro]: index, mirrored, dy, dx of every image from step `first` on."""
        draws = torch.zeros(self.steps - first, 4, self.batch_size, dtype=torch.int64)
        draws[:, 0] = self.order(epoch)[first:]
        if self.crop or self.flip:
            for step in range(first, self.steps):
                draw = make_generator(self.seed, "augment", epoch, step)
                draws[step - first, 1] = torch.randint(0, 2, (self.batch_size,), generator=draw)
                draws[step - first, 2:] = torch.randint(0, 2 * self.crop + 1, (2, self.batch_size), generator=draw)
        return draws.view(-1, 4, self.accumulate, self.shard.world_size, self.micro)


class EvalBatches:
    """One rank's share (every world-th image) in fixed order: (float32[b, C, S, S], int64[b]), each image exactly once overall.

    images: uint8[N, C, S, S]; labels: int64[N]; batch_size is that of one device, and the last batch may be smaller. Ranks may
    have a batch more or less than others, so results are to be summed over ranks at the end, never per batch.
    """

    def __init__(self, images: Tensor, labels: Tensor, *, pixels: Normalizer, batch_size: int, shard: Shard = SINGLE_PROCESS) -> None:
        self._images = layout(images[shard.slice], channels_last=pixels.channels_last)
        self._labels, self._pixels, self.batch_size = labels[shard.slice], pixels, batch_size

    def __len__(self) -> int:
        """Return the number of batches."""
        return math.ceil(len(self._labels) / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """Iterate over the batches."""
        for start in range(0, len(self._labels), self.batch_size):
            part = slice(start, start + self.batch_size)
            yield self._pixels(self._images[part]), self._labels[part].to(self._pixels.device, non_blocking=True)
