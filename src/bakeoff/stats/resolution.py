"""How small a difference of two accuracies a test set can show at all."""

from __future__ import annotations

import math

DISAGREEMENT = 0.05
"""Share of the test images on which two nets are taken to disagree, where nothing is measured yet."""


def images_resolution(images: int, disagreement: float = DISAGREEMENT) -> float:
    """Return the half-width of the 95 % interval that the choice of test images alone leaves for a difference of two nets' accuracies.

    Of n images, a share q is classified correctly by one of the two nets only. Where both are equally often the one, an image's
    difference has mean 0 and variance q, and the mean over the images a standard error of sqrt(q / n) (McNemar 1947).

    Args:
        images: Number of test images, n.
        disagreement: The share q.

    Returns:
        1.96 sqrt(q / n), as a share of the images.
    """
    return 1.96 * math.sqrt(disagreement / images)
