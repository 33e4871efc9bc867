"""VGG: configurations A, A-LRN, B, C, D and E, plain or with batch norm, for small images or in the paper's 224-pixel form."""

from __future__ import annotations

from typing import ClassVar

from bakeoff.nets.convnet import ConvNet
from bakeoff.nets.net_spec import ConvSpec, DropoutPlace, Lrn, Pool

# The choices, which a config names as a target; in lower case as torchvision names these nets, and recorded with every result.
__all__ = ["vgg11", "vgg11_lrn", "vgg13", "vgg16", "vgg16_c", "vgg19"]

CHANNELS = (64, 128, 256, 512, 512)


class VGG(ConvNet):
    """Stages of convolutions, each stage ended by a 2x2/2 max pooling, and a head of fully connected layers.

    Simonyan, Zisserman, "Very deep convolutional networks for large-scale image recognition" (arXiv:1409.1556), table 1. Convolutions
    are 3x3 with padding 1 (1x1 without padding in C), of 64, 128, 256, 512 and 512 channels by stage.

    `head="small"`: the layers of `hidden` (such as [512, 512]; none by default), then the scores, on size // 32 pixels a side.
    `head="imagenet"`: 4096-4096-C; at 224 pixels and 1000 classes the counts of the paper, and torchvision's. There is no adaptive
    pooling: another `size` changes the first fully connected layer.

    Dropout acts on the outputs of the hidden layers, as in the paper; without hidden layers, on the input of the scores.
    `pool="overlapping"` pads by 1, so that five poolings leave a small image as large as the paper's do.
    """

    hidden_units: ClassVar[dict[str, tuple[int, ...]]] = {"small": (), "imagenet": (4096, 4096)}
    default_pool: ClassVar[Pool] = "max"
    pool_padding: ClassVar = 1
    dropout_place: ClassVar[DropoutPlace] = "outputs"
    stages: ClassVar[tuple[tuple[int, ...], ...]]
    """Kernel sizes of the convolutions of each stage: a column of the paper's table 1."""

    @classmethod
    def convolutions(cls, head: str) -> tuple[ConvSpec, ...]:
        """Return the column, the same for both heads; local response normalization may follow the first convolution."""
        return tuple(
            ConvSpec(channels=channels, kernel=kernel, padding=kernel // 2, lrn=stage == place == 0, pool=place == len(kernels) - 1)
            for stage, (channels, kernels) in enumerate(zip(CHANNELS, cls.stages, strict=True))
            for place, kernel in enumerate(kernels)
        )

    @classmethod
    def published_variant(cls) -> type[ConvNet]:
        """Return this class: the same column, with the imagenet head."""
        return cls


class vgg11(VGG):
    """Configuration A: eight convolutions (132,863,336 parameters at 224 pixels and 1000 classes); see `VGG` and `ConvNet`."""

    stages: ClassVar = ((3,), (3,), (3, 3), (3, 3), (3, 3))


class vgg11_lrn(vgg11):
    """Configuration A-LRN: A with local response normalization after conv1, with AlexNet's settings; see `VGG` and `ConvNet`."""

    default_lrn: ClassVar[Lrn] = "paper"


class vgg13(VGG):
    """Configuration B: ten convolutions (133,047,848 parameters at 224 pixels and 1000 classes); see `VGG` and `ConvNet`."""

    stages: ClassVar = ((3, 3), (3, 3), (3, 3), (3, 3), (3, 3))


class vgg16_c(VGG):
    """Configuration C: B with another 1x1 convolution in each of the last three stages (133,638,952 parameters); see `VGG`, `ConvNet`."""

    stages: ClassVar = ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1))


class vgg16(VGG):
    """Configuration D: thirteen convolutions (138,357,544 parameters at 224 pixels and 1000 classes); see `VGG` and `ConvNet`."""

    stages: ClassVar = ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3))


class vgg19(VGG):
    """Configuration E: sixteen convolutions (143,667,240 parameters at 224 pixels and 1000 classes); see `VGG` and `ConvNet`."""

    stages: ClassVar = ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3))
