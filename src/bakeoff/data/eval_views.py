"""Batches of a test that scores several views of an image: each image at one or several scales.

A batch is (scaled, labels int64[b]): for each scale a list of groups (images float32[g, C, H, W], rows int64[g]), the rows saying which
of the batch's images they are; images of one shape make a group. Mirror images and crops are left to the code that scores them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from bakeoff.data.batches import EvalLoader, Normalizer
from bakeoff.data.decoding import Decoded, Decoder, Request
from bakeoff.data.epoch_sampler import SINGLE_PROCESS, Shard
from bakeoff.data.file_batches import LabelledFiles
from bakeoff.errors import check_argument

Kind = Literal["whole", "ten_crop", "dense"]
Group = tuple[Tensor, Tensor]
ViewBatch = tuple[list[list[Group]], Tensor]


@dataclass(frozen=True)
class ViewPlan:
    """How the test looks at an image.

    Attributes:
        kind: The whole image, ten crops of it, or the net applied densely.
        flip: Whether each view is scored mirrored as well.
        scales: Shorter sides Q in pixels; empty for the kind's own.
    """

    kind: Kind = "whole"
    flip: bool = False
    scales: tuple[int, ...] = ()

    @property
    def plain(self) -> bool:
        """Whether there is one view of each image, as in validation."""
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
        rule = f"images of size={size} leave no room to crop from: {suggestion}"
        check_argument("kind", self.kind, fits=not ten_crop or bool(scales) or crop != 0, rule=rule)

    def images(self, images: Tensor, *, fit: Callable[..., Tensor], size: int, crop: int) -> list[Tensor]:
        """Return images in memory, uint8[N, C, H, W], at each scale, uint8[N, C, Q, Q]; `fit(images, size=Q)` resizes or pads them.

        Without scales: at `size`; for ten crops with `crop` zeros on each side, which is what training crops from.
        """
        if self.scales:
            return [fit(images, size=q) for q in self.scales]
        fitted = fit(images, size=size)
        return [functional.pad(fitted, (crop,) * 4) if self.kind == "ten_crop" else fitted]


class ImageViews(EvalLoader):
    """Batches of views of images in memory; see `EvalLoader`. `scaled` holds all images at each scale, uint8[N, C, Q, Q]."""

    def __init__(
        self, scaled: Sequence[Tensor], labels: Tensor, *, normalizer: Normalizer, batch_size: int, shard: Shard = SINGLE_PROCESS
    ) -> None:
        super().__init__(labels, normalizer=normalizer, batch_size=batch_size, shard=shard)
        self._scaled = [normalizer.arrange_nchw(images[shard.slice]) for images in scaled]

    def __iter__(self) -> Iterator[ViewBatch]:
        """Iterate over the batches."""
        for part in self._batch_slices():
            labels = self._batch_labels(part)
            rows = torch.arange(len(labels), device=self._normalizer.device)
            yield [[(self._normalizer(images[part]), rows)] for images in self._scaled], labels


class FileViews(EvalLoader):
    """Batches of views of image files; see `EvalLoader`.

    `scales` are pairs of the shorter side and the side of the square cropped from the middle, in pixels, which is 0 for the whole image.
    """

    def __init__(
        self,
        files: LabelledFiles,
        *,
        decoder: Decoder,
        normalizer: Normalizer,
        scales: Sequence[tuple[int, int]],
        batch_size: int,
        shard: Shard = SINGLE_PROCESS,
    ) -> None:
        super().__init__(files.labels, normalizer=normalizer, batch_size=batch_size, shard=shard)
        self._paths, self._decoder, self._scales = files.paths[shard.slice], decoder, scales
        decoder.check_shared_memory(batch=batch_size, images=len(self._labels) * len(scales), side=max(side for side, _ in scales))

    def __iter__(self) -> Iterator[ViewBatch]:
        """Iterate over the batches."""
        parts = self._batch_slices()
        requests = ([Request(path, side, crop) for path in self._paths[part]] for part in parts for side, crop in self._scales)
        decoded = self._decoder.read(requests, count=len(parts) * len(self._scales))
        for part in parts:
            yield [self._groups(next(decoded)) for _ in self._scales], self._batch_labels(part)

    def _groups(self, images: Decoded) -> list[Group]:
        if isinstance(images, Tensor):
            return [self._group(images, list(range(len(images))))]
        rows_by_shape: dict[torch.Size, list[int]] = {}
        for row, image in enumerate(images):
            rows_by_shape.setdefault(image.shape, []).append(row)
        return [self._group(torch.stack([images[row] for row in rows]), rows) for rows in rows_by_shape.values()]

    def _group(self, images: Tensor, rows: list[int]) -> Group:
        return self._normalizer.normalize_nhwc(images), torch.tensor(rows, device=self._normalizer.device)
