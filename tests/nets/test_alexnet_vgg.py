"""Golden parameter counts, shapes, geometry and one-line errors of the nets."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from bakeoff.config.targets import build_errors
from bakeoff.errors import ArgumentError, ChoiceError
from bakeoff.nets import alexnet as alexnet_module
from bakeoff.nets import vgg as vgg_module
from bakeoff.nets.alexnet import alexnet, alexnet_2012, alexnet_caffe, alexnet_owt
from bakeoff.nets.net_spec import Head
from bakeoff.nets.vgg import vgg11, vgg11_lrn, vgg13, vgg16, vgg16_c, vgg19

Net = Callable[..., nn.Module]
FACTORIES: list[Net] = [alexnet, alexnet_2012, alexnet_caffe, alexnet_owt, vgg11, vgg11_lrn, vgg13, vgg16, vgg16_c, vgg19]


def on_meta(net: Net, **arguments: Any) -> nn.Module:
    settings: dict[str, Any] = {"num_classes": 10, "in_channels": 3, "activation": nn.ReLU, **arguments}
    with torch.device("meta"):
        return net(**settings)


def parameters(net: nn.Module) -> int:
    return sum(weight.numel() for weight in net.parameters())


# Counted by hand from the tables of layers; the 224-pixel counts are those of torchvision, if it has the net.
SMALL = [
    (alexnet, {}, 5_871_434),
    (vgg11, {}, 9_225_610),
    (vgg13, {}, 9_410_122),
    (vgg16, {}, 14_719_818),
    (vgg19, {}, 20_029_514),
    (vgg11, {"batch_norm": True}, 9_231_114),
    (vgg13, {"batch_norm": True}, 9_416_010),
    (vgg16, {"batch_norm": True}, 14_728_266),
    (vgg19, {"batch_norm": True}, 20_040_522),
    (vgg11_lrn, {}, 9_225_610),
    (vgg16_c, {}, 10_001_226),
    (alexnet_owt, {}, 5_871_434),
    (vgg11, {"hidden": [512, 512]}, 9_225_610 + 2 * (512 * 512 + 512)),
]
IMAGENET = [
    (alexnet, {}, 61_100_840),
    (alexnet_owt, {}, 61_100_840),
    (alexnet_2012, {"size": 227}, 60_965_224),
    (alexnet_caffe, {"size": 227}, 60_965_224),
    (vgg11_lrn, {}, 132_863_336),
    (vgg16_c, {}, 133_638_952),
    (vgg11, {}, 132_863_336),
    (vgg13, {}, 133_047_848),
    (vgg16, {}, 138_357_544),
    (vgg19, {}, 143_667_240),
    (vgg11, {"batch_norm": True}, 132_868_840),
    (vgg13, {"batch_norm": True}, 133_053_736),
    (vgg16, {"batch_norm": True}, 138_365_992),
    (vgg19, {"batch_norm": True}, 143_678_248),
]


@pytest.mark.parametrize(("net", "arguments", "expected"), SMALL)
def test_small_form_has_its_golden_count_and_shape(net: Net, arguments: dict[str, Any], expected: int) -> None:
    built = on_meta(net, **arguments)
    assert parameters(built) == expected
    assert built(torch.empty(2, 3, 32, 32, device="meta")).shape == (2, 10)


@pytest.mark.parametrize(("net", "arguments", "expected"), IMAGENET)
def test_imagenet_form_has_its_golden_count_and_shape(net: Net, arguments: dict[str, Any], expected: int) -> None:
    settings = {"num_classes": 1000, "head": "imagenet", "size": 224, **arguments}
    built = on_meta(net, **settings)
    assert parameters(built) == expected
    assert built(torch.empty(2, 3, settings["size"], settings["size"], device="meta")).shape == (2, 1000)


@pytest.mark.parametrize("name", ["alexnet", "vgg11", "vgg16_bn", "vgg19"])
def test_imagenet_form_computes_what_torchvision_computes(name: str) -> None:
    models = pytest.importorskip("torchvision.models")
    ours = {"alexnet": alexnet, "vgg11": vgg11, "vgg16_bn": vgg16, "vgg19": vgg19}[name]
    batch_norm = {"batch_norm": True} if name.endswith("_bn") else {}
    built = on_meta(ours, num_classes=7, head="imagenet", size=224, **batch_norm)
    with torch.device("meta"):
        theirs = getattr(models, name)(num_classes=7)
    # Same names and shapes in the same order: torchvision's weights load as they are.
    assert [(k, v.shape) for k, v in built.state_dict().items()] == [(k, v.shape) for k, v in theirs.state_dict().items()]
    settings = [
        [(m.kernel_size, m.stride, m.padding) for m in net.modules() if isinstance(m, nn.Conv2d | nn.MaxPool2d)] for net in (built, theirs)
    ]
    same = [[k if isinstance(k, tuple) else (k, k) for k in layer] for layer in settings[0]]
    assert same == [[k if isinstance(k, tuple) else (k, k) for k in layer] for layer in settings[1]]


def test_small_alexnet_has_the_shapes_of_its_docstring() -> None:
    net, shapes = on_meta(alexnet), []
    maps = torch.empty(1, 3, 32, 32, device="meta")
    for layer in net.features:  # type: ignore[union-attr]
        maps = layer(maps)
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
            shapes.append(tuple(maps.shape[1:]))
    pool1, pool2, pool3 = (64, 15, 15), (192, 7, 7), (256, 3, 3)
    assert shapes == [(64, 32, 32), pool1, (192, 15, 15), pool2, (384, 7, 7), (256, 7, 7), (256, 7, 7), pool3]
    assert [m.in_features for m in net.modules() if isinstance(m, nn.Linear)] == [2304, 1024, 1024]


@pytest.mark.parametrize("net", FACTORIES)
@pytest.mark.parametrize(("channels", "classes", "size", "head"), [(1, 7, 32, "small"), (3, 100, 47, "small"), (1, 5, 99, "imagenet")])
def test_every_valid_size_has_scores(net: Net, channels: int, classes: int, size: int, head: str) -> None:
    built = on_meta(net, in_channels=channels, num_classes=classes, size=size, head=head)
    assert built(torch.empty(3, channels, size, size, device="meta")).shape == (3, classes)


@pytest.mark.parametrize("net", FACTORIES)
def test_width_scales_every_hidden_layer_and_never_below_one_unit(net: Net) -> None:
    full, quarter, least = (on_meta(net, width=width) for width in (1.0, 0.25, 1e-9))
    pairs = zip(full.modules(), quarter.modules(), strict=True)
    sizes = [(a.out_channels, b.out_channels) for a, b in pairs if isinstance(a, nn.Conv2d) and isinstance(b, nn.Conv2d)]
    assert sizes and all(a == 4 * b for a, b in sizes)
    linear = [m.out_features for m in quarter.modules() if isinstance(m, nn.Linear)]
    assert linear == ([256, 256, 10] if net.__name__.startswith("alexnet") else [10])
    assert {m.out_channels for m in least.modules() if isinstance(m, nn.Conv2d)} == {2 if net in (alexnet_2012, alexnet_caffe) else 1}
    assert [m.out_features for m in on_meta(vgg11, width=0.5, hidden=[512, 64]).modules() if isinstance(m, nn.Linear)] == [256, 32, 10]


@pytest.mark.parametrize(("net", "uses"), [(alexnet, 7), (vgg11, 8), (vgg13, 10), (vgg16, 13), (vgg19, 16)])
def test_the_activation_factory_is_called_once_per_use(net: Net, uses: int) -> None:
    activations: list[nn.Module] = []

    def factory() -> nn.Module:
        activations.append(nn.PReLU())
        return activations[-1]

    built = on_meta(net, activation=factory)
    # The first module is only inspected for its kind.
    assert len(activations) - 1 == uses == len({id(m) for m in built.modules() if isinstance(m, nn.PReLU)})


@pytest.mark.parametrize("net", FACTORIES)
def test_dropout_acts_only_in_training(net: Net) -> None:
    torch.manual_seed(0)
    images = torch.randn(4, 3, 32, 32)
    built = net(num_classes=3, in_channels=3, activation=nn.ReLU, width=0.1, dropout=0.5)
    assert not torch.equal(built(images), built(images))
    assert torch.equal(built.eval()(images), built(images))
    assert {m.p for m in on_meta(net, dropout=0.25).modules() if isinstance(m, nn.Dropout)} == {0.25}


@pytest.mark.parametrize("head", ["small", "imagenet"])
def test_a_gradient_reaches_every_parameter(head: Head) -> None:
    for net in (alexnet, vgg11):
        built = net(num_classes=3, in_channels=1, activation=nn.SiLU, width=0.05, dropout=0.0, size=64, head=head)
        built(torch.randn(2, 1, 64, 64)).square().sum().backward()
        assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in built.parameters())


@pytest.mark.parametrize(
    ("net", "arguments", "words"),
    [
        (alexnet, {"size": 14}, ["data.size=14", "model.head=small", "15x15"]),
        (alexnet, {"head": "imagenet", "size": 62}, ["data.size=62", "model.head=imagenet", "63x63"]),
        (alexnet_2012, {"head": "imagenet", "size": 32}, ["data.size=32", "alexnet_2012", "67x67", "set data.size=227"]),
        (alexnet_caffe, {"head": "imagenet", "size": 224}, ["data.size=224", "11 plus a multiple of 4", "set data.size=227"]),
        (alexnet_owt, {"head": "imagenet", "size": 32}, ["data.size=32", "set data.size=224", "model.head=small"]),
        (vgg16, {"pool": "maxx"}, ["model.pool=maxx", "did you mean max", "overlapping"]),
        (alexnet, {"lrn": "papers"}, ["model.lrn=papers", "did you mean paper"]),
        (alexnet, {"norm_place": "behind"}, ["model.norm_place=behind", "before, after"]),
        (alexnet, {"dropout_kind": "beta"}, ["model.dropout_kind=beta", "auto, plain, alpha"]),
        (vgg16, {"size": 31}, ["data.size=31", "model.head=small", "32x32"]),
        (vgg11, {"head": "smal"}, ["model.head=smal", "did you mean small", "imagenet"]),
        (vgg11, {"head": "imagenet", "hidden": [512]}, ["model.hidden=[512]", "4096"]),
        (vgg11, {"hidden": [512, 0]}, ["model.hidden"]),
        (vgg11, {"width": 0.0}, ["model.width=0.0"]),
        (alexnet, {"width": float("nan")}, ["model.width=nan"]),
        (alexnet, {"dropout": 1.0}, ["model.dropout=1.0"]),
        (alexnet, {"num_classes": 0}, ["data.num_classes=0"]),
        (alexnet, {"in_channels": 0}, ["data.channels=0"]),
    ],
)
def test_a_wrong_argument_of_a_net_is_a_one_line_error(net: Net, arguments: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ArgumentError, match=rf"^{next(reversed(arguments))}=") as bare:
        on_meta(net, **arguments)
    assert not re.search(r"(data|model)\.", str(bare.value)), "a net does not know the keys of the config"
    with pytest.raises(ChoiceError) as keyed, build_errors("model", {}):
        on_meta(net, **arguments)
    assert all(word in str(keyed.value) for word in words) and "\n" not in str(keyed.value)


@pytest.mark.parametrize(
    ("net", "least", "head"), [(alexnet, 15, "small"), (alexnet, 63, "imagenet"), (alexnet_2012, 67, "imagenet"), (vgg11, 32, "small")]
)
def test_the_smallest_size_in_the_message_is_valid(net: Net, least: int, head: str) -> None:
    assert on_meta(net, size=least, head=head)(torch.empty(2, 3, least, least, device="meta")).shape == (2, 10)


@pytest.mark.parametrize("net", FACTORIES)
def test_every_argument_is_keyword_only_and_typed(net: Net) -> None:
    signature, hints = inspect.signature(net), typing.get_type_hints(net.__init__)
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY and name in hints for name, p in signature.parameters.items())
    assert typing.get_args(hints["head"]) == ("small", "imagenet")
    assert net.__module__ in {alexnet_module.__name__, vgg_module.__name__}
