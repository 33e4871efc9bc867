"""Image files as a data module needs them: one decoder for training, validation and test, and the moments of the training images."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from bakeoff.data.batches import Normalizer
from bakeoff.data.decoding import Decoder, Request
from bakeoff.data.eval_views import FileViews, ViewPlan
from bakeoff.data.file_batches import EvalFiles, sides
from bakeoff.data.pca_lighting import ChannelStatistics
from bakeoff.seeds import make_generator

SURVEYED = 2000
"""Training images that mean, deviation and principal colours are measured on: all where there are fewer."""
_tallies: dict[Hashable, ChannelStatistics] = {}


class FileStore:
    """One rank's access to image files.

    scale: the shorter side that training images are resized to, see `sides`; validation takes the middle of the range, as the test
    does without scales of its own (arXiv:1409.1556, section 3.2). channels, workers, pinned: see Decoder. eval_batch_size: per device.
    """

    def __init__(
        self,
        *,
        size: int,
        scale: Sequence[int],
        channels: int,
        workers: int,
        eval_batch_size: int,
        rank: int = 0,
        world: int = 1,
        pinned: bool = False,
    ) -> None:
        self.size, self.side = size, sides(scale, size=size)
        self.middle = sum(self.side) // 2
        self.eval_batch_size, self.rank, self.world = eval_batch_size, rank, world
        self.decoder = Decoder(channels=channels, workers=workers, pinned=pinned)

    def tally(self, paths: Sequence[str], *, key: Hashable, seed: int) -> ChannelStatistics:
        """Moments of (at most SURVEYED of) the training images, cut from the middle as in validation; (seed, "survey") draws which.

        key: says which files these are; what it was measured on once is not decoded again in this process.
        """
        name = (key, seed, self.size, self.middle, self.decoder.channels)
        if name not in _tallies:
            chosen = torch.randperm(len(paths), generator=make_generator(seed, "survey"))[:SURVEYED].tolist()
            tally = ChannelStatistics(self.decoder.channels)
            for image in self.decoder.survey([Request(paths[i], self.middle, self.size) for i in chosen]):
                tally.add(image.unsqueeze(0))
            _tallies[name] = tally
        return _tallies[name]

    def evaluation(self, paths: Sequence[str], labels: Tensor, *, pixels: Normalizer) -> EvalFiles:
        """Each image once, cut from the middle."""
        return EvalFiles(
            paths,
            labels,
            decoder=self.decoder,
            pixels=pixels,
            size=self.size,
            side=self.middle,
            batch_size=self.eval_batch_size,
            rank=self.rank,
            world=self.world,
        )

    def views(self, paths: Sequence[str], labels: Tensor, *, pixels: Normalizer, plan: ViewPlan) -> FileViews:
        """Each image as `plan` says: the size x size middle (whole), the Q x Q middle (ten_crop), or all of it (dense)."""
        return FileViews(
            paths,
            labels,
            decoder=self.decoder,
            pixels=pixels,
            scales=plan.scales or (self.middle,),
            square=plan.kind != "dense",
            cut=self.size if plan.kind == "whole" else None,
            batch_size=self.eval_batch_size,
            rank=self.rank,
            world=self.world,
        )
