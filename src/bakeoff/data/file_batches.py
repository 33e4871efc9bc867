"""Batches from image files: workers decode, resize and cut; mirroring, lighting and normalizing are done by whole batches on the device.

Every random decision is a pure function of (seed, epoch, step), drawn for the whole global batch before it is shared out: neither the
number of workers or devices, nor accumulation, nor a stop and a resume changes what is trained on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bakeoff.data.batches import NO_AUGMENTATION, Augmentation, Normalizer
from bakeoff.data.decoding import Decoder, Request
from bakeoff.data.epoch_sampler import SINGLE_PROCESS, Batch, BatchPlan, EpochSampler, Shard
from bakeoff.data.pca_lighting import Lighting
from bakeoff.errors import check_argument
from bakeoff.seeds import make_generator

PAPER = (256, 224)
"""The shorter side that both papers resize to, and the size of their cuts."""


@dataclass(frozen=True)
class LabelledFiles:
    """Image files and their labels int64[N]."""

    paths: Sequence[str]
    labels: Tensor


def sides(scale: Sequence[int], *, size: int) -> tuple[int, int]:
    """(least, greatest) shorter side S of a training image: `data.augment.scale`, or size x 256 / 224 where it is empty.

    One number fixes S, two are a range from which S is drawn for each presentation of an image. Errors: ArgumentError where S could be
    less than the cut. Source: K. Simonyan, A. Zisserman, arXiv:1409.1556, section 3.1.
    """
    low, high = (scale[0], scale[-1]) if scale else (round(size * PAPER[0] / PAPER[1]),) * 2
    rule = f"the shorter side must be at least size={size}, and the first of two numbers the smaller"
    check_argument("scale", list(scale), fits=size <= low <= high, rule=rule)
    return low, high


class FileBatches(EpochSampler):
    """One rank's training micro-batches (float32[m, C, size, size], int64[m]) of one epoch at a time, from image files.

    files: the training split. pixels: its size is that of the cuts. augmentation: its scale (see `sides`) and flip. lighting: noise
    along the principal components of the colours. A resumed epoch decodes nothing of what is skipped. Errors: see EpochSampler,
    Decoder and `sides`.
    """

    def __init__(
        self,
        files: LabelledFiles,
        *,
        decoder: Decoder,
        pixels: Normalizer,
        plan: BatchPlan,
        augmentation: Augmentation = NO_AUGMENTATION,
        lighting: Lighting | None = None,
        shard: Shard = SINGLE_PROCESS,
    ) -> None:
        super().__init__(len(files.paths), plan=plan, shard=shard)
        decoder.check_room(batch=self.micro, images=self.n, side=pixels.size)
        self.size, self.side = pixels.size, sides(augmentation.scale, size=pixels.size)
        self.flip, self.lighting = augmentation.flip, lighting
        self._paths, self._labels, self._decoder, self._pixels = files.paths, files.labels, decoder, pixels

    def __iter__(self) -> Iterator[Batch]:
        """Iterate over the batches."""
        # A generator: nothing is decoded before the first batch is asked for, when Lightning has set the epoch.
        epoch, order, numbers = self.epoch, self.order(self.epoch), range(self.start, self.steps * self.accumulate)
        requests = (self._requests(epoch, self.part(order[k // self.accumulate], k).tolist(), k) for k in numbers)
        for k, images in zip(numbers, self._decoder.read(requests, count=len(numbers)), strict=False):
            assert isinstance(images, Tensor)
            index = self.part(order[k // self.accumulate], k)
            images = images.to(self._pixels.device, non_blocking=True)
            if self.flip:
                mirrored = self.part(self._draw(epoch, k // self.accumulate)[0], k).nonzero().squeeze(1)
                mirrored = mirrored.to(self._pixels.device, non_blocking=True)
                images = images.index_copy(0, mirrored, images.index_select(0, mirrored).flip(2))
            shift = None
            if self.lighting is not None:
                alphas = self.alphas(epoch, k // self.accumulate, channels=self.lighting.channels, std=self.lighting.std)
                shift = self.lighting.shift(self.part(alphas, k))
            yield self._pixels(ordered(images, self._pixels), shift=shift), self._labels[index].to(self._pixels.device, non_blocking=True)

    def _draw(self, epoch: int, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Of the images of one global batch: mirrored int64[B], shorter side int64[B], place of the cut float64[B, 2]."""
        draw = make_generator(self.seed, "augment", epoch, step)
        mirrored = torch.randint(0, 2, (self.batch_size,), generator=draw)
        side = torch.randint(self.side[0], self.side[1] + 1, (self.batch_size,), generator=draw)
        return mirrored, side, torch.rand(self.batch_size, 2, dtype=torch.float64, generator=draw)

    def _requests(self, epoch: int, index: list[int], k: int) -> list[Request]:
        _, side, places = (self.part(drawn, k).tolist() for drawn in self._draw(epoch, k // self.accumulate))
        return [Request(self._paths[i], s, self.size, top, left) for i, s, (top, left) in zip(index, side, places, strict=True)]


class EvalFiles:
    """One rank's share (every world-th file) in fixed order, each file exactly once overall: (float32[b, C, S, S], int64[b]).

    The shorter side is resized to `side` and the square of `pixels.size` in the middle is taken. batch_size is that of one device.
    """

    def __init__(
        self,
        files: LabelledFiles,
        *,
        decoder: Decoder,
        pixels: Normalizer,
        side: int,
        batch_size: int,
        shard: Shard = SINGLE_PROCESS,
    ) -> None:
        self._paths, self._labels, self.batch_size = files.paths[shard.slice], files.labels[shard.slice], batch_size
        decoder.check_room(batch=batch_size, images=len(self._labels), side=pixels.size)
        self._decoder, self._pixels, self.size, self.side = decoder, pixels, pixels.size, side

    def __len__(self) -> int:
        """Return the number of batches."""
        return math.ceil(len(self._labels) / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """Iterate over the batches."""
        starts = range(0, len(self._labels), self.batch_size)
        requests = ([Request(path, self.side, self.size) for path in self._paths[s : s + self.batch_size]] for s in starts)
        for start, images in zip(starts, self._decoder.read(requests, count=len(starts)), strict=False):
            assert isinstance(images, Tensor)
            labels = self._labels[start : start + self.batch_size].to(self._pixels.device, non_blocking=True)
            yield self._pixels(ordered(images.to(self._pixels.device, non_blocking=True), self._pixels)), labels


def ordered(images: Tensor, pixels: Normalizer) -> Tensor:
    """uint8[m, H, W, C] in the memory order that `pixels` takes."""
    return images if pixels.channels_last else images.permute(0, 3, 1, 2).contiguous()
