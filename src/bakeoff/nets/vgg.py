"""VGG with 11, 13, 16 or 19 layers, plain or with batch norm, for small images or in the paper's 224-pixel form."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from bakeoff.errors import ChoiceError
from bakeoff.nets.fit import Activation, Head, check_shape, check_size, scaled

# The names that a config may use as a target.
__all__ = ["vgg11", "vgg13", "vgg16", "vgg19"]

CHANNELS = (64, 128, 256, 512, 512)
# Convolutions in each of the five stages: columns A, B, D and E of table 1 of the paper.
STAGES = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


class VGG(nn.Module):
    """Stages of 3x3 convolutions, each stage ended by a 2x2/2 max pooling, and a head of fully connected layers.

    Maps float [batch, in_channels, size, size] to scores [batch, num_classes]. Each convolution (pad 1, with a bias) is followed by
    a batch norm where `batch_norm` says so, and by `activation()`. Five poolings leave size // 32 pixels a side.

    `head="small"`: the layers of `hidden` (such as [512, 512]; none by default), each with `activation()`, then the scores.
    `head="imagenet"`: 4096-4096-C; at 224 pixels and 1000 classes the counts of the paper: Simonyan, Zisserman, "Very deep
    convolutional networks for large-scale image recognition" (arXiv:1409.1556), and torchvision's. There is no adaptive pooling:
    another `size` changes the first fully connected layer.

    Dropout acts at the input of every fully connected layer but the first, as in the paper; where there is only one, at its input.
    `width` scales the channels and the hidden layers. Weights are as torch leaves them: initializing is a choice of its own.
    Errors: ChoiceError where the picture is too small or an argument is out of its range.
    """

    def __init__(
        self,
        *,
        depth: int,
        num_classes: int,
        in_channels: int,
        activation: Activation,
        head: Head,
        width: float,
        dropout: float,
        batch_norm: bool,
        hidden: Sequence[int],
        size: int,
    ) -> None:
        super().__init__()
        name = f"vgg{depth}"
        check_shape(name, num_classes=num_classes, in_channels=in_channels, width=width, dropout=dropout, head=head)
        check_size(name, size=size, least=32, head=head)
        if any(units < 1 for units in hidden):
            raise ChoiceError(f"model.hidden={list(hidden)}: every hidden layer needs at least 1 unit")
        if head == "imagenet" and hidden:
            raise ChoiceError(f"model.hidden={list(hidden)}: the hidden layers of model.head=imagenet are 4096, 4096; leave it at []")
        layers: list[nn.Module] = []
        before = in_channels
        for channels, convolutions in zip(CHANNELS, STAGES[depth], strict=True):
            after = scaled(channels, width=width)
            for _ in range(convolutions):
                layers.append(nn.Conv2d(before, after, 3, padding=1))
                if batch_norm:
                    layers.append(nn.BatchNorm2d(after))
                layers.append(activation())
                before = after
            layers.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*layers)
        before *= (size // 32) ** 2
        layers = []
        for units in (4096, 4096) if head == "imagenet" else hidden:
            after = scaled(units, width=width)
            layers += [nn.Linear(before, after), activation(), nn.Dropout(dropout)]
            before = after
        if not layers:
            layers.append(nn.Dropout(dropout))
        self.classifier = nn.Sequential(*layers, nn.Linear(before, num_classes))

    def forward(self, images: Tensor) -> Tensor:
        """Scores [batch, num_classes] of float images [batch, in_channels, size, size]."""
        scores: Tensor = self.classifier(self.features(images).flatten(1))
        return scores


def vgg11(
    *,
    num_classes: int,
    in_channels: int,
    activation: Activation,
    head: Head = "small",
    width: float = 1.0,
    dropout: float = 0.5,
    batch_norm: bool = False,
    hidden: Sequence[int] = (),
    size: int = 32,
) -> VGG:
    """VGG-11, configuration A of the paper: eight convolutions; see the class for its layers, sources and errors."""
    return VGG(
        depth=11,
        num_classes=num_classes,
        in_channels=in_channels,
        activation=activation,
        head=head,
        width=width,
        dropout=dropout,
        batch_norm=batch_norm,
        hidden=hidden,
        size=size,
    )


def vgg13(
    *,
    num_classes: int,
    in_channels: int,
    activation: Activation,
    head: Head = "small",
    width: float = 1.0,
    dropout: float = 0.5,
    batch_norm: bool = False,
    hidden: Sequence[int] = (),
    size: int = 32,
) -> VGG:
    """VGG-13, configuration B of the paper: ten convolutions; see the class for its layers, sources and errors."""
    return VGG(
        depth=13,
        num_classes=num_classes,
        in_channels=in_channels,
        activation=activation,
        head=head,
        width=width,
        dropout=dropout,
        batch_norm=batch_norm,
        hidden=hidden,
        size=size,
    )


def vgg16(
    *,
    num_classes: int,
    in_channels: int,
    activation: Activation,
    head: Head = "small",
    width: float = 1.0,
    dropout: float = 0.5,
    batch_norm: bool = False,
    hidden: Sequence[int] = (),
    size: int = 32,
) -> VGG:
    """VGG-16, configuration D of the paper: thirteen convolutions; see the class for its layers, sources and errors."""
    return VGG(
        depth=16,
        num_classes=num_classes,
        in_channels=in_channels,
        activation=activation,
        head=head,
        width=width,
        dropout=dropout,
        batch_norm=batch_norm,
        hidden=hidden,
        size=size,
    )


def vgg19(
    *,
    num_classes: int,
    in_channels: int,
    activation: Activation,
    head: Head = "small",
    width: float = 1.0,
    dropout: float = 0.5,
    batch_norm: bool = False,
    hidden: Sequence[int] = (),
    size: int = 32,
) -> VGG:
    """VGG-19, configuration E of the paper: sixteen convolutions; see the class for its layers, sources and errors."""
    return VGG(
        depth=19,
        num_classes=num_classes,
        in_channels=in_channels,
        activation=activation,
        head=head,
        width=width,
        dropout=dropout,
        batch_norm=batch_norm,
        hidden=hidden,
        size=size,
    )
