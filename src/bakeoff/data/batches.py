"""The input pipeline: entire batches are cropped, flipped and normalized at once from uint8 images in memory.

Which image comes when, and how it is augmented, is a pure function of (seed, epoch, step), drawn for the global batch and
then divided, so that neither the number of devices, nor accumulation, nor a stop and a resume changes what is trained on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bakeoff.data.epoch_sampler import SINGLE_PROCESS, Batch, BatchPlan, EpochSampler, Shard
from bakeoff.data.pca_lighting import Lighting
from bakeoff.seeds import make_generator


@dataclass(frozen=True)
class Augmentation:
    """How training images are varied at random.

    Attributes:
        crop: Zero padding in pixels on each side before a random crop; for images in memory.
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

    Args:
        channels: C.
        size: S, height and width in pixels.
        mean: Mean of each channel, of pixels scaled to 0..1; None leaves them there.
        std: As `mean`.
        channels_last: Whether images come as [b, S, S, C] and go out as float32[b, C, S, S] in torch's channels_last memory format,
            without a copy; else they come as [b, C, S, S].
        device: Where they go.
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
        means = torch.tensor(mean if mean is not None else [0.0] * channels, dtype=torch.float64)
        stds = torch.tensor(std if std is not None else [1.0] * channels, dtype=torch.float64)
        shape = (channels, size, size) if channels_last else (channels, 1, 1)
        scale, shift = ((v.view(-1, 1, 1).expand(shape)) for v in (1 / (255 * stds), -means / stds))
        if channels_last:  # written out in full: a broadcast over an innermost dimension of 3 is slow
            scale, shift = scale.permute(1, 2, 0), shift.permute(1, 2, 0)
        self.size, self.channels_last, self.device = size, channels_last, torch.device(device)
        self._scale, self._shift = (v.to(self.device, torch.float32).contiguous() for v in (scale, shift))
        self._inverse_std = 1 / stds

    def __call__(self, images: Tensor, *, shift: Tensor | None = None) -> Tensor:
        """Normalize a batch.

        Args:
            images: uint8, in the layout of the class; H = W = size, but for views of an image.
            shift: What is added to each image's channels, float64[b, C], of pixels scaled to 0..1, before they are normalized.

        Returns:
            float32[b, C, H, W] on the device.
        """
        scale, offset = self._scale, self._shift
        if self.channels_last and images.shape[1:] != scale.shape:
            scale, offset = scale[:1, :1], offset[:1, :1]
        x = images.to(self.device, non_blocking=True).to(torch.float32).mul_(scale).add_(offset)
        if shift is not None:
            scaled_shift = (shift * self._inverse_std).to(torch.float32).to(self.device, non_blocking=True)
            x.add_(scaled_shift[:, None, None, :] if self.channels_last else scaled_shift[:, :, None, None])
        return x.permute(0, 3, 1, 2) if self.channels_last else x

    def arrange_nchw(self, images: Tensor) -> Tensor:
        """Return uint8[N, C, H, W] in the layout of the class, contiguous."""
        return images.permute(0, 2, 3, 1).contiguous() if self.channels_last else images.contiguous()

    def normalize_nhwc(self, images: Tensor, *, shift: Tensor | None = None) -> Tensor:
        """Normalize a batch of decoded images, uint8[b, H, W, C]; see `__call__`."""
        images = images.to(self.device, non_blocking=True)
        return self(images if self.channels_last else images.permute(0, 3, 1, 2).contiguous(), shift=shift)


class TrainBatches(EpochSampler):
    """One rank's training micro-batches (float32[m, C, S, S], int64[m]) of one epoch at a time, from images in memory.

    Images uint8[N, C, S, S] and labels int64[N] are on the device where they are to stay; the batches are on that of the normalizer. Of
    the augmentation, crop and flip apply, to each image on its own. The padded images, and a mirrored copy of them, are kept; nothing is
    copied where nothing is augmented.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        normalizer: Normalizer,
        plan: BatchPlan,
        augmentation: Augmentation = NO_AUGMENTATION,
        lighting: Lighting | None = None,
        shard: Shard = SINGLE_PROCESS,
    ) -> None:
        super().__init__(len(images), plan=plan, shard=shard)
        self.size, self.crop, self.flip, self.lighting = images.shape[-1], augmentation.crop, augmentation.flip, lighting
        self._normalizer, self._labels = normalizer, labels
        self._windows = self._crop_windows(images)

    def _crop_windows(self, images: Tensor) -> Tensor:
        """Return a view of every possible crop, uint8[copies * N, 2 crop + 1, 2 crop + 1, ...]; indexing it gathers one an image."""
        side, pad, last = self.size + 2 * self.crop, slice(self.crop, self.crop + self.size), self._normalizer.channels_last
        if self.crop or self.flip:
            total, channels = self.n * (1 + self.flip), images.shape[1]
            shape = (total, side, side, channels) if last else (total, channels, side, side)
            padded = torch.zeros(shape, dtype=torch.uint8, device=images.device)
            inside = (padded.permute(0, 3, 1, 2) if last else padded)[:, :, pad, pad]
            inside[: self.n] = images
            if self.flip:
                inside[self.n :] = images.flip(-1)
        else:
            padded = self._normalizer.arrange_nchw(images)
        if last:
            return padded.unfold(1, self.size, 1).unfold(2, self.size, 1).permute(0, 1, 2, 4, 5, 3)
        return padded.unfold(2, self.size, 1).unfold(3, self.size, 1).permute(0, 2, 3, 1, 4, 5)

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
            shift = self.lighting_shift(self.lighting, self.epoch, k)
            yield self._normalizer(images, shift=shift), self._labels[index].to(self._normalizer.device, non_blocking=True)

    def _draw(self, epoch: int, first: int) -> Tensor:
        """Draw index, mirrored, dy, dx of every image from step `first` on, int64[steps, 4, accumulate, world, micro]."""
        draws = torch.zeros(self.steps - first, 4, self.batch_size, dtype=torch.int64)
        draws[:, 0] = self.order(epoch)[first:]
        if self.crop or self.flip:
            for step in range(first, self.steps):
                generator = make_generator(self.seed, "augment", epoch, step)
                draws[step - first, 1] = torch.randint(0, 2, (self.batch_size,), generator=generator)
                draws[step - first, 2:] = torch.randint(0, 2 * self.crop + 1, (2, self.batch_size), generator=generator)
        return draws.view(-1, 4, self.accumulate, self.shard.world_size, self.micro)


class EvalLoader:
    """One rank's share (every world-th image) in fixed order, each image exactly once overall; the kinds of it say where they come from.

    The labels int64[N] are those of all ranks, `batch_size` is that of one device, and the last batch may be smaller. Ranks may have a
    batch more or less than others, so results are to be summed over ranks at the end, never per batch.
    """

    def __init__(self, labels: Tensor, *, normalizer: Normalizer, batch_size: int, shard: Shard) -> None:
        self._labels, self._normalizer, self.batch_size = labels[shard.slice], normalizer, batch_size

    def __len__(self) -> int:
        """Return the number of batches."""
        return math.ceil(len(self._labels) / self.batch_size)

    def _batch_slices(self) -> list[slice]:
        """Return which of the rank's images make each batch."""
        return [slice(start, start + self.batch_size) for start in range(0, len(self._labels), self.batch_size)]

    def _batch_labels(self, part: slice) -> Tensor:
        """Return the labels of a batch on the device."""
        return self._labels[part].to(self._normalizer.device, non_blocking=True)


class EvalBatches(EvalLoader):
    """Batches (float32[b, C, S, S], int64[b]) of images in memory, uint8[N, C, S, S]; see `EvalLoader`."""

    def __init__(self, images: Tensor, labels: Tensor, *, normalizer: Normalizer, batch_size: int, shard: Shard = SINGLE_PROCESS) -> None:
        super().__init__(labels, normalizer=normalizer, batch_size=batch_size, shard=shard)
        self._images = normalizer.arrange_nchw(images[shard.slice])

    def __iter__(self) -> Iterator[Batch]:
        """Iterate over the batches."""
        for part in self._batch_slices():
            yield self._normalizer(self._images[part]), self._batch_labels(part)
