"""What the test looks at where an image is seen in several views: each image at one or several scales, in batches.

A batch is (scaled, labels int64[b]): for each scale a list of groups (images float32[g, C, H, W], rows int64[g]), the rows saying which
of the batch's images they are; images of one shape make a group. Mirrors and cuts of them are made from these by who scores them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from bakeoff.data.batches import Normalizer, layout
from bakeoff.data.decoding import Decoded, Decoder, Request
from bakeoff.data.epoch_sampler import SINGLE_PROCESS, Shard
from bakeoff.data.file_batches import LabelledFiles, ordered
from bakeoff.errors import check_argument

Kind = Literal["whole", "ten_crop", "dense"]
Group = tuple[Tensor, Tensor]
ViewBatch = tuple[list[list[Group]], Tensor]


@dataclass(frozen=True)
class ViewPlan:
    """How the test looks at an image, see `data.views`: kind, mirrored as well, and shorter sides Q (empty: the kind's own)."""

    kind: Kind = "whole"
    flip: bool = False
    scales: tuple[int, ...] = ()

    @property
    def plain(self) -> bool:
        """One view of each image, as in validation."""
        return self == ViewPlan()

    def check(self, *, size: int, crop: int | None = None) -> None:
        """Check that kind, flip, scales and the size of the images go together.

        Args:
            size: Height and width of the trained images in pixels.
            crop: Zero padding in pixels from which images in memory are cropped; None for image files.

        Raises:
            ArgumentError: They do not.
        """
        ten_crop, scales = self.kind == "ten_crop", list(self.scales)
        fits = self.kind != "whole" or not scales
        check_argument("scales", scales, fits=fits, rule="is for kind=ten_crop or dense; whole takes none")
        rule = "the ten crops of kind=ten_crop hold five mirrored ones already: leave it false"
        check_argument("flip", "true", fits=not (ten_crop and self.flip), rule=rule)
        check_argument("scales", scales, fits=min(scales, default=size) >= size, rule=f"every scale must be at least size={size}")
        suggestion = f"set scales=[{size + size // 8}], to which they are fitted first, or `crop`"
        rule = f"images of size={size} leave no room to cut from: {suggestion}"
        check_argument("kind", self.kind, fits=not ten_crop or bool(scales) or crop != 0, rule=rule)

    def images(self, images: Tensor, *, fit: Callable[..., Tensor], size: int, crop: int) -> list[Tensor]:
        """Of images in memory, uint8[N, C, Q, Q] at each scale; `fit(images, size=Q)` brings them there.

        Without scales: size itself; for ten crops the images that training cuts from, which `crop` zeros surround on each side.
        """
        if self.scales:
            return [fit(images, size=q) for q in self.scales]
        whole = fit(images, size=size)
        if self.kind != "ten_crop":
            return [whole]
        return [functional.pad(whole, (crop,) * 4)]


class ImageViews:
    """One rank's share (every world-th image) of images in memory, in fixed order.

    scaled: for each scale uint8[N, C, Q, Q] of all images; labels: int64[N]; batch_size is that of one device.
    """

    def __init__(
        self, scaled: Sequence[Tensor], labels: Tensor, *, pixels: Normalizer, batch_size: int, shard: Shard = SINGLE_PROCESS
    ) -> None:
        self._scaled = [layout(images[shard.slice], channels_last=pixels.channels_last) for images in scaled]
        self._labels, self._pixels, self.batch_size = labels[shard.slice], pixels, batch_size

    def __len__(self) -> int:
        """Return the number of batches."""
        return math.ceil(len(self._labels) / self.batch_size)

    def __iter__(self) -> Iterator[ViewBatch]:
        """Iterate over the batches."""
        for start in range(0, len(self._labels), self.batch_size):
            part = slice(start, start + self.batch_size)
            labels = self._labels[part].to(self._pixels.device, non_blocking=True)
            rows = torch.arange(len(labels), device=self._pixels.device)
            yield [[(self._pixels(images[part]), rows)] for images in self._scaled], labels


class FileViews:
    """One rank's share (every world-th file) of image files, in fixed order.

    scales: pairs of the shorter side and the side of the square cut from the middle, which is 0 for the whole image.
    """

    def __init__(
        self,
        files: LabelledFiles,
        *,
        decoder: Decoder,
        pixels: Normalizer,
        scales: Sequence[tuple[int, int]],
        batch_size: int,
        shard: Shard = SINGLE_PROCESS,
    ) -> None:
        self._paths, self._labels, self.batch_size = files.paths[shard.slice], files.labels[shard.slice], batch_size
        self._decoder, self._pixels, self._scales = decoder, pixels, scales
        decoder.check_room(batch=batch_size, images=len(self._labels) * len(scales), side=max(side for side, _ in scales))

    def __len__(self) -> int:
        """Return the number of batches."""
        return math.ceil(len(self._labels) / self.batch_size)

    def __iter__(self) -> Iterator[ViewBatch]:
        """Iterate over the batches."""
        starts = range(0, len(self._labels), self.batch_size)
        requests = (
            [Request(path, side, cut) for path in self._paths[start : start + self.batch_size]]
            for start in starts
            for side, cut in self._scales
        )
        answers = self._decoder.read(requests, count=len(starts) * len(self._scales))
        for start in starts:
            scaled = [self._groups(next(answers)) for _ in self._scales]
            yield scaled, self._labels[start : start + self.batch_size].to(self._pixels.device, non_blocking=True)

    def _groups(self, images: Decoded) -> list[Group]:
        if isinstance(images, Tensor):
            return [self._group(images, list(range(len(images))))]
        alike: dict[torch.Size, list[int]] = {}
        for row, image in enumerate(images):
            alike.setdefault(image.shape, []).append(row)
        return [self._group(torch.stack([images[row] for row in rows]), rows) for rows in alike.values()]

    def _group(self, images: Tensor, rows: list[int]) -> Group:
        images = ordered(images.to(self._pixels.device, non_blocking=True), self._pixels)
        return self._pixels(images), torch.tensor(rows, device=self._pixels.device)
