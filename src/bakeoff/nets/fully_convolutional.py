"""The dense form of a net: its fully connected layers as convolutions, so that a larger picture gives a map of scores."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from bakeoff.errors import ChoiceError
from bakeoff.nets.convnet import ConvNet

__all__ = ["to_fully_convolutional"]


class Dense(nn.Module):
    """Maps float [batch, channels, height, width] to scores [batch, num_classes, h, w]: one cell for each place of the first layer.

    The weights are the net's own, looked at as kernels at every call, so that training or moving either moves both.
    """

    def __init__(self, net: ConvNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        """Scores [batch, num_classes, h, w]; ChoiceError where the pictures are smaller than the net's own."""
        maps: Tensor = self.net.features(images)
        kernel = self.net.side
        if min(maps.shape[2:]) < kernel:
            raise ChoiceError(
                f"data.views.scales: pictures of {images.shape[2]}x{images.shape[3]} pixels are too small for the dense form of a net "
                f"for {self.net.size}x{self.net.size}"
            )
        for layer in self.net.classifier:
            if isinstance(layer, nn.Linear):
                maps = functional.conv2d(maps, layer.weight.reshape(layer.out_features, -1, kernel, kernel), layer.bias)
                kernel = 1
            else:
                maps = layer(maps)
        return maps


def to_fully_convolutional(net: nn.Module) -> nn.Module:
    """`net` with its fully connected layers turned into convolutions (at 224 pixels 7x7 in VGG, 6x6 in AlexNet, then 1x1, 1x1).

    At the size it was made for, it gives the net's scores in one cell; averaging a larger map over space is the dense evaluation of
    Simonyan, Zisserman (arXiv:1409.1556), section 3.2. Weights are shared with `net`, which stays as it is.
    Errors: ChoiceError where `net` is none of AlexNet's and VGG's, or averages its features to another size than they come in.
    """
    if not isinstance(net, ConvNet):
        raise ChoiceError(
            f"data.views.kind=dense: {type(net).__name__} has no fully connected layers known to act on a picture of features; "
            "the nets of bakeoff.nets.alexnet and bakeoff.nets.vgg have"
        )
    if net.squeeze is not None and net.arriving != net.squeeze:
        raise ChoiceError(
            f"data.views.kind=dense: {type(net).__name__} averages features of {net.arriving}x{net.arriving} to "
            f"{net.squeeze}x{net.squeeze} at data.size={net.size}; set data.size={net.native['imagenet']}"
        )
    return Dense(net)
