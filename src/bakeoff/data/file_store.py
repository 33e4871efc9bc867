"""Image files as a data module needs them: one decoder for training, validation and test, and the moments of the training images."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch

from bakeoff.data.batches import Normalizer
from bakeoff.data.decoding import Decoder, Request
from bakeoff.data.epoch_sampler import SINGLE_PROCESS, Shard
from bakeoff.data.eval_views import FileViews, ViewPlan
from bakeoff.data.file_batches import EvalFiles, LabelledFiles, sides
from bakeoff.data.pca_lighting import ChannelStatistics
from bakeoff.seeds import make_generator

SURVEYED = 2000
"""Training images that mean, deviation and principal colours are measured on: all where there are fewer."""
_tallies: dict[Hashable, ChannelStatistics] = {}


class FileStore:
    """One rank's access to image files.

    scale: the shorter side that training images are resized to, see `sides`; validation takes the middle of the range, as the test
    does without scales of its own (arXiv:1409.1556, section 3.2). eval_batch_size: per device.
    """

    def __init__(self, *, decoder: Decoder, size: int, scale: Sequence[int], eval_batch_size: int, shard: Shard = SINGLE_PROCESS) -> None:
        self.decoder, self.size, self.eval_batch_size, self.shard = decoder, size, eval_batch_size, shard
        self.middle = sum(sides(scale, size=size)) // 2

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

    def evaluation(self, files: LabelledFiles, *, pixels: Normalizer) -> EvalFiles:
        """Each image once, cut from the middle."""
        return EvalFiles(files, decoder=self.decoder, pixels=pixels, side=self.middle, batch_size=self.eval_batch_size, shard=self.shard)

    def views(self, files: LabelledFiles, *, pixels: Normalizer, plan: ViewPlan) -> FileViews:
        """Each image as `plan` says: the size x size middle (whole), the Q x Q middle (ten_crop), or all of it (dense)."""
        scales = [(side, {"whole": self.size, "ten_crop": side, "dense": 0}[plan.kind]) for side in plan.scales or (self.middle,)]
        return FileViews(files, decoder=self.decoder, pixels=pixels, scales=scales, batch_size=self.eval_batch_size, shard=self.shard)
