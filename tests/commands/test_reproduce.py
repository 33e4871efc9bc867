"""A logged run is trained again from the store alone and comes out the same; what differs is told."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import bakeoff
from bakeoff.commands.main import main
from bakeoff.config.compose import load_frozen
from bakeoff.config.slots import package_data_dir
from bakeoff.errors import ConfigError
from bakeoff.tracking import store
from bakeoff.training import reproduction
from bakeoff.training.run_lifecycle import create_run_dir
from bakeoff.training.run_training import train_from_dir
from bakeoff.training.writer import sync_runs

TINY = ["data.subset=96", "data.batch_size=16", "trainer.max_steps=4", "trainer.threads=1", "trainer.log_every=2", "trainer.progress=false"]
OPTIMIZERS = sorted(path.stem for path in (package_data_dir("conf") / "optimizer").glob("*.yaml"))
NETS = sorted(path.stem for path in (package_data_dir("conf") / "model").glob("*.yaml"))
LARGER = ("alexnet_2012", "alexnet_caffe", "alexnet_owt")
"""Nets whose layers need larger pictures than the default."""


def train(overrides: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    assert main(["train", *TINY, *overrides, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert isinstance(result, dict)
    return result


def again(run_id: object, capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[int, dict[str, object]]:
    code = main(["reproduce", str(run_id), "--json", *flags])
    result = json.loads(capsys.readouterr().out)
    assert isinstance(result, dict)
    return code, result


def test_train_and_reproduce_in_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    result = train(["model.width=0.05", "optimizer=adam", "optimizer.lr=3e-4", "seed=1", "test=true"], capsys)
    assert result["status"] == "finished"
    table = bakeoff.runs("params.optimizer = 'adam'")
    (row,) = table.to_dict("records")
    assert row["id"] == result["id"]
    assert (row["kind"], row["status"]) == ("single", "FINISHED")
    assert (row["params.model"], row["params.optimizer.lr"], row["params.seed"]) == ("alexnet_mini", "0.0003", "1")
    assert row["metrics.test/accuracy"] == result["metrics"]["test/accuracy"]  # type: ignore[index]
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    uri = f"tracking.uri=sqlite:///{tmp_path / 'here' / 'mlflow.db'}"
    code, verdict = again(row["mlflow_id"], capsys, uri)
    assert (code, verdict["verdict"]) == (0, "identical")
    assert verdict["compared"] > 10  # type: ignore[operator]
    new = store.resolve_run(uri.removeprefix("tracking.uri="), str(verdict["run"]))
    assert new.data.tags["kind"] == "reproduction"
    assert new.data.tags["reproduces"] == result["id"]
    assert new.data.tags["reproduction"].startswith("identical")


def test_a_run_that_differs_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    result = train(["model.width=0.05"], capsys)
    fetch = reproduction.fetch_logged_run

    def other(uri: str, run_id: str) -> reproduction.LoggedRun:
        logged = fetch(uri, run_id)
        curves = {name: dict(curve) for name, curve in logged.curves.items()}
        curves["train/loss"][4] += 1e-6
        return reproduction.LoggedRun(**{**vars(logged), "curves": curves})

    monkeypatch.setattr(reproduction, "fetch_logged_run", other)
    code, verdict = again(result["id"], capsys)
    assert (code, verdict["verdict"], verdict["step"], verdict["metric"]) == (1, "different", 4, "train/loss")
    code, verdict = again(result["id"], capsys, "--tolerance", "1e-5")
    assert (code, verdict["verdict"]) == (0, "within")


def test_comparison_rules() -> None:
    nan = math.nan
    same = {"a": {1: 1.0, 2: nan}, "b": {1: math.inf}}
    assert reproduction.compare_metrics(same, same).kind == "identical"
    assert reproduction.compare_metrics(same, {"a": {1: 1.0}, "b": {1: math.inf}}).step == 2
    assert reproduction.compare_metrics({"a": {1: nan}}, {"a": {1: 0.0}}, tolerance=9.0).kind == "different"
    late_first = reproduction.compare_metrics({"a": {5: 1.0}, "z": {3: 1.0}}, {"a": {5: 2.0}, "z": {3: 2.0}})
    assert (late_first.step, late_first.metric) == (3, "z")
    assert reproduction.compare_metrics({"a": {1: 1.0}}, {"a": {1: 1.25}}, tolerance=0.25).kind == "within"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("model._target_", "os.system", "not a public name"),
        ("optimizer.lr", "${oc.env:HOME}", "must be resolved"),
        ("optimizer.lr", float("nan"), "not a finite number"),
        ("hydra", {"run": 1}, "no such key"),
        ("activation._partial_", True, "no such key"),
    ],
)
def test_a_stored_config_passes_the_door_or_is_refused(key: str, value: object, words: str) -> None:
    tree = bakeoff.compose().model_dump()
    node = tree
    *parents, last = key.split(".")
    for parent in parents:
        node = node[parent]
    node[last] = value
    with pytest.raises(ConfigError, match=words):
        load_frozen(yaml.safe_dump(tree), origin="stored")


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One run of every optimizer and of every net, each trained in a process of its own by `train -m`."""
    place = tmp_path_factory.mktemp("grid")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        whole = ["data.batch_size=86", "trainer.max_epochs=2", "trainer.max_steps=2"]  # L-BFGS takes all images as one batch
        lines = [
            [f"optimizer={','.join(name for name in OPTIMIZERS if name != 'lbfgs')}"],
            ["optimizer=lbfgs", *whole],
            [f"model={','.join(name for name in NETS if name not in LARGER)}"],
            [f"model={','.join(LARGER)}", "data.size=67"],
        ]
        for line in lines:
            assert main(["train", "-m", *TINY, "model.width=0.05", *line]) == 0
        sync_runs(place / "runs")
        yield place


@pytest.mark.slow
@pytest.mark.parametrize(("slot", "name"), [*(("optimizer", name) for name in OPTIMIZERS), *(("model", name) for name in NETS)])
def test_every_optimizer_and_every_net_comes_out_identical(grid: Path, tmp_path: Path, slot: str, name: str) -> None:
    uri = store.default_uri(grid)
    found = bakeoff.runs(f"params.{slot} = '{name}'", uri=uri)
    logged = reproduction.fetch_logged_run(uri, found["id"].iloc[0])
    run = logged.run.replace(**{"tracking.folder": str(tmp_path), "tracking.uri": uri})
    folder = create_run_dir(run, kind="reproduction")
    train_from_dir(folder.path)
    verdict = reproduction.compare_metrics(logged.curves, reproduction.journal_metrics(folder.journal))
    assert verdict.kind == "identical", verdict
    assert verdict.compared > 10


@pytest.mark.slow
def test_two_processes_train_on_the_same_global_batch_and_repeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    plain = ["model.width=0.05", "model.dropout=0"]
    one = train(plain, capsys)
    two = train([*plain, "trainer=ddp", "trainer.devices=2"], capsys)
    for metric in ("train/loss", "val/loss"):
        # The sum over a batch is taken in another order: equal but for rounding.
        assert two["metrics"][metric] == pytest.approx(one["metrics"][metric], rel=1e-4)  # type: ignore[index]
    code, verdict = again(two["id"], capsys)
    assert (code, verdict["verdict"]) == (0, "identical"), verdict
    assert int(bakeoff.runs(f"tags.reproduces = '{two['id']}'")["params.world_size"].iloc[0]) == 2
