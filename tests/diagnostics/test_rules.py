"""The rules of the diagnoses, on histories written by hand and on healthy and deliberately faulty runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from bakeoff.config.compose import compose
from bakeoff.diagnostics.layer_stats import LayerStats
from bakeoff.diagnostics.probe import measured_steps, probe_size
from bakeoff.diagnostics.rules import RULES, RunHistory, diagnose
from bakeoff.run_files import journal
from bakeoff.training.run_lifecycle import create_run_dir
from bakeoff.training.run_training import train_from_dir

CHANCE_LOSS = 2.303


def history(*, layers: dict[str, dict[str, float]] | None = None, step: int = 0, **curves: dict[int, float]) -> RunHistory:
    measurements = [LayerStats(step, layers)] if layers is not None else []
    named = {name.replace("__", "/"): curve for name, curve in curves.items()}
    return RunHistory(
        chance_loss=CHANCE_LOSS, classes=10, total_steps=100, probe_images=32, divergence_limit=10.0, layer_stats=measurements, curves=named
    )


def healthy_layers(**changes: float) -> dict[str, dict[str, float]]:
    figures = {"gradient_share": 2.0, "gradient_norm": 1.0, "update_ratio": 1e-3, "dead": 0.2, "saturated": 0.1}
    return {name: {**figures, **(changes if name == "02_conv2" else {})} for name in ("01_conv1", "02_conv2", "03_fc1")}


FALLING = {10: 2.2, 50: 1.0, 100: 0.1}
FAULTS = {
    "diverging": history(train__loss={10: 2.3, 20: float("nan")}),
    "lr_too_large": history(layers={name: {"update_ratio": 0.6} for name in ("01_conv1", "02_conv2")}, train__loss={10: 4.0}),
    "exploding_gradients": history(layers=healthy_layers(gradient_share=1e6), train__loss=FALLING),
    "vanishing_gradients": history(layers=healthy_layers(gradient_share=1e-4), train__loss={10: 2.3}),
    "dead_relus": history(layers=healthy_layers(dead=0.9), train__loss=FALLING),
    "saturated": history(layers=healthy_layers(saturated=0.7), train__loss=FALLING),
    "lr_too_small": history(layers={"01_conv1": {"update_ratio": 1e-6}}, step=32, train__loss={10: 7.0, 50: 7.0}),
    "stuck_at_guessing": history(train__epoch_loss={50: 2.31, 100: 2.3}, train__epoch_accuracy={100: 0.1}, train__loss={100: 2.3}),
    "overfitting": history(train__epoch_loss={20: 1.0, 40: 0.5, 60: 0.3, 80: 0.1}, val__loss={20: 1.0, 40: 0.9, 60: 1.3, 80: 1.4}),
}


@pytest.mark.parametrize("name", RULES)
def test_a_fault_is_diagnosed_with_its_value_and_nothing_else(name: str) -> None:
    (diagnosis,) = diagnose(FAULTS[name])
    assert diagnosis.name == name
    assert any(char.isdigit() for char in diagnosis.text) and "\n" not in diagnosis.text


def test_a_successful_run_has_no_diagnosis() -> None:
    run = history(
        layers=healthy_layers(),
        train__loss=FALLING,
        train__epoch_loss={50: 1.5, 100: 0.3},
        train__epoch_accuracy={50: 0.5, 100: 0.9},
        val__loss={50: 1.0, 100: 0.5},
    )
    assert diagnose(run) == []
    assert set(RULES) == set(FAULTS)


HEALTHY = {
    "a short run that has only begun": RunHistory(
        chance_loss=CHANCE_LOSS,
        classes=10,
        total_steps=20,
        probe_images=16,
        layer_stats=[LayerStats(8, healthy_layers())],
        curves={"train/epoch_loss": {20: 2.31}, "train/epoch_accuracy": {20: 0.12}, "train/loss": {10: 2.32, 20: 2.29}},
    ),
    "a long first step and a first loss at guessing": history(layers=healthy_layers(update_ratio=0.9), train__loss={10: 2.31}),
    "few steps of a healthy size": RunHistory(
        chance_loss=CHANCE_LOSS,
        classes=10,
        total_steps=12,
        probe_images=16,
        layer_stats=[LayerStats(4, healthy_layers())],
        curves={"train/loss": {10: 2.3}},
    ),
    "a single worse validation": history(
        train__epoch_loss={20: 1.0, 40: 0.7, 60: 0.5, 80: 0.4}, val__loss={20: 1.0, 40: 0.6, 60: 1.5, 80: 0.5}
    ),
    "a validation loss that rises with the training loss above it": history(
        train__epoch_loss={20: 2.0, 40: 1.9, 60: 1.8, 80: 1.7}, val__loss={20: 1.0, 40: 1.3, 60: 1.4, 80: 1.4}
    ),
}


@pytest.mark.parametrize("run", HEALTHY.values(), ids=list(HEALTHY))
def test_normal_fluctuations_of_healthy_runs_are_not_faults(run: RunHistory) -> None:
    assert diagnose(run) == []


def test_an_early_large_update_of_a_recovering_run_is_not_a_fault() -> None:
    run = history(layers={"01_conv1": {"update_ratio": 3.0}}, train__loss={10: 2.9})
    assert [diagnosis.name for diagnosis in diagnose(run)] == ["lr_too_large"]
    run.layer_stats.append(LayerStats(16, healthy_layers()))
    assert diagnose(run) == []


def test_small_gradients_of_a_trained_net_are_not_a_fault() -> None:
    assert diagnose(history(layers=healthy_layers(gradient_share=1e-6), step=90, train__loss={80: 0.01, 100: 0.009})) == []


def test_the_measured_steps_are_sparse_and_end_with_the_run() -> None:
    assert list(measured_steps(100)) == [0, 1, 2, 4, 8, 16, 32, 64, 100]
    assert list(measured_steps(1)) == [0, 1]
    assert probe_size(400, batch_size=32, micro_batch=32) == 27
    assert probe_size(10, batch_size=32, micro_batch=32) == 16
    assert probe_size(10**6, batch_size=128, micro_batch=128) == 256
    assert probe_size(10**6, batch_size=128, micro_batch=4) == 16


def diagnoses(tmp_path: Path, *overrides: str) -> dict[str, str]:
    site = [f"tracking.folder={tmp_path}", f"tracking.uri=sqlite:///{tmp_path}/mlflow.db", "trainer.threads=1"]
    folder = create_run_dir(compose([*site, *overrides]))
    train_from_dir(folder.path)
    tags = [line["values"] for line in journal.read_journal(folder.journal) if line["kind"] == "tags"]
    return {name.removeprefix("diagnosis."): text for each in tags for name, text in each.items() if name.startswith("diagnosis.")}


TINY = ["model.width=0.1", "trainer.max_epochs=2", "data.subset=640"]
PROVOKED = {
    "zeros": (["initializer=zeros"], {"vanishing_gradients", "dead_relus", "stuck_at_guessing"}),
    "normal 1e-4 with tanh": (["initializer=normal", "initializer.std=1e-4", "activation=tanh"], {"vanishing_gradients"}),
    "lr 100": (["optimizer.lr=100"], {"diverging", "lr_too_large"}),
    "lr 1e-7": (["optimizer.lr=1e-7"], {"lr_too_small"}),
    "wide normal": (
        ["initializer=normal", "initializer.std=1.0", "trainer.divergence=null", "optimizer.lr=1e-12"],
        {"exploding_gradients"},
    ),
    "wide normal with tanh": (["initializer=normal", "initializer.std=1.0", "activation=tanh"], {"saturated"}),
}


@pytest.mark.parametrize(("overrides", "names"), PROVOKED.values(), ids=list(PROVOKED))
def test_a_provoked_fault_is_diagnosed(tmp_path: Path, overrides: list[str], names: set[str]) -> None:
    assert names <= set(diagnoses(tmp_path, *TINY, *overrides))


@pytest.mark.slow
def test_a_stack_of_sigmoids_is_diagnosed(tmp_path: Path) -> None:
    evidence = diagnoses(tmp_path, "model=vgg11", "model.width=0.1", "activation=sigmoid", "trainer.max_epochs=2")
    assert {"vanishing_gradients", "stuck_at_guessing"} <= set(evidence)


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        ["model.width=0.5"],
        ["optimizer=adam"],
        ["activation=tanh", "initializer=xavier_normal"],
        ["model=vgg11_bn", "model.width=0.1"],
        ["optimizer=schedule_free_adamw", "activation=gelu"],
    ],
    ids=" ".join,
)
def test_a_healthy_run_has_no_diagnosis(tmp_path: Path, overrides: list[str]) -> None:
    assert diagnoses(tmp_path, "model.width=0.25", "trainer.max_epochs=6", *overrides) == {}
