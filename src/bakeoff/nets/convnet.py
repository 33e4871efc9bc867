"""What AlexNet and VGG share: the arguments of a net, its head for small or for ImageNet images, and its forward pass."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal, get_args

from torch import Tensor, nn
from torch.nn import functional

from bakeoff.errors import ArgumentError, check_argument, join_choices, near_miss
from bakeoff.nets.net_spec import Activation, ConvSpec, DropoutKind, DropoutPlace, Head, Lrn, NetSpec, NormPlace, Pool
from bakeoff.nets.parameter_matching import channel_expansion, match_parameters

LrnOption = Literal["own", "none", "paper", "caffe"]
PoolOption = Literal["own", "max", "overlapping", "average"]


class ConvNet(nn.Module):
    """Convolutions, some followed by a pooling, then fully connected layers.

    Maps float images (N, in_channels, size, size) to scores (N, num_classes). Weights have torch's default values; initializers are
    separate components.

    Every layer but the last is followed by `activation()`; the factory is called once per layer, and once more to inspect its module.
    If that has `expansion` e > 1 (maxout, gated units), the layers before an activation are e times as wide; with `match="parameters"`,
    `width` is then scaled so that the net has as many parameters as with an expansion of 1, within 2 %.

    Args:
        num_classes: number of scores.
        in_channels: channels of the images.
        activation: factory of activation modules.
        head: small for images such as 32x32; imagenet for the published form.
        width: factor of all channels and hidden units, which are rounded (channels to a multiple of the groups).
        dropout: probability; 0 switches it off.
        dropout_kind: plain, alpha (nn.AlphaDropout), or auto: alpha where the activation is SELU.
        batch_norm: whether every convolution is followed by batch norm.
        norm_place: batch norm before or after the activation.
        lrn: local response normalization, in nets that have a place for it: own (the net's default), none, paper (k 2, n 5,
            alpha 1e-4, beta 0.75) or caffe (k 1, alpha 2e-5).
        pool: own (the net's default), max (2x2/2), overlapping (max 3x3/2) or average (2x2/2).
        hidden: hidden units of the small head; [] for the net's own.
        size: side of the images in pixels, which decides the first fully connected layer.

    Raises:
        ArgumentError: the images are too small, or an argument is out of its range.
    """

    hidden_units: ClassVar[dict[str, tuple[int, ...]]]
    native_sizes: ClassVar[dict[str, int]] = {"small": 32, "imagenet": 224}
    default_lrn: ClassVar[Lrn] = "none"
    default_pool: ClassVar[Pool]
    pool_padding: ClassVar[int]
    dropout_place: ClassVar[DropoutPlace]
    adaptive_pool_sizes: ClassVar[dict[str, int]] = {}

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
        lrn: LrnOption = "own",
        pool: PoolOption = "own",
        hidden: Sequence[int] = (),
        size: int = 32,
    ) -> None:
        """Check the arguments, which the class documents, and build the layers."""
        super().__init__()
        name = type(self).__name__
        _check_choice("head", head, get_args(Head))
        check_argument("num_classes", num_classes, fits=num_classes >= 1, rule=f"{name} needs at least 1 class")
        check_argument("in_channels", in_channels, fits=in_channels >= 1, rule=f"{name} needs at least 1 channel")
        check_argument("width", width, fits=math.isfinite(width) and width > 0, rule="must be a finite number above 0")
        check_argument("dropout", dropout, fits=0 <= dropout < 1, rule="must be at least 0 and below 1")
        _check_choice("dropout_kind", dropout_kind, get_args(DropoutKind))
        _check_choice("norm_place", norm_place, get_args(NormPlace))
        _check_choice("lrn", lrn, get_args(LrnOption))
        _check_choice("pool", pool, get_args(PoolOption))
        self._check_hidden(list(hidden), head=head)
        sample = activation()
        expansion, match = channel_expansion(sample)
        spec = NetSpec(
            convs=self.convolutions(head),
            hidden=tuple(hidden) or self.hidden_units[head],
            in_channels=in_channels,
            num_classes=num_classes,
            size=size,
            width=width,
            activation=activation,
            expansion=expansion,
            dropout=dropout,
            alpha_dropout=dropout_kind == "alpha" or (dropout_kind == "auto" and isinstance(sample, nn.SELU)),
            dropout_place=self.dropout_place,
            batch_norm=batch_norm,
            norm_place=norm_place,
            lrn=self.default_lrn if lrn == "own" else lrn,
            pool=self.default_pool if pool == "own" else pool,
            pool_padding=self.pool_padding,
            adaptive_pool_size=self.adaptive_pool_sizes.get(head),
        )
        spec.check_size(name, head=head, native_size=self.native_sizes[head])
        if expansion > 1 and match == "parameters":
            spec = match_parameters(spec, net=name)
        self.size, self.width = size, spec.width
        # Sides in pixels: of the convolutions' output, of its adaptive pooling (None: there is none), and of the head's input.
        self.conv_feature_size, self.adaptive_pool_size = spec.conv_feature_size(size), spec.adaptive_pool_size
        self.feature_size = spec.feature_size
        self.features = spec.make_features()
        self.classifier = spec.make_classifier()

    @classmethod
    @abstractmethod
    def convolutions(cls, head: str) -> tuple[ConvSpec, ...]:
        """Return the net's convolutions for one head."""

    @classmethod
    @abstractmethod
    def published_variant(cls) -> type[ConvNet]:
        """Return the published net from which this one derives."""

    def forward(self, images: Tensor) -> Tensor:
        """Return scores (N, num_classes) of float images (N, in_channels, size, size)."""
        maps = self.features(images)
        if self.adaptive_pool_size is not None:
            maps = functional.adaptive_avg_pool2d(maps, self.adaptive_pool_size)
        scores: Tensor = self.classifier(maps.flatten(1))
        return scores

    def _check_hidden(self, hidden: list[int], *, head: Head) -> None:
        """Check that the head takes these hidden layers, and that each has a unit."""
        check_argument("hidden", hidden, fits=all(units >= 1 for units in hidden), rule="every hidden layer needs at least 1 unit")
        published = join_choices(map(str, self.hidden_units[head]))
        fits = head == "small" or not hidden
        check_argument("hidden", hidden, fits=fits, rule=f"the hidden layers of head=imagenet are {published}; leave it at []")


def _check_choice(argument: str, value: str, choices: tuple[str, ...]) -> None:
    """Check that a value is one of the choices."""
    if value not in choices:
        raise ArgumentError(f"{argument}={value}: no such choice{near_miss(str(value), choices)}; choices: {join_choices(choices)}")
