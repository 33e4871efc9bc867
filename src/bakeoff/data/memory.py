"""Images in memory: resized or padded, measured, and placed on a device."""

from __future__ import annotations

import math
from typing import Literal

import psutil
import torch
from torch import Tensor
from torch.nn import functional

from bakeoff.errors import ArgumentError, DataError, check_argument

Fit = Literal["resize", "pad"]


def fit_images(images: Tensor, *, size: int, fit: Fit) -> Tensor:
    """Resize images (bilinear, antialiased), or pad them with zeros all around.

    Args:
        images: uint8[N, C, H, W].
        size: Height and width in pixels that they get.
        fit: "resize" or "pad".

    Returns:
        uint8[N, C, size, size]; the images themselves where they have the size.

    Raises:
        ArgumentError: Padding has to shrink, or `fit` is neither.
    """
    height, width = images.shape[-2:]
    if (height, width) == (size, size):
        return images
    if fit == "pad":
        if max(height, width) > size:
            raise ArgumentError(f"fit=pad: images of {height}x{width} do not fit into size={size}: use fit=resize")
        top, left = (size - height) // 2, (size - width) // 2
        return functional.pad(images, (left, size - width - left, top, size - height - top))
    check_argument("fit", fit, fits=fit == "resize", rule="must be one of resize, pad")
    out = torch.empty(*images.shape[:2], size, size, dtype=torch.uint8)
    for start in range(0, len(images), 1024):  # in chunks: the float copies are four times the bytes
        chunk = images[start : start + 1024].float()
        out[start : start + 1024] = functional.interpolate(chunk, size=(size, size), mode="bilinear", antialias=True).round().clamp(0, 255)
    return out


def channel_moments(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and population standard deviation of each channel of uint8[N, C, H, W], scaled to 0..1; exact, from whole numbers."""
    values = torch.arange(256, dtype=torch.int64)
    means, stds = [], []
    for channel in range(images.shape[1]):
        counts = torch.bincount(images[:, channel].flatten(), minlength=256)
        n, total, squares = int(counts.sum()), int((counts * values).sum()), int((counts * values * values).sum())
        means.append(total / n / 255)
        stds.append(math.sqrt(n * squares - total * total) / n / 255)
    return tuple(means), tuple(stds)


def choose_placement(device: torch.device, *, need: int) -> torch.device:
    """Return where images of `need` bytes are kept: on the CUDA device where they take at most half of its free memory, else on the CPU.

    Raises:
        DataError: Main memory is too small as well.
    """
    if device.type == "cuda" and need <= torch.cuda.mem_get_info(device)[0] // 2:
        return device
    free = psutil.virtual_memory().available
    if need > free:
        raise DataError(
            f"`size`, `subset`: the images need {need / 2**30:.1f} GiB at this size and {free / 2**30:.1f} GiB of memory are free: "
            "lower one of the two"
        )
    return torch.device("cpu")
