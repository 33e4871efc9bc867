"""`bakeoff list model --diff` describes the nets as they are."""

from __future__ import annotations

import json

import pytest
from torch import nn

from bakeoff.commands import list as command
from bakeoff.commands.list import NetVariant, net_variants, variants_table
from bakeoff.config.slots import package_data_dir
from bakeoff.errors import ConfigError
from bakeoff.nets.alexnet import alexnet_2012
from bakeoff.nets.architecture_summary import summarize_architecture
from bakeoff.nets.vgg import vgg16_c


@pytest.fixture(scope="module")
def variants() -> dict[str, NetVariant]:
    return {variant.choice: variant for variant in net_variants(None)}


def test_every_shipped_net_is_compared(variants: dict[str, NetVariant]) -> None:
    assert set(variants) == {path.stem for path in (package_data_dir("conf") / "model").glob("*.yaml")}


def test_the_differences_are_those_from_the_papers(variants: dict[str, NetVariant]) -> None:
    assert variants["alexnet_2012"].changes == {}
    settings = ("k=2 n=5 alpha=1e-4 beta=0.75", "k=1 n=5 alpha=2e-5 beta=0.75")
    assert variants["alexnet_caffe"].changes == {"LRN settings": settings}
    owt = variants["alexnet_owt"].changes
    assert owt["channels"] == ("96 256 2x384 256", "64 192 384 2x256") and owt["groups"] == ("1 2 1 2 2", "1 in all")
    assert owt["dropout"] == ("0.5 before fc2 fc3", "0.5 before fc1 fc2") and owt["parameters"] == ("60,965,224", "61,100,840")
    assert owt["input"] == ("227x227", "224x224") and owt["LRN"] == ("conv1 conv2", "none")
    small = {"input", "features", "dropout", "fully connected", "parameters"}
    for name in ("vgg11", "vgg13", "vgg16", "vgg19", "vgg11_lrn", "vgg16_c"):
        assert set(variants[name].changes) == small, name
    for name in ("vgg11_bn", "vgg11_lrn_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn", "vgg16_c_bn"):
        assert set(variants[name].changes) == small | {"batch norm"}, name
    assert variants["vgg16_c"].paper_properties["kernels"] == "3 3 3 3 3 3 1 3 3 1 3 3 1"
    assert variants["vgg11_lrn"].paper_properties["LRN"] == "conv1"


def test_a_summary_follows_the_modules() -> None:
    net = vgg16_c(
        num_classes=3,
        in_channels=1,
        activation=nn.SELU,
        width=0.1,
        dropout=0.25,
        hidden=[50],
        batch_norm=True,
        norm_place="after",
        pool="average",
    )
    summary = summarize_architecture(net)
    assert summary["batch norm"] == "after the activation: all" and summary["dropout"] == "alpha 0.25 before fc2"
    assert summary["pooling"] == "mean 2x2/2: conv2 conv4 conv7 conv10 conv13" and summary["fully connected"] == "5 3"
    net.features[0] = nn.Conv2d(1, 6, 5, padding=2)
    assert summarize_architecture(net)["kernels"].startswith("5 3 3")
    assert summarize_architecture(net)["parameters"] == f"{sum(p.numel() for p in net.parameters()):,}"


def test_the_tables_are_aligned_and_fit_a_hundred_columns(variants: dict[str, NetVariant], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["model", "--diff"]) == 0
    output = capsys.readouterr().out
    assert output.strip() == variants_table(list(variants.values()))
    lines = output.splitlines()
    assert max(map(len, lines)) <= 100
    head = next(line for line in lines if line.startswith("choice"))
    starts = [head.index(word) for word in ("changes", "the paper", "this choice")]
    body = lines[lines.index(head) + 1 :]
    full = [line for line in body if "nothing" not in line]
    assert full and all(line[start] != " " and line[start - 1] == " " for line in full for start in starts)


def test_json_and_the_slot_that_it_needs(
    variants: dict[str, NetVariant], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bakeoff.commands.list.net_variants", lambda own: list(variants.values()))
    assert command.main(["model", "--diff", "--json"]) == 0
    read = json.loads(capsys.readouterr().out)
    assert read["alexnet_caffe"]["LRN settings"] == list(variants["alexnet_caffe"].changes["LRN settings"])
    for words in (["--diff"], ["optimizer", "--diff"]):
        with pytest.raises(ConfigError, match="bakeoff list model --diff"):
            command.main(words)


def test_the_papers_net_of_an_alexnet_is_that_of_2012() -> None:
    assert alexnet_2012.published_variant() is alexnet_2012 and vgg16_c.published_variant() is vgg16_c
