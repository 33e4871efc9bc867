"""Norm, pooling, dropout and width as fields of every net, and activations that map several channels to one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bakeoff.config import compose
from bakeoff.config.choices import describe_target
from bakeoff.config.schema import fingerprint
from bakeoff.config.targets import build_errors, resolve_component
from bakeoff.errors import BakeoffError, ChoiceError
from bakeoff.nets.alexnet import alexnet, alexnet_2012, alexnet_owt
from bakeoff.nets.convnet import ConvNet
from bakeoff.nets.vgg import vgg11, vgg16_c, vgg19

FAMILIES: list[Any] = [alexnet, vgg11]


class Halved(nn.Module):
    """A gated unit: the first half of the channels times the second."""

    expansion = 2

    def __init__(self, match: str = "width") -> None:
        super().__init__()
        self.match = match

    def forward(self, z: Tensor) -> Tensor:
        value, gate = z.chunk(2, dim=1)
        return value * gate.relu()


class Triple(nn.Module):
    """Maxout over three neighbouring channels."""

    expansion = 3
    match = "parameters"

    def forward(self, z: Tensor) -> Tensor:
        return z.reshape(len(z), -1, 3, *z.shape[2:]).amax(dim=2)


def build(net: Callable[..., ConvNet], *, meta: bool = True, **arguments: Any) -> Any:
    settings: dict[str, Any] = {"num_classes": 10, "in_channels": 3, "activation": nn.ReLU, **arguments}
    with torch.device("meta" if meta else "cpu"):
        return net(**settings)


def parameters(net: nn.Module) -> int:
    return sum(weight.numel() for weight in net.parameters())


@pytest.mark.parametrize("net", FAMILIES)
@pytest.mark.parametrize(("norm_place", "pattern"), [("before", "Conv2d BatchNorm2d ReLU"), ("after", "Conv2d ReLU BatchNorm2d")])
def test_batch_norm_is_at_the_requested_place(net: Any, norm_place: str, pattern: str) -> None:
    built = build(net, batch_norm=True, norm_place=norm_place)
    kinds = [type(layer).__name__ for layer in built.features if "Pool" not in type(layer).__name__]
    convs = [layer for layer in built.features if isinstance(layer, nn.Conv2d)]
    assert " ".join(kinds) == " ".join([pattern] * len(convs))
    norms = [layer for layer in built.features if isinstance(layer, nn.BatchNorm2d)]
    assert [m.num_features for m in norms] == [m.out_channels for m in convs]
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in build(net, norm_place=norm_place).modules())


@pytest.mark.parametrize(
    ("pool", "kind", "kernel"), [("max", nn.MaxPool2d, 2), ("overlapping", nn.MaxPool2d, 3), ("average", nn.AvgPool2d, 2)]
)
@pytest.mark.parametrize("net", [*FAMILIES, alexnet_2012, vgg16_c])
def test_pooling_has_the_requested_kind(net: Any, pool: str, kind: type[nn.Module], kernel: int) -> None:
    built = build(net, pool=pool, size=47)
    pools = [layer for layer in built.features if isinstance(layer, nn.MaxPool2d | nn.AvgPool2d)]
    assert len(pools) == (5 if net in (vgg11, vgg16_c) else 3)
    assert {(type(layer), layer.kernel_size, layer.stride) for layer in pools} == {(kind, kernel, 2)}
    assert built(torch.empty(2, 3, 47, 47, device="meta")).shape == (2, 10)


def test_the_default_pooling_is_that_of_each_paper() -> None:
    assert {m.kernel_size for m in build(alexnet).features if isinstance(m, nn.MaxPool2d)} == {3}
    assert {m.kernel_size for m in build(vgg11).features if isinstance(m, nn.MaxPool2d)} == {2}
    assert build(vgg11, pool="overlapping").feature_size == build(vgg11).feature_size == 1


@pytest.mark.parametrize(("net", "number"), [(alexnet, 2), (alexnet_2012, 2), (vgg11, 1), (vgg19, 1)])
def test_local_response_normalization_can_be_switched(net: Any, number: int) -> None:
    for lrn, k in (("paper", 2.0), ("caffe", 1.0)):
        norms = [layer for layer in build(net, lrn=lrn).features if isinstance(layer, nn.LocalResponseNorm)]
        assert [norm.k for norm in norms] == [k] * number
    assert not any(isinstance(layer, nn.LocalResponseNorm) for layer in build(net, lrn="none").modules())


@pytest.mark.parametrize("net", FAMILIES)
def test_selu_gets_alpha_dropout(net: Any) -> None:
    def kinds(**arguments: Any) -> set[str]:
        layers = [layer for layer in build(net, dropout=0.3, **arguments).modules() if isinstance(layer, nn.Dropout | nn.AlphaDropout)]
        assert {layer.p for layer in layers} == {0.3}
        return {type(layer).__name__ for layer in layers}

    assert kinds(activation=nn.SELU) == {"AlphaDropout"} == kinds(dropout_kind="alpha")
    assert kinds(activation=nn.SELU, dropout_kind="plain") == {"Dropout"} == kinds() == kinds(activation=nn.ELU)


def test_hidden_layers_can_be_set_in_both_families() -> None:
    for net in FAMILIES:
        linear = [m.out_features for m in build(net, hidden=[30, 20]).modules() if isinstance(m, nn.Linear)]
        assert linear == [30, 20, 10]


@pytest.mark.parametrize("width", [0.01, 0.07, 0.33, 1.5])
def test_widths_of_a_grouped_net_divide_by_its_groups(width: float) -> None:
    built = build(alexnet_2012, width=width)
    convs = [m for m in built.modules() if isinstance(m, nn.Conv2d)]
    assert [m.out_channels for m in convs] == [2 * max(1, round(units * width / 2)) for units in (96, 256, 384, 384, 256)]
    assert [m.groups for m in convs] == [1, 2, 1, 2, 2]


@pytest.mark.parametrize("net", [*FAMILIES, alexnet_2012])
def test_layers_before_a_gated_activation_are_wider_by_its_expansion(net: Any) -> None:
    plain, gated = build(net, hidden=[32, 16], batch_norm=True), build(net, hidden=[32, 16], batch_norm=True, activation=Halved)
    pairs = list(zip(layers(plain), layers(gated), strict=True))
    assert all(b.weight.shape[0] == 2 * a.weight.shape[0] for a, b in pairs[:-1]) and pairs[-1][1].out_features == 10
    assert all(b.weight.shape[1] == a.weight.shape[1] for a, b in pairs), "the numbers of output channels stay as written"
    real = build(net, meta=False, hidden=[32, 16], width=0.1, activation=Halved)
    assert real(torch.randn(2, 3, 32, 32)).shape == (2, 10)
    after = build(net, batch_norm=True, norm_place="after", activation=Halved)
    assert [m.num_features for m in after.modules() if isinstance(m, nn.BatchNorm2d)] == [
        m.out_channels // 2 for m in after.modules() if isinstance(m, nn.Conv2d)
    ]


def layers(net: nn.Module) -> list[Any]:
    return [layer for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]


@pytest.mark.parametrize("activation", [lambda: Halved("parameters"), Triple], ids=["halved", "triple"])
@pytest.mark.parametrize(
    ("net", "arguments"),
    [
        (alexnet, {"width": 0.25}),
        (alexnet, {"batch_norm": True, "width": 0.1}),
        (alexnet_2012, {"head": "imagenet", "size": 227, "num_classes": 1000}),
        (vgg11, {}),
        (vgg19, {"head": "imagenet", "size": 224}),
    ],
)
def test_matched_parameters_are_within_two_percent(net: Any, arguments: dict[str, Any], activation: Callable[[], nn.Module]) -> None:
    plain, matched = build(net, **arguments), build(net, activation=activation, **arguments)
    assert abs(parameters(matched) / parameters(plain) - 1) < 0.02
    assert matched.width < plain.width
    size = arguments.get("size", 32)
    assert matched(torch.empty(2, 3, size, size, device="meta")).shape == plain(torch.empty(2, 3, size, size, device="meta")).shape


def test_an_invalid_or_unmatchable_activation_is_an_error() -> None:
    with pytest.raises(ChoiceError, match=r"^activation\.match=parameters: no width of vgg11 comes within 2 %"), build_errors("model", {}):
        build(vgg11, width=1e-3, num_classes=2, activation=lambda: Halved("parameters"))
    with pytest.raises(ChoiceError, match=r"^activation\.match=params: Halved .* choices: parameters, width"), build_errors("model", {}):
        build(vgg11, activation=lambda: Halved("params"))
    wrong = type("Wrong", (nn.ReLU,), {"expansion": 0})
    with pytest.raises(ChoiceError, match=r"^activation\.expansion=0: Wrong"), build_errors("model", {}):
        build(vgg11, activation=wrong)


@pytest.mark.parametrize("net", [alexnet, alexnet_2012, alexnet_owt, vgg11, vgg16_c])
def test_added_fields_have_the_declared_defaults(net: Any) -> None:
    defaults = {name: parameter.default for name, parameter in inspect.signature(net).parameters.items()}
    added = describe_target("model", f"{net.__module__}.{net.__name__}").added
    assert {name: list(value) if isinstance(value, tuple) else value for name, value in defaults.items() if name in added} == added


@pytest.mark.parametrize("name", ["alexnet", "vgg16_bn"])
def test_an_added_field_changes_the_fingerprint_only_if_it_is_set(name: str) -> None:
    run = compose.compose([f"model={name}"])
    added = describe_target("model", run.model["_target_"]).added
    before = {key: value for key, value in run.model.items() if key not in added}
    assert len(before) < len(run.model)
    assert fingerprint(run.replace(model=before)) == fingerprint(run)
    other = {"pool": "average", "lrn": "paper", "norm_place": "after", "dropout_kind": "plain"}
    prints = {fingerprint(compose.compose([f"model={name}", f"model.{key}={value}"])) for key, value in other.items()}
    assert len(prints | {fingerprint(run)}) == 5


@pytest.mark.parametrize("word", ["model.pool=maxx", "model.norm_place=behind", "model.batch_norm=maybe", "model.pol=max"])
def test_a_wrong_field_is_a_one_line_error_with_its_key(word: str) -> None:
    with pytest.raises(BakeoffError) as error:
        resolve_component("model", compose.compose(["model=vgg11", word]).model)
    assert str(error.value).startswith(word.split("=")[0]) and "\n" not in str(error.value)
