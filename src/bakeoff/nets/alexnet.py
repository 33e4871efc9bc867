"""AlexNet: the paper of 2012, Caffe's widely replicated version, the net of torchvision, and a form for small images."""

from __future__ import annotations

from typing import ClassVar

from bakeoff.nets.convnet import ConvNet
from bakeoff.nets.net_spec import ConvSpec, DropoutPlace, Lrn, Pool

# The choices, which a config names as a target; in lower case as torchvision names these nets, and recorded with every result.
__all__ = ["alexnet", "alexnet_2012", "alexnet_caffe", "alexnet_owt"]


class AlexNet(ConvNet):
    """Five convolutions, three overlapping 3x3/2 max poolings, two hidden fully connected layers and the scores.

    `head="small"`, shapes at 3x32x32 and width 1 (all convolutions have stride 1 and keep the size):

        conv1 5x5, pad 2     64 x 32 x 32    pool 3x3/2    64 x 15 x 15
        conv2 5x5, pad 2    192 x 15 x 15    pool 3x3/2   192 x  7 x  7
        conv3 3x3, pad 1    384 x  7 x  7
        conv4 3x3, pad 1    256 x  7 x  7
        conv5 3x3, pad 1    256 x  7 x  7    pool 3x3/2   256 x  3 x  3
        dropout, fc 2304 -> 1024; dropout, fc 1024 -> 1024; fc 1024 -> num_classes

    `head="imagenet"`, shapes at 3x224x224:

        conv1 11x11/4, pad 2     64 x 55 x 55    pool 3x3/2    64 x 27 x 27
        conv2 5x5, pad 2        192 x 27 x 27    pool 3x3/2   192 x 13 x 13
        conv3, conv4, conv5 as above, on 13 x 13; pool 3x3/2  256 x  6 x  6
        dropout, fc 9216 -> 4096; dropout, fc 4096 -> 4096; fc 4096 -> num_classes
    """

    hidden_units: ClassVar = {"small": (1024, 1024), "imagenet": (4096, 4096)}
    default_pool: ClassVar[Pool] = "overlapping"
    pool_padding: ClassVar = 0
    dropout_place: ClassVar[DropoutPlace] = "inputs"
    channels: ClassVar[tuple[int, ...]] = (64, 192, 384, 256, 256)
    groups: ClassVar[tuple[int, ...]] = (1, 1, 1, 1, 1)
    padding: ClassVar[int] = 2

    @classmethod
    def convolutions(cls, head: str) -> tuple[ConvSpec, ...]:
        """Return the convolutions; variants differ in channels, groups and the padding of the 11x11 kernel."""
        c1, c2, c3, c4, c5 = cls.channels
        g1, g2, g3, g4, g5 = cls.groups
        kernel, stride, padding = (5, 1, 2) if head == "small" else (11, 4, cls.padding)
        return (
            ConvSpec(channels=c1, kernel=kernel, stride=stride, padding=padding, groups=g1, lrn=True, pool=True),
            ConvSpec(channels=c2, kernel=5, padding=2, groups=g2, lrn=True, pool=True),
            ConvSpec(channels=c3, groups=g3),
            ConvSpec(channels=c4, groups=g4),
            ConvSpec(channels=c5, groups=g5, pool=True),
        )

    @classmethod
    def published_variant(cls) -> type[ConvNet]:
        """Return the net of 2012."""
        return alexnet_2012


class alexnet(AlexNet):
    """The form for small images, the default in sweeps; see `AlexNet` for its layers and `ConvNet` for its arguments.

    Differences from the paper of 2012 (Krizhevsky, Sutskever, Hinton, "ImageNet classification with deep convolutional neural
    networks"): 32-pixel images with a first convolution of 5x5/1 and hidden layers of 1024 (`head="small"`); the channels of the
    "one weird trick" net (`alexnet_owt`), no groups, no local response normalization, dropout at the inputs of the hidden layers.
    `head="imagenet"` is `alexnet_owt` without its adaptive pooling: another `size` changes the first fully connected layer instead of
    the map of features.
    """


class alexnet_2012(AlexNet):
    """The paper: Krizhevsky, Sutskever, Hinton, "ImageNet classification with deep convolutional neural networks" (NIPS 2012).

    At `head="imagenet"`, `size=227` and 1000 classes, 60,965,224 parameters:

        conv1 11x11/4, pad 0     96 x 55 x 55    LRN, pool 3x3/2    96 x 27 x 27
        conv2 5x5, 2 groups     256 x 27 x 27    LRN, pool 3x3/2   256 x 13 x 13
        conv3 3x3               384 x 13 x 13
        conv4 3x3, 2 groups     384 x 13 x 13
        conv5 3x3, 2 groups     256 x 13 x 13    pool 3x3/2        256 x  6 x  6
        fc 9216 -> 4096, dropout; fc 4096 -> 4096, dropout; fc 4096 -> num_classes

    The groups are the paper's two GPUs: conv3 and the fully connected layers see both halves. Local response normalization follows
    the activations of conv1 and conv2 with k 2, n 5, alpha 1e-4, beta 0.75. Dropout acts on the outputs of the hidden layers.

    Differences from the paper: the crop is 227 pixels, since 55 = (227 - 11) / 4 + 1 holds and the paper's 224 does not divide; the
    two halves are groups of one convolution, so that the normalization of conv1 and conv2 also sums over neighbours across the seam
    between them; dropout scales by 1 / (1 - p) in training instead of by 1 - p in the test. The paper's initialization (std 0.01, biases of
    1) is the initializer `alexnet_paper`, its update the optimizer `momentum_caffe`.
    `head="small"` keeps the paper's channels, groups, normalization and dropout on 32 pixels, with conv1 5x5/1 and hidden layers of 1024.
    """

    native_sizes: ClassVar = {"small": 32, "imagenet": 227}
    default_lrn: ClassVar[Lrn] = "paper"
    dropout_place: ClassVar[DropoutPlace] = "outputs"
    channels: ClassVar = (96, 256, 384, 384, 256)
    groups: ClassVar = (1, 2, 1, 2, 2)
    padding: ClassVar = 0


class alexnet_caffe(alexnet_2012):
    """The widely replicated version of BVLC Caffe, `bvlc_alexnet`, with the layers, order and shapes of `alexnet_2012`.

    Differences from the paper: the k of local response normalization is 1, and its alpha 2e-5, since Caffe divides the 1e-4 of its
    settings by n = 5. Differences in the initialization belong to an initializer: biases of 0.1 instead of 1 in conv2, conv4, conv5
    and the hidden layers, and a std of 0.005 instead of 0.01 in the hidden layers. Normalization precedes the pooling, as in the
    paper (in `bvlc_reference_caffenet` it follows the pooling).
    """

    default_lrn: ClassVar[Lrn] = "caffe"


class alexnet_owt(AlexNet):
    """The single-column net of 2014 with the geometry of torchvision, whose weights can be loaded.

    Krizhevsky, "One weird trick for parallelizing convolutional neural networks" (arXiv:1404.5997); 61,100,840 parameters with 1000
    classes at `head="imagenet"`.

    Differences from the paper of 2012: 224 pixels with conv1 padded by 2; channels 64-192-384-256-256; no groups; no local response
    normalization; dropout at the inputs of the hidden layers; features averaged to 6x6 (at 224 they already are 6x6), so that the fully
    connected layers are the same at any `size`. In a footnote of the paper of 2014 conv4 has 384 channels; its author's settings for
    one GPU (cuda-convnet2), which torchvision follows, have 256.
    `head="small"` is `alexnet`.
    """

    adaptive_pool_sizes: ClassVar = {"imagenet": 6}
