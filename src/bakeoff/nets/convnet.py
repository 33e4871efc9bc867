"""What AlexNet and VGG share: the arguments of a net, its head for small or for ImageNet pictures, and its forward pass."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal, get_args

from torch import Tensor, nn
from torch.nn import functional

from bakeoff.nets.argument_checks import Activation, Head, check_choice, check_hidden, check_shape
from bakeoff.nets.layer_table import Conv, DropoutKind, DropoutPlace, Layout, Lrn, NormPlace, Pool
from bakeoff.nets.parameter_matching import channel_expansion, matched

OwnLrn = Literal["own", "none", "paper", "caffe"]
OwnPool = Literal["own", "max", "overlapping", "average"]


class ConvNet(nn.Module):
    """Convolutions, some followed by a pooling, then fully connected layers.

    Maps float [batch, in_channels, size, size] to scores [batch, num_classes].

    Every layer but the last is followed by `activation()`; the factory is called once a use, and once more to see what it makes. Where
    its modules have `expansion` e > 1 (maxout, gated units), the layers before them are e times as wide; where they also have
    `match="parameters"`, `width` is then scaled so that the net has the parameters that it has with an expansion of 1, within 2 %.

    head            small: pictures such as 32x32; imagenet: the published form
    width           times all channels and hidden units, rounded (to a multiple of the groups, where there are any)
    dropout         probability; 0 switches it off
    dropout_kind    plain, alpha (nn.AlphaDropout), or auto: alpha where the activation is SELU
    batch_norm      after every convolution; `norm_place` before or after the activation
    lrn             local response normalization where the net's table has a place for it: own (as the net is defined), none, paper
                    (k 2, n 5, alpha 1e-4, beta 0.75) or caffe (k 1, alpha 2e-5)
    pool            own (as the net is defined), max 2x2/2, overlapping (max 3x3/2), average (2x2/2)
    hidden          hidden units of the small head; [] for the net's own
    size            side of the pictures in pixels: the first fully connected layer follows from it

    Weights are as torch leaves them: initializing is a choice of its own.
    Errors: ChoiceError where the picture does not fit or an argument is out of its range.
    """

    fully: ClassVar[dict[str, tuple[int, ...]]]
    native: ClassVar[dict[str, int]] = {"small": 32, "imagenet": 224}
    own_lrn: ClassVar[Lrn] = "none"
    own_pool: ClassVar[Pool]
    overlap: ClassVar[int]
    dropout_place: ClassVar[DropoutPlace]
    squeezed: ClassVar[dict[str, int]] = {}

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int,
        activation: Activation,
        head: Head = "small",
        width: float = 1.0,
        dropout: float = 0.5,
        dropout_kind: DropoutKind = "auto",
        batch_norm: bool = False,
        norm_place: NormPlace = "before",
        lrn: OwnLrn = "own",
        pool: OwnPool = "own",
        hidden: Sequence[int] = (),
        size: int = 32,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        check_shape(name, num_classes=num_classes, in_channels=in_channels, width=width, dropout=dropout, head=head)
        check_choice("dropout_kind", dropout_kind, get_args(DropoutKind))
        check_choice("norm_place", norm_place, get_args(NormPlace))
        check_choice("lrn", lrn, get_args(OwnLrn))
        check_choice("pool", pool, get_args(OwnPool))
        check_hidden(tuple(hidden), head=head, own=self.fully[head])
        sample = activation()
        expansion, match = channel_expansion(sample)
        layout = Layout(
            convs=self.convolutions(head),
            hidden=tuple(hidden) or self.fully[head],
            in_channels=in_channels,
            num_classes=num_classes,
            size=size,
            width=width,
            activation=activation,
            expansion=expansion,
            dropout=dropout,
            alpha=dropout_kind == "alpha" or (dropout_kind == "auto" and isinstance(sample, nn.SELU)),
            dropout_place=self.dropout_place,
            batch_norm=batch_norm,
            norm_place=norm_place,
            lrn=self.own_lrn if lrn == "own" else lrn,
            pool=self.own_pool if pool == "own" else pool,
            overlap=self.overlap,
            squeeze=self.squeezed.get(head),
        )
        layout.check_size(name, head=head, native=self.native[head])
        if expansion > 1 and match == "parameters":
            layout = matched(layout, net=name)
        self.size, self.width = size, layout.width
        # Pixels a side that the convolutions leave, that they are averaged to (None: as they come), and that the head sees.
        self.arriving, self.squeeze, self.side = layout.after(size), layout.squeeze, layout.side
        self.features = layout.features()
        self.classifier = layout.classifier()

    @classmethod
    @abstractmethod
    def convolutions(cls, head: str) -> tuple[Conv, ...]:
        """The net's table for one head."""

    @classmethod
    @abstractmethod
    def paper(cls) -> type[ConvNet]:
        """The published net that this one goes back to."""

    def forward(self, images: Tensor) -> Tensor:
        """Scores [batch, num_classes] of float images [batch, in_channels, size, size]."""
        maps = self.features(images)
        if self.squeeze is not None:
            maps = functional.adaptive_avg_pool2d(maps, self.squeeze)
        scores: Tensor = self.classifier(maps.flatten(1))
        return scores
