"""Image files as a data module needs them: one decoder for training, validation and test, and the colours of the training images."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch

from bakeoff.data.batches import Normalizer
from bakeoff.data.decoding import Decoder, Request
from bakeoff.data.epoch_sampler import SINGLE_PROCESS, Shard
from bakeoff.data.eval_views import FileViews, ViewPlan
from bakeoff.data.file_batches import EvalFiles, LabelledFiles, scale_range
from bakeoff.data.pca_lighting import ChannelStatistics
from bakeoff.seeds import make_generator

MAX_MEASURED_IMAGES = 2000
"""Training images that mean, deviation and principal colours are measured on: all where there are fewer."""
_statistics: dict[Hashable, ChannelStatistics] = {}


class FileStore:
    """One rank's access to image files, cropped to `size` pixels.

    Training images are resized to a shorter side of `scale`, see `scale_range`; validation takes the middle of the range, as the test does
    without scales of its own (arXiv:1409.1556, section 3.2). `eval_batch_size` is that of one device.
    """

    def __init__(self, *, decoder: Decoder, size: int, scale: Sequence[int], eval_batch_size: int, shard: Shard = SINGLE_PROCESS) -> None:
        self.decoder, self.size, self.eval_batch_size, self.shard = decoder, size, eval_batch_size, shard
        self.eval_side = sum(scale_range(scale, size=size)) // 2

    def channel_statistics(self, paths: Sequence[str], *, key: Hashable, seed: int) -> ChannelStatistics:
        """Measure (at most MAX_MEASURED_IMAGES, drawn by `seed`, of) the training images, cropped as in validation.

        `key` says which files these are: what was measured once is not decoded again in this process.
        """
        cache_key = (key, seed, self.size, self.eval_side, self.decoder.channels)
        if cache_key not in _statistics:
            indices = torch.randperm(len(paths), generator=make_generator(seed, "survey"))[:MAX_MEASURED_IMAGES].tolist()
            statistics = ChannelStatistics(self.decoder.channels)
            for image in self.decoder.read_in_threads([Request(paths[i], self.eval_side, self.size) for i in indices]):
                statistics.add(image.unsqueeze(0))
            _statistics[cache_key] = statistics
        return _statistics[cache_key]

    def eval_batches(self, files: LabelledFiles, *, normalizer: Normalizer) -> EvalFiles:
        """Return batches of each image once, cropped from the middle."""
        side, batch_size, shard = self.eval_side, self.eval_batch_size, self.shard
        return EvalFiles(files, decoder=self.decoder, normalizer=normalizer, side=side, batch_size=batch_size, shard=shard)

    def views(self, files: LabelledFiles, *, normalizer: Normalizer, plan: ViewPlan) -> FileViews:
        """Return batches of each image as planned: the size x size middle (whole), the Q x Q middle (ten_crop), or all of it (dense)."""
        scales = [(side, {"whole": self.size, "ten_crop": side, "dense": 0}[plan.kind]) for side in plan.scales or (self.eval_side,)]
        batch_size, shard = self.eval_batch_size, self.shard
        return FileViews(files, decoder=self.decoder, normalizer=normalizer, scales=scales, batch_size=batch_size, shard=shard)
