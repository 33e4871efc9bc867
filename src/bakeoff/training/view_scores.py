"""The scores of a test image from several views of it: ten crops, or the net slid densely over it, mirrored, and at several scales."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from bakeoff.components.losses import Focal
from bakeoff.config.schema import EvalViews, RunConfig
from bakeoff.data.eval_views import Group
from bakeoff.nets.fully_convolutional import to_fully_convolutional


def ten_crops(images: Tensor, *, size: int) -> list[Tensor]:
    """Return the four corners and the center of images, then the mirror image of each.

    The center crop lies at ((H - size) // 2, (W - size) // 2). Source: A. Krizhevsky, I. Sutskever, G. Hinton (2012), section 4.1.

    Args:
        images: (N, C, H, W).
        size: The side of a crop.

    Returns:
        Ten tensors (N, C, size, size).
    """
    down, right = images.shape[-2] - size, images.shape[-1] - size
    offsets = ((0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2))
    crops = [images[..., top : top + size, left : left + size] for top, left in offsets]
    return [*crops, *(crop.flip(-1) for crop in crops)]


class ViewScores:
    """Averages a net's scores of each image over its views, as the papers of AlexNet and VGG do.

    Of the class map that a dense net gives for an image of any size, the scores are averaged over space first (VGG, section 3.2); then the
    views (crops, mirror images, scales) are averaged.

    Sources: A. Krizhevsky, I. Sutskever, G. Hinton (2012), section 4.1; K. Simonyan, A. Zisserman, arXiv:1409.1556, section 3.2.
    """

    def __init__(self, net: nn.Module, views: EvalViews, *, size: int, probabilities: bool) -> None:
        """Prepare the views.

        Args:
            net: The net; for dense views one that gives class maps (N, classes, h, w).
            views: The kind of the views, and whether mirror images are among them.
            size: The side of a crop.
            probabilities: Average softmax probabilities and return their logarithm, so that the cross entropy of the result is the negative
                logarithm of the averaged probability (both papers). False averages the scores themselves, for losses without softmax.
        """
        self.net, self.views, self.size, self.probabilities = net, views, size, probabilities

    def __call__(self, scaled: list[list[Group]], *, count: int) -> Tensor:
        """Return the averaged scores of a batch.

        Args:
            scaled: For each scale the images, in groups of one shape, with the rows of the batch that they are.
            count: The images of the batch.

        Returns:
            (count, classes).
        """
        total: Tensor | None = None
        n_views = 0
        for groups in scaled:
            for images, rows in groups:
                for scores in self._scores_of_views(images):
                    if total is None:
                        total = scores.new_full((count, scores.shape[1]), -math.inf if self.probabilities else 0.0)
                    if self.probabilities:
                        total[rows] = torch.logaddexp(total[rows], scores.log_softmax(1))
                    else:
                        total[rows] += scores
            n_views += 10 if self.views.kind == "ten_crop" else 1 + self.views.flip
        assert total is not None, "a batch has an image, and a view of it"
        return total - math.log(n_views) if self.probabilities else total / n_views

    def _scores_of_views(self, images: Tensor) -> Iterator[Tensor]:
        """Yield the scores (n, classes) of each view of one group of images (n, C, H, W)."""
        if self.views.kind == "ten_crop":
            views = ten_crops(images, size=self.size)
        else:
            views = [images, images.flip(-1)] if self.views.flip else [images]
        for view in views:
            scores: Tensor = self.net(view)
            scores = scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores
            yield scores.mean((2, 3)) if self.views.kind == "dense" else scores


def make_view_scores(run: RunConfig, net: nn.Module, loss: nn.Module) -> ViewScores | None:
    """Return the average over the views that the test of a run takes of each image; None where it looks at each image once."""
    views = run.data.views
    if views == EvalViews():
        return None
    net = to_fully_convolutional(net) if views.kind == "dense" else net
    return ViewScores(net, views, size=run.data.size, probabilities=isinstance(loss, nn.CrossEntropyLoss | Focal))
