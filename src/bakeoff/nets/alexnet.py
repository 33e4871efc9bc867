"""AlexNet in two forms: for small images (the default), and the 224-pixel form that torchvision ships."""

from __future__ import annotations

from torch import Tensor, nn

from bakeoff.nets.fit import Activation, Head, check_shape, check_size, pooled, scaled

# The names that a config may use as a target.
__all__ = ["alexnet"]

CHANNELS = (64, 192, 384, 256, 256)
POOLED = (True, True, False, False, True)


class AlexNet(nn.Module):
    """Five convolutions, three overlapping 3x3/2 max poolings, two hidden fully connected layers and the scores.

    Maps float [batch, in_channels, size, size] to scores [batch, num_classes]; every layer but the last is followed by `activation()`.

    `head="small"`, shapes at 3x32x32 and width 1 (all convolutions have stride 1 and keep the size):

        conv1 5x5, pad 2     64 x 32 x 32    pool 3x3/2    64 x 15 x 15
        conv2 5x5, pad 2    192 x 15 x 15    pool 3x3/2   192 x  7 x  7
        conv3 3x3, pad 1    384 x  7 x  7
        conv4 3x3, pad 1    256 x  7 x  7
        conv5 3x3, pad 1    256 x  7 x  7    pool 3x3/2   256 x  3 x  3
        dropout, fc 2304 -> 1024; dropout, fc 1024 -> 1024; fc 1024 -> num_classes

    `head="imagenet"`, shapes at 3x224x224: the single-column net of Krizhevsky, "One weird trick for parallelizing convolutional
    neural networks" (arXiv:1404.5997) in torchvision's geometry (61,100,840 parameters with 1000 classes):

        conv1 11x11/4, pad 2     64 x 55 x 55    pool 3x3/2    64 x 27 x 27
        conv2 5x5, pad 2        192 x 27 x 27    pool 3x3/2   192 x 13 x 13
        conv3, conv4, conv5 as above, on 13 x 13; pool 3x3/2  256 x  6 x  6
        dropout, fc 9216 -> 4096; dropout, fc 4096 -> 4096; fc 4096 -> num_classes

    Differences from the paper of 2012 (Krizhevsky, Sutskever, Hinton): fewer channels, no groups, no local response
    normalization, dropout at the inputs of the hidden layers instead of their outputs; from torchvision: no adaptive pooling,
    so another `size` changes the first fully connected layer instead of the picture of features.

    `width` scales the channels and the hidden layers. Weights are as torch leaves them: initializing is a choice of its own.
    Errors: ChoiceError where the picture is too small or an argument is out of its range.
    """

    def __init__(
        self, *, num_classes: int, in_channels: int, activation: Activation, head: Head, width: float, dropout: float, size: int
    ) -> None:
        super().__init__()
        check_shape("alexnet", num_classes=num_classes, in_channels=in_channels, width=width, dropout=dropout, head=head)
        check_size("alexnet", size=size, least=15 if head == "small" else 63, head=head)
        # (kernel, stride, padding) of the first convolution; the others are the same in both forms
        first = (5, 1, 2) if head == "small" else (11, 4, 2)
        layers: list[nn.Module] = []
        before, side = in_channels, size
        for channels, pools, (kernel, stride, padding) in zip(
            CHANNELS, POOLED, (first, (5, 1, 2), (3, 1, 1), (3, 1, 1), (3, 1, 1)), strict=True
        ):
            after = scaled(channels, width=width)
            layers += [nn.Conv2d(before, after, kernel, stride, padding), activation()]
            side = pooled(side, kernel=kernel, stride=stride, padding=padding)
            if pools:
                layers.append(nn.MaxPool2d(3, 2))
                side = pooled(side, kernel=3, stride=2)
            before = after
        self.features = nn.Sequential(*layers)
        hidden = scaled(1024 if head == "small" else 4096, width=width)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(before * side * side, hidden),
            activation(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            activation(),
            nn.Linear(hidden, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Scores [batch, num_classes] of float images [batch, in_channels, size, size]."""
        scores: Tensor = self.classifier(self.features(images).flatten(1))
        return scores


def alexnet(
    *,
    num_classes: int,
    in_channels: int,
    activation: Activation,
    head: Head = "small",
    width: float = 1.0,
    dropout: float = 0.5,
    size: int = 32,
) -> AlexNet:
    """AlexNet for pictures of `size` pixels a side; see the class for its layers, sources and errors."""
    return AlexNet(
        num_classes=num_classes, in_channels=in_channels, activation=activation, head=head, width=width, dropout=dropout, size=size
    )
