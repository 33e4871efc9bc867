"""The diagnostics callback: no bit of a run changes, a resumed run continues it, and its figures are those of a plain computation."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from bakeoff.config.compose import compose
from bakeoff.diagnostics.callback import DiagnosticsCallback
from bakeoff.diagnostics.layer_stats import LayerStats, load_layer_stats
from bakeoff.diagnostics.post_training import ValidationPredictions, reliability_curve
from bakeoff.run_files import checkpoints, journal
from bakeoff.run_files.run_dir import RunDir
from bakeoff.training.lightning_module import ClassificationModule
from bakeoff.training.reproduction import compare_metrics, journal_metrics
from bakeoff.training.run_lifecycle import create_run_dir
from bakeoff.training.run_training import train_from_dir

SMALL = ["model.width=0.05", "data.subset=160", "data.batch_size=32", "trainer.max_epochs=2", "trainer.threads=1", "trainer.log_every=3"]


def folder(parent: Path, *overrides: str) -> RunDir:
    parent.mkdir(parents=True, exist_ok=True)
    return create_run_dir(compose([*SMALL, f"tracking.folder={parent}", f"tracking.uri=sqlite:///{parent}/mlflow.db", *overrides]))


def state(run: RunDir) -> dict[str, torch.Tensor]:
    checkpoint = checkpoints.read_latest_checkpoint(run.checkpoints)
    assert checkpoint is not None
    tensors = dict(checkpoint["net"]) | {f"training {name}": tensor for name, tensor in checkpoint.get("training", {}).items()}
    for slot, entry in checkpoint["optimizer"]["state"].items():
        tensors |= {f"{slot} {name}": torch.as_tensor(value) for name, value in entry.items()}
    return tensors


def metrics(run: RunDir) -> dict[tuple[str, int], float]:
    """Every value of the diagnostics by name and step; a value written twice is an error."""
    values: dict[tuple[str, int], float] = {}
    for line in journal.read_journal(run.journal):
        if line["kind"] == "metrics":
            for name, value in line["values"].items():
                assert (name, line["step"]) not in values, f"{name} is logged twice at step {line['step']}"
                values[name, line["step"]] = float(value)
    return {key: value for key, value in values.items() if key[0].startswith("layers/")}


NETS = [
    ["model=vgg11_bn", "model.dropout=0.5", "optimizer=schedule_free_adamw", "model.width=0.02"],
    ["optimizer=adam", "activation=rrelu", "trainer.accumulate=2", "trainer.clip=1.0", "data.augment.crop=2", "data.augment.mixup=0.2"],
]


@pytest.mark.parametrize(
    "overrides",
    [pytest.param(NETS[0], id="bn dropout schedule-free"), pytest.param(NETS[1], id="rrelu accumulate clip mixup", marks=pytest.mark.slow)],
)
def test_no_bit_of_a_run_changes(tmp_path: Path, overrides: list[str]) -> None:
    runs = {level: folder(tmp_path / level, *overrides, f"diagnostics={level}") for level in ("none", "light", "full")}
    results = {level: train_from_dir(run.path) for level, run in runs.items()}
    for level in ("light", "full"):
        assert results[level].metrics == results["none"].metrics
        bare, diagnosed = state(runs["none"]), state(runs[level])
        assert bare.keys() == diagnosed.keys()
        assert [name for name, tensor in bare.items() if not torch.equal(tensor, diagnosed[name])] == []
        comparison = compare_metrics(journal_metrics(runs["none"].journal), journal_metrics(runs[level].journal))
        assert comparison.kind == "identical" and comparison.compared > 20
    assert not metrics(runs["none"]) and not (runs["none"].path / "diagnostics").exists()
    assert metrics(runs["light"]).items() <= metrics(runs["full"]).items()
    assert any("sharpness" in name for name, _ in metrics(runs["full"]))
    text = (runs["full"].path / "diagnostics" / "index.html").read_text()
    for title in ("Sharpness", "Confusion", "Calibration", "First filters", "Loss landscape", "Outputs by layer", "Weights by layer"):
        assert f"<h2>{title}</h2>" in text


def test_reliability_is_the_share_of_right_predictions_by_confidence() -> None:
    probabilities = torch.tensor([[0.9, 0.1]] * 10 + [[0.45, 0.55]] * 4)
    labels = torch.tensor([0] * 8 + [1] * 2 + [1] * 3 + [0])
    curve = reliability_curve(ValidationPredictions(probabilities, labels, []))
    assert list(curve) == pytest.approx([0.55, 0.9]) and list(curve.values()) == pytest.approx([0.75, 0.8])


class Died(BaseException):
    """Stands in for a process that is gone."""


def stop_at(patch: pytest.MonkeyPatch, *, step: int) -> None:
    """Let the process that trains be gone at a step."""
    training_step = ClassificationModule.training_step

    def stopping(self: ClassificationModule, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        if self.step == step:
            raise Died
        return training_step(self, batch, batch_idx)

    patch.setattr(ClassificationModule, "training_step", stopping)


@pytest.mark.parametrize("stop", [1, 4, 6])
def test_a_resumed_run_continues_its_diagnostics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int) -> None:
    options = ["trainer.checkpoint_every=1", "initializer=normal", "activation=tanh"]
    uninterrupted, resumed = folder(tmp_path / "uninterrupted", *options), folder(tmp_path / "resumed", *options)
    train_from_dir(uninterrupted.path)
    with monkeypatch.context() as patch:
        stop_at(patch, step=stop)
        with pytest.raises(Died):
            train_from_dir(resumed.path)
    train_from_dir(resumed.path)
    assert metrics(resumed) == metrics(uninterrupted)
    assert {step for _, step in metrics(uninterrupted)} == {0, 1, 2, 4, 8}
    pages = [(run.path / "diagnostics" / "index.html").read_text() for run in (uninterrupted, resumed)]
    assert pages[0] == pages[1]
    lines = [(run.path / "diagnostics" / "readings.jsonl").read_text() for run in (uninterrupted, resumed)]
    assert lines[0] == lines[1]
    tags = [
        name for line in journal.read_journal(resumed.journal) if line["kind"] == "tags" for name in line["values"] if "diagnosis" in name
    ]
    assert len(tags) == len(set(tags)) > 0


@pytest.mark.parametrize("hook", ["on_train_end", "on_fit_end"])
def test_a_run_killed_after_its_last_step_keeps_its_last_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hook: str) -> None:
    uninterrupted, resumed = folder(tmp_path / "uninterrupted"), folder(tmp_path / "resumed")
    train_from_dir(uninterrupted.path)

    def die(self: DiagnosticsCallback, *_: object) -> None:
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(DiagnosticsCallback, hook, die)
        with pytest.raises(Died):
            train_from_dir(resumed.path)
    train_from_dir(resumed.path)
    assert metrics(resumed) == metrics(uninterrupted)
    lines = [(run.path / "diagnostics" / "readings.jsonl").read_text() for run in (uninterrupted, resumed)]
    assert lines[0] == lines[1] and [json.loads(line)["step"] for line in lines[0].splitlines()] == [0, 1, 2, 4, 8]


def test_a_resumed_older_run_keeps_the_names_of_its_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = folder(tmp_path, "trainer.checkpoint_every=1")
    with monkeypatch.context() as patch:
        stop_at(patch, step=3)
        with pytest.raises(Died):
            train_from_dir(run.path)
    run.journal.write_text(run.journal.read_text().replace('"layers/', '"within/'))
    train_from_dir(run.path)
    names = {name for line in journal.read_journal(run.journal) if line["kind"] == "metrics" for name in line["values"]}
    assert not [name for name in names if name.startswith("layers/")]
    assert {"within/gradient_norm/01_conv1", "within/update_ratio/08_fc3"} <= names


def test_layer_statistics_of_an_older_run_are_read(tmp_path: Path) -> None:
    file = tmp_path / "readings.jsonl"
    file.write_text('{"step":2,"layers":{"01_conv1":{"dead":0.25}},"more":{"sharpness":3.5}}\n{"step":4,"layers":{},"mo')
    assert load_layer_stats(file, last_step=9) == [LayerStats(2, {"01_conv1": {"dead": 0.25}}, {"sharpness": 3.5})]
    assert load_layer_stats(file, last_step=1) == []


def test_a_page_is_self_contained_and_shows_every_layer(tmp_path: Path) -> None:
    run = folder(tmp_path, "activation=tanh")
    train_from_dir(run.path)
    text = (run.path / "diagnostics" / "index.html").read_text()
    assert len(text) < 100_000
    assert not re.findall(r"(?:src|href)=\"(?!data:)", text) and "<script" not in text
    for layer in ("01_conv1", "05_conv5", "08_fc3"):
        assert f">{layer}</th>" in text
    for title in ("activation std", "saturated", "gradient norm", "update ratio"):
        assert f"<h2>{title}</h2>" in text
    assert "<h2>dead</h2>" not in text
    artifacts = [line["path"] for line in journal.read_journal(run.journal) if line["kind"] == "artifact"]
    assert artifacts.count("diagnostics/index.html") == 1


BENT = """
import torch

class Tangent(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.tanh()

    @staticmethod
    def backward(ctx, g):
        return g * (1 - ctx.saved_tensors[0].tanh() ** 2)

class Old(torch.nn.Module):
    def forward(self, x):
        return Tangent.apply(x)
"""


def test_a_failing_diagnostic_is_skipped_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "odd_activations.py").write_text(BENT)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("BAKEOFF_TRUST", "odd_activations")
    options = ["activation=tanh", "activation._target_=odd_activations.Old", "trainer.max_steps=4"]
    bare, full = (folder(tmp_path / level, *options, f"diagnostics={level}") for level in ("none", "full"))
    results = [train_from_dir(run.path) for run in (bare, full)]
    assert results[1].status == "finished" and results[0].metrics == results[1].metrics
    err = capsys.readouterr().err
    assert err.count("diagnostics skip sharpness: RuntimeError: ") == 1 and "Traceback" not in err
    text = (full.path / "diagnostics" / "index.html").read_text()
    assert "<h2>Skipped</h2>" in text and "<b>sharpness</b>: RuntimeError" in text and "<h2>Confusion</h2>" in text
    tags = {name for line in journal.read_journal(full.journal) if line["kind"] == "tags" for name in line["values"]}
    assert "diagnostics.left_out.sharpness" in tags
    assert any("gradient_norm" in name for name, _ in metrics(full))


@pytest.mark.parametrize(
    ("resumed", "part"),
    [
        ("callback.trace_layers", "layers"),
        ("layer_stats.activation_stats", "activations"),
        ("layer_stats.gradient_stats", "gradients"),
        ("layer_stats.update_stats", "updates"),
        ("callback.diagnose", "diagnoses"),
    ],
)
def test_a_failing_part_does_not_end_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], resumed: str, part: str
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise ValueError("not to be measured\nmore of it")

    monkeypatch.setattr(f"bakeoff.diagnostics.{resumed}", fails)
    run = folder(tmp_path, "trainer.max_steps=3", "data.subset=64")
    assert train_from_dir(run.path).status == "finished"
    warnings = [line for line in capsys.readouterr().err.splitlines() if "diagnostics skip" in line]
    assert len(warnings) == 1 and warnings[0].endswith(f"diagnostics skip {part}: ValueError: not to be measured")
    assert f"<b>{part}</b>: ValueError" in (run.path / "diagnostics" / "index.html").read_text()


def test_gradients_and_updates_are_those_of_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = folder(tmp_path, "optimizer=sgd", "optimizer.lr=0.125", "optimizer.weight_decay=0", "trainer.max_steps=3", "scheduler=constant")
    steps: list[dict[str, Any]] = []
    optimizer_step = ClassificationModule.optimizer_step

    def recording(self: ClassificationModule, *args: Any, **kwargs: Any) -> None:
        before = {name: weight.detach().clone() for name, weight in self.net.named_parameters()}
        optimizer_step(self, *args, **kwargs)
        steps.append({name: ((before[name] - w.detach()).norm() / 0.125, before[name].norm()) for name, w in self.net.named_parameters()})

    monkeypatch.setattr(ClassificationModule, "optimizer_step", recording)
    train_from_dir(run.path)
    lines = [json.loads(line) for line in (run.path / "diagnostics" / "readings.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 1, 2, 3]
    for line, step in zip(lines[:3], steps, strict=True):
        for layer, name in (("01_conv1", "features.0.weight"), ("08_fc3", "classifier.6.weight")):
            gradient, weight = (float(figure) for figure in step[name])
            assert line["layers"][layer]["gradient_norm"] == pytest.approx(gradient, rel=1e-3)
            assert line["layers"][layer]["weight_norm"] == pytest.approx(weight, rel=1e-4)
            assert line["layers"][layer]["update_ratio"] == pytest.approx(0.125 * gradient / weight, rel=1e-3)
