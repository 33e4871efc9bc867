"""Initializing a net from the trained weights of another run: which layers, from where, and reproducibly."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from bakeoff import builders
from bakeoff.commands.main import main
from bakeoff.components.initializers import FromRun, HeNormal
from bakeoff.components.initializers.transfer import layers_by_position, parameter_shapes
from bakeoff.config.compose import compose
from bakeoff.config.schema import RunConfig
from bakeoff.config.targets import build_errors
from bakeoff.errors import BakeoffError, ChoiceError, NotFoundError
from bakeoff.tracking import store, trained_weights
from bakeoff.training.run_lifecycle import create_run_dir
from bakeoff.training.run_training import train_from_dir

A_TO_D = ["conv1_1", "conv2_1", "conv3_1", "conv3_2", "fc1", "fc2", "fc3"]
HEAD = ["model.width=0.05", "model.hidden=[320,320]"]
TINY = ["data.subset=64", "data.batch_size=16", "trainer.max_steps=2", "trainer.threads=1", "trainer.progress=false"]


def bare(*overrides: str) -> nn.Module:
    return builders.make_uninitialized_model(compose([*HEAD, *overrides]))


def start(net: nn.Module, source: nn.Module, *, layers: str | list[str] = "vgg_paper") -> dict[str, str]:
    initializer = FromRun(run="abc", layers=layers)
    return dict(initializer(net, activation_gain=1.4, generator=torch.Generator().manual_seed(0), source=source) or {})


def equal(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(left, right) for left, right in zip(a.parameters(), b.parameters(), strict=True))


def copied(net: nn.Module, source: nn.Module) -> list[str]:
    targets, sources = layers_by_position(net), layers_by_position(source)
    shared = [at for at in targets if at in sources and parameter_shapes(targets[at]) == parameter_shapes(sources[at])]
    return [position for position in shared if equal(targets[position], sources[position])]


def test_positions_are_named_by_stage() -> None:
    assert list(layers_by_position(bare("model=vgg11"))) == [
        "conv1_1", "conv2_1", "conv3_1", "conv3_2", "conv4_1", "conv4_2", "conv5_1", "conv5_2", "fc1", "fc2", "fc3",
    ]  # fmt: skip


@pytest.mark.parametrize("model", ["vgg13", "vgg16", "vgg19", "vgg16_bn"])
def test_the_papers_rule_copies_four_convolutions_and_three_linear_layers_of_net_a(model: str) -> None:
    source, net = bare("model=vgg11"), bare(f"model={model}")
    facts = start(net, source)
    assert copied(net, source) == A_TO_D
    assert (facts["initializer.copied"], facts["initializer.copied_layers"]) == ("7", ", ".join(A_TO_D))
    # Layers that are not copied have the values of `rest` for the entire net.
    plain = bare(f"model={model}")
    HeNormal()(plain, activation_gain=1.4, generator=torch.Generator().manual_seed(0))
    others = [position for position in layers_by_position(net) if position not in A_TO_D]
    assert others and all(equal(layers_by_position(net)[position], layers_by_position(plain)[position]) for position in others)


def test_listed_and_matching_layers_are_copied() -> None:
    source, net = bare("model=vgg11"), bare("model=vgg16")
    assert start(net, source, layers=["conv1_1", "fc3"])["initializer.copied"] == "2"
    assert copied(net, source) == ["conv1_1", "fc3"]
    net = bare("model=vgg16", "data.num_classes=7")
    assert "fc3" not in start(net, source, layers="matching")["initializer.copied_layers"]
    # All 8 convolutions of A have the same position and shape in D, and so do two linear layers.
    assert len(copied(net, source)) == 10


@pytest.mark.parametrize(
    ("overrides", "layers", "words"),
    [
        (
            ["data.num_classes=7"],
            "vgg_paper",
            r"fc3 has shape \(10, 16\) in run abc and \(7, 16\) in this net; initializer.layers=matching",
        ),
        ([], ["conv1_9"], r"run abc has no layer conv1_9 \(did you mean conv1_1\?\)"),
        (["model.hidden=[]"], "vgg_paper", "this net has no layer fc2"),
        (["model.width=0.1", "model.hidden=[90]", "data.channels=3", "data.num_classes=7"], "matching", "no layer of the same position"),
    ],
)
def test_a_layer_that_does_not_fit_is_an_error(overrides: list[str], layers: str | list[str], words: str) -> None:
    with pytest.raises(ChoiceError, match=words), build_errors("initializer", {}):
        start(bare("model=vgg16", *overrides), bare("model=vgg11"), layers=layers)


def runs(tmp_path: Path, *overrides: str) -> RunConfig:
    return compose([*HEAD, *TINY, f"tracking.folder={tmp_path / 'runs'}", f"tracking.uri=sqlite:///{tmp_path / 'mlflow.db'}", *overrides])


def test_a_net_is_initialized_from_a_run_folder(tmp_path: Path) -> None:
    folder = create_run_dir(runs(tmp_path, "model=vgg11"))
    name = folder.read_job().id
    later = runs(tmp_path, "model=vgg16", "initializer=from_run", f"initializer.run={name}")
    with pytest.raises(BakeoffError, match=f"run {name}: its weights cannot be taken, for it is not done"):
        builders.validate_components(later)
    train_from_dir(folder.path)
    source = builders.load_trained_model(folder.path)
    builders.validate_components(later)
    before = torch.get_rng_state()
    net, facts = builders.make_initialized_model(later)
    assert torch.equal(torch.get_rng_state(), before)
    assert copied(net, source) == A_TO_D and facts["initializer.copied"] == "7"
    for other in (name[:6], str(folder.path)):
        assert builders.make_initialized_model(later.replace(**{"initializer.run": other}))[1] == facts
    trained = train_from_dir(create_run_dir(later).path)
    assert trained.status == "finished"


def test_a_missing_run_is_an_error_before_training_starts(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"run 0123456789ab: no such run in tracking\.folder="):
        builders.validate_components(runs(tmp_path, "model=vgg16", "initializer=from_run", "initializer.run=0123456789ab"))


@pytest.mark.slow
def test_net_d_is_initialized_from_net_a_and_reproduced_from_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def called(*words: str) -> dict[str, object]:
        assert main([*words, "--json"]) == 0
        result = json.loads(capsys.readouterr().out)
        assert isinstance(result, dict)
        return result

    first = called("train", *HEAD, *TINY, "model=vgg11")
    words = ["model=vgg16", "initializer=from_run", f"initializer.run={first['id']}"]
    second = called("train", *HEAD, *TINY, *words)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    tags = store.resolve_run(uri, str(second["id"])).data.tags
    assert (tags["initializer.copied"], tags["initializer.copied_layers"]) == ("7", ", ".join(A_TO_D))
    local = trained_weights.load_trained_weights(str(first["id"]), root=tmp_path / "runs", uri=uri)
    shutil.rmtree(tmp_path / "runs")
    stored = trained_weights.load_trained_weights(str(first["id"]), root=tmp_path / "runs", uri=uri)
    assert (stored.id, stored.config) == (local.id, local.config)
    assert set(stored.net) == set(local.net) and all(torch.equal(stored.net[name], local.net[name]) for name in local.net)
    assert called("reproduce", str(second["id"]))["verdict"] == "identical"
