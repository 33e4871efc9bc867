"""Scores of a test image from several views of it: ten crops, or the net slid densely over it, mirrored, and at several scales."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from bakeoff.config.schema import EvalViews
from bakeoff.data.eval_views import Group


def ten_crops(images: Tensor, *, size: int) -> list[Tensor]:
    """Ten times [b, C, size, size] of images [b, C, H, W]: the four corners and the middle, then the mirror of each.

    The middle lies at ((H - size) // 2, (W - size) // 2). Source: A. Krizhevsky, I. Sutskever, G. Hinton (2012), section 4.1.
    """
    down, right = images.shape[-2] - size, images.shape[-1] - size
    places = ((0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2))
    cuts = [images[..., top : top + size, left : left + size] for top, left in places]
    return [*cuts, *(cut.flip(-1) for cut in cuts)]


class ViewScores:
    """The net's scores of each image, averaged over its views as the two papers do.

    dense: of the class map that the net gives for an image of any size, the scores are averaged over space first (VGG, section 3.2);
    `slide` makes such a net of `net`, on the same weights. Then the views (crops, mirrors, scales) are averaged. probabilities: the
    mean is that of the softmax probabilities (both papers), given as their logarithm, so that the cross entropy of these scores is
    the negative logarithm of the averaged probability; else (losses that know no softmax) it is that of the scores themselves.

    Sources: A. Krizhevsky, I. Sutskever, G. Hinton (2012), section 4.1; K. Simonyan, A. Zisserman, arXiv:1409.1556, section 3.2.
    """

    def __init__(self, net: nn.Module, views: EvalViews, *, size: int, probabilities: bool) -> None:
        self.net, self.views, self.size, self.probabilities = net, views, size, probabilities

    def __call__(self, scaled: list[list[Group]], *, count: int) -> Tensor:
        """[count, classes] of a batch of `count` images, given as bakeoff.data.eval_views does."""
        total: Tensor | None = None
        seen = 0
        for groups in scaled:
            for images, rows in groups:
                for scores in self._each(images):
                    if total is None:
                        start = -math.inf if self.probabilities else 0.0
                        total = scores.new_full((count, scores.shape[1]), start)
                    if self.probabilities:
                        total[rows] = torch.logaddexp(total[rows], scores.log_softmax(1))
                    else:
                        total[rows] += scores
            seen += 10 if self.views.kind == "ten_crop" else 1 + self.views.flip
        assert total is not None, "a batch has an image, and a view of it"
        return total - math.log(seen) if self.probabilities else total / seen

    def _each(self, images: Tensor) -> Iterator[Tensor]:
        """[g, classes] of each view of one group."""
        if self.views.kind == "ten_crop":
            sights = ten_crops(images, size=self.size)
        else:
            sights = [images, images.flip(-1)] if self.views.flip else [images]
        for sight in sights:
            scores: Tensor = self.net(sight)
            scores = scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores
            yield scores.mean((2, 3)) if self.views.kind == "dense" else scores
