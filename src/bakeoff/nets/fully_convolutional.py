"""A net with its fully connected layers as convolutions, which maps a larger image to a map of scores."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from bakeoff.errors import ArgumentError
from bakeoff.nets.convnet import ConvNet

__all__ = ["to_fully_convolutional"]


class FullyConvolutional(nn.Module):
    """Maps float images (N, channels, height, width) to scores (N, num_classes, h, w).

    The weights are those of the wrapped net, viewed as kernels at every call, so that the two stay the same.
    """

    def __init__(self, net: ConvNet) -> None:
        """Wrap `net`, which shares its weights."""
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        """Return the scores (N, num_classes, h, w) of images (N, channels, height, width).

        Raises:
            ArgumentError: the images are smaller than `size` of the net.
        """
        maps: Tensor = self.net.features(images)
        kernel = self.net.feature_size
        if min(maps.shape[2:]) < kernel:
            raise ArgumentError(
                f"images of {images.shape[2]}x{images.shape[3]} pixels are too small for the fully convolutional form of a net for "
                f"{self.net.size}x{self.net.size}"
            )
        for layer in self.net.classifier:
            if isinstance(layer, nn.Linear):
                maps = functional.conv2d(maps, layer.weight.reshape(layer.out_features, -1, kernel, kernel), layer.bias)
                kernel = 1
            else:
                maps = layer(maps)
        return maps


def to_fully_convolutional(net: nn.Module) -> nn.Module:
    """Return `net` with its fully connected layers as convolutions (at 224 pixels 7x7 in VGG, 6x6 in AlexNet, then 1x1, 1x1).

    At the net's own size the map has a single position, with the net's scores; averaging a larger map over space is the dense
    evaluation of Simonyan, Zisserman (arXiv:1409.1556), section 3.2. `net` is not changed and shares its weights.

    Raises:
        ArgumentError: `net` is not an AlexNet or VGG, or its adaptive pooling changes the size of its features.
    """
    name = type(net).__name__
    if not isinstance(net, ConvNet):
        raise ArgumentError(f"{name} has no known fully convolutional form; the nets of bakeoff.nets.alexnet and bakeoff.nets.vgg have one")
    before, after = net.conv_feature_size, net.adaptive_pool_size
    if after is not None and before != after:
        raise ArgumentError(
            f"{name} averages features of {before}x{before} to {after}x{after} at size={net.size}; set size={net.native_sizes['imagenet']}"
        )
    return FullyConvolutional(net)
