"""The colours of the training images: exact moments per channel, and the principal components that the lighting noise follows."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class ChannelStatistics:
    """Counts of pixels, their sums and products over `channels`, in whole numbers: the same in whatever parts the images come."""

    def __init__(self, channels: int) -> None:
        self.pixels = 0
        self._sums = torch.zeros(channels, dtype=torch.int64)
        self._products = torch.zeros(channels, channels, dtype=torch.int64)

    def add(self, images: Tensor) -> None:
        """Count images uint8[N, C, H, W] in."""
        for start in range(0, len(images), 64):  # in parts: the float64 copies are eight times the bytes
            values = images[start : start + 64].movedim(1, 0).reshape(len(self._sums), -1).to("cpu", torch.float64)
            # float64 holds these sums of whole numbers exactly: 64 images of 1,024 x 1,024 stay below 2**53 by three powers of ten.
            self.pixels += values.shape[1]
            self._sums += values.sum(1).to(torch.int64)
            self._products += (values @ values.T).to(torch.int64)

    @property
    def mean(self) -> tuple[float, ...]:
        """The mean of each channel, of pixels scaled to 0..1."""
        return tuple(int(total) / self.pixels / 255 for total in self._sums)

    @property
    def std(self) -> tuple[float, ...]:
        """The population's standard deviation of each channel, of pixels scaled to 0..1."""
        n, sums = self.pixels, self._sums.tolist()
        return tuple(math.sqrt(n * int(self._products[c, c]) - s * s) / n / 255 for c, s in enumerate(sums))

    @property
    def covariance(self) -> Tensor:
        """The population's covariance of the channels, float64[C, C], of pixels scaled to 0..1."""
        n, sums, products = self.pixels, self._sums.tolist(), self._products.tolist()
        rows = [[(n * products[a][b] - sums[a] * sums[b]) / (n * n) / 255**2 for b in range(len(sums))] for a in range(len(sums))]
        return torch.tensor(rows, dtype=torch.float64)


class Lighting:
    """PCA lighting: to every pixel of an image sum_i alpha_i s_i p_i is added, with alpha_i ~ N(0, std) for each presentation.

    p_i, s_i: principal axes of the training images' pixels and the standard deviations along them: eigenvectors, and square roots of
    the eigenvalues, of the covariance of the channels. The paper says "eigenvalues", which depend on the unit of the pixels and at its
    0..255 would be noise of a thousand grey levels. Its author's code (cuda-convnet2) multiplies by the standard deviations: 122, 37
    and 20 grey levels on ImageNet, in any unit the same noise. Nothing is clipped. Source: A. Krizhevsky, I. Sutskever, G. Hinton,
    ImageNet classification with deep convolutional neural networks (2012), section 4.1. `covariance`: float64[C, C], of pixels in 0..1.
    """

    def __init__(self, covariance: Tensor, *, std: float) -> None:
        values, vectors = torch.linalg.eigh(covariance)
        # An eigenvector's sign is the library's whim: the largest entry is made positive.
        largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
        self.std, self.channels = std, len(values)
        self._steps: Tensor = (vectors * largest.sign() * values.clamp(min=0).sqrt()).T.contiguous()

    def shift(self, alphas: Tensor) -> Tensor:
        """Return what is added to each channel of each image, float64[m, C], of pixels scaled to 0..1, for alphas float64[m, C]."""
        return alphas @ self._steps
