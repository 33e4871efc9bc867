"""Batches from image files: workers decode, resize and crop; entire batches are mirrored, lit and normalized on the device.

Every random decision is a pure function of (seed, epoch, step), drawn for the global batch before it is divided: neither the
number of workers or devices, nor accumulation, nor a stop and a resume changes what is trained on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bakeoff.data.batches import NO_AUGMENTATION, Augmentation, EvalLoader, Normalizer
from bakeoff.data.decoding import Decoder, Request
from bakeoff.data.epoch_sampler import SINGLE_PROCESS, Batch, BatchPlan, EpochSampler, Shard
from bakeoff.data.pca_lighting import Lighting
from bakeoff.errors import check_argument
from bakeoff.seeds import make_generator

PAPER_SIDE, PAPER_CROP = 256, 224
"""The shorter side that both papers resize to, and the side of their crops."""


@dataclass(frozen=True)
class LabelledFiles:
    """Image files and their labels int64[N]."""

    paths: Sequence[str]
    labels: Tensor


def scale_range(scale: Sequence[int], *, size: int) -> tuple[int, int]:
    """Return the least and the greatest shorter side S, in pixels, to which a training image is resized.

    Source: K. Simonyan, A. Zisserman, arXiv:1409.1556, section 3.1.

    Args:
        scale: One number, which fixes S, or a range of two, from which S is drawn for each presentation of an image; empty for
            size x 256 / 224.
        size: Side of the crop.

    Raises:
        ArgumentError: S could be less than the crop.
    """
    low, high = (scale[0], scale[-1]) if scale else (round(size * PAPER_SIDE / PAPER_CROP),) * 2
    rule = f"the shorter side must be at least size={size}, and the first of two numbers the smaller"
    check_argument("scale", list(scale), fits=size <= low <= high, rule=rule)
    return low, high


class FileBatches(EpochSampler):
    """One rank's training micro-batches (float32[m, C, size, size], int64[m]) of one epoch at a time, from image files.

    The crops have the normalizer's size. Of the augmentation, scale (see `scale_range`) and flip apply. A resumed epoch decodes nothing
    of what is skipped.
    """

    def __init__(
        self,
        files: LabelledFiles,
        *,
        decoder: Decoder,
        normalizer: Normalizer,
        plan: BatchPlan,
        augmentation: Augmentation = NO_AUGMENTATION,
        lighting: Lighting | None = None,
        shard: Shard = SINGLE_PROCESS,
    ) -> None:
        super().__init__(len(files.paths), plan=plan, shard=shard)
        decoder.check_shared_memory(batch=self.micro, images=self.n, side=normalizer.size)
        self.size, self.scale = normalizer.size, scale_range(augmentation.scale, size=normalizer.size)
        self.flip, self.lighting = augmentation.flip, lighting
        self._paths, self._labels, self._decoder, self._normalizer = files.paths, files.labels, decoder, normalizer

    def __iter__(self) -> Iterator[Batch]:
        """Iterate over the batches."""
        # A generator: nothing is decoded before the first batch is asked for, when Lightning has set the epoch.
        epoch, order, numbers = self.epoch, self.order(self.epoch), range(self.start, self.steps * self.accumulate)
        requests = (self._requests(epoch, self.micro_batch(order[k // self.accumulate], k).tolist(), k) for k in numbers)
        device = self._normalizer.device
        for k, images in zip(numbers, self._decoder.read(requests, count=len(numbers)), strict=False):
            assert isinstance(images, Tensor)
            index = self.micro_batch(order[k // self.accumulate], k)
            images = images.to(device, non_blocking=True)
            if self.flip:
                mirrored = self.micro_batch(self._draw(epoch, k // self.accumulate)[0], k).nonzero().squeeze(1)
                mirrored = mirrored.to(device, non_blocking=True)
                images = images.index_copy(0, mirrored, images.index_select(0, mirrored).flip(2))
            shift = self.lighting_shift(self.lighting, epoch, k)
            yield self._normalizer.normalize_nhwc(images, shift=shift), self._labels[index].to(device, non_blocking=True)

    def _draw(self, epoch: int, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Draw for a global batch: mirrored int64[B], shorter side int64[B], fraction of the crop's offsets float64[B, 2]."""
        generator = make_generator(self.seed, "augment", epoch, step)
        mirrored = torch.randint(0, 2, (self.batch_size,), generator=generator)
        side = torch.randint(self.scale[0], self.scale[1] + 1, (self.batch_size,), generator=generator)
        return mirrored, side, torch.rand(self.batch_size, 2, dtype=torch.float64, generator=generator)

    def _requests(self, epoch: int, index: list[int], k: int) -> list[Request]:
        _, sides, offsets = (self.micro_batch(values, k).tolist() for values in self._draw(epoch, k // self.accumulate))
        return [Request(self._paths[i], side, self.size, top, left) for i, side, (top, left) in zip(index, sides, offsets, strict=True)]


class EvalFiles(EvalLoader):
    """Batches (float32[b, C, S, S], int64[b]) of image files; see `EvalLoader`.

    The shorter side is resized to `side` pixels, and the square of the normalizer's size S is taken from the middle.
    """

    def __init__(
        self,
        files: LabelledFiles,
        *,
        decoder: Decoder,
        normalizer: Normalizer,
        side: int,
        batch_size: int,
        shard: Shard = SINGLE_PROCESS,
    ) -> None:
        super().__init__(files.labels, normalizer=normalizer, batch_size=batch_size, shard=shard)
        decoder.check_shared_memory(batch=batch_size, images=len(self._labels), side=normalizer.size)
        self._paths, self._decoder, self.size, self.side = files.paths[shard.slice], decoder, normalizer.size, side

    def __iter__(self) -> Iterator[Batch]:
        """Iterate over the batches."""
        parts = self._batch_slices()
        requests = ([Request(path, self.side, self.size) for path in self._paths[part]] for part in parts)
        for part, images in zip(parts, self._decoder.read(requests, count=len(parts)), strict=False):
            assert isinstance(images, Tensor)
            yield self._normalizer.normalize_nhwc(images), self._batch_labels(part)
