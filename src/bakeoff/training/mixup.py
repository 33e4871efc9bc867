"""mixup and cutmix of a batch on its device, as torchvision has them."""

from __future__ import annotations

import torch
from torch import Tensor

from bakeoff.config.schema import AugmentConfig, RunConfig


class Mixing:
    """Mixes every image of a micro-batch with the one before it; where both kinds are on, one of them is drawn for each batch.

    One share a micro-batch is drawn from Beta(alpha, alpha) by torch's global generator, which is seeded for every step. Partners come
    from the same micro-batch of the same device: unlike crops and flips, mixing depends on how a batch is divided.
    Sources: Zhang et al., mixup (arXiv:1710.09412); Yun et al., CutMix (arXiv:1905.04899).
    """

    def __init__(self, augment: AugmentConfig, *, classes: int, channels_last: bool) -> None:
        """Prepare the kinds of mixing that are on.

        Args:
            augment: The alphas of mixup and cutmix; 0 is off.
            classes: The number of classes.
            channels_last: The memory layout of the mixed images.
        """
        from torchvision.transforms import v2  # which most runs can do without

        kinds = ((v2.MixUp, augment.mixup), (v2.CutMix, augment.cutmix))
        self.kinds = [kind(alpha=alpha, num_classes=classes) for kind, alpha in kinds if alpha > 0]
        self.layout = torch.channels_last if channels_last else torch.contiguous_format

    def __call__(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mixed batch.

        Args:
            images: (N, C, H, W).
            targets: Classes (N,).

        Returns:
            The mixed images, and the share of each class (N, classes) in the images' dtype.
        """
        kind = self.kinds[int(torch.randint(len(self.kinds), ()))] if len(self.kinds) > 1 else self.kinds[0]
        mixed, soft = kind(images, targets)
        return mixed.contiguous(memory_format=self.layout), soft.to(images.dtype)


def make_mixing(run: RunConfig) -> Mixing | None:
    """Return the mixing that a run asks for; None where it mixes nothing."""
    augment = run.data.augment
    if not (augment.mixup or augment.cutmix):
        return None
    return Mixing(augment, classes=run.data.num_classes, channels_last=run.trainer.channels_last)
