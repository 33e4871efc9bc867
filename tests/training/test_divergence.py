"""A net whose scores or weights are not finite has diverged, whatever its loss says of it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from bakeoff.commands.main import main
from bakeoff.config.compose import compose
from bakeoff.training.lightning_module import ClassificationModule
from bakeoff.training.run_lifecycle import create_run_dir
from bakeoff.training.run_training import RunResult, train_from_dir

SMALL = ["model.width=0.05", "data.subset=320", "trainer.max_epochs=2", "trainer.threads=1", "trainer.accelerator=cpu", "diagnostics=none"]


def train(tmp_path: Path, *overrides: str) -> RunResult:
    run = compose([*SMALL, "optimizer=sgd", "scheduler=constant", f"tracking.folder={tmp_path}", *overrides])
    return train_from_dir(create_run_dir(run).path)


@pytest.mark.parametrize("loss", ["svm", "softmax"])
def test_a_net_of_nans_has_diverged(loss: str, tmp_path: Path) -> None:
    result = train(tmp_path, f"loss={loss}", "optimizer.lr=1e30")
    assert result.status == "diverged" and ("val/loss is nan" in result.reason or "train/loss is" in result.reason), result.reason
    assert not math.isfinite(result.metrics.get("val/loss", math.nan))


def test_without_a_limit_the_score_is_still_no_number(tmp_path: Path) -> None:
    result = train(tmp_path, "loss=svm", "optimizer.lr=1e30", "trainer.divergence=null")
    assert result.status == "finished" and math.isnan(result.metrics["val/loss"])


def test_finite_scores_keep_the_bits_of_their_loss() -> None:
    run = compose([*SMALL, "loss=svm"])
    module = ClassificationModule(run, total_steps=10, steps_per_epoch=5)
    scores, targets = torch.randn(32, 10, generator=torch.Generator().manual_seed(0)), torch.arange(32) % 10
    assert module.eval_loss(scores, targets).double() == module.loss(scores, targets).double()
    assert module.loss(scores * math.nan, targets) == 0, "else this test says nothing"
    for bad in (math.nan, math.inf, -math.inf):
        scores[3, 4] = bad
        assert module.eval_loss(scores, targets).isnan()


@pytest.mark.slow
def test_a_sweep_on_the_loss_does_not_choose_the_diverged_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rates.yaml").write_text(
        "question: Does the sweep prefer a net that works?\n"
        "factors: {optimizer: [sgd, momentum]}\n"
        "metric: val/loss\n"
        "tune: {optimizer.lr: {choices: [0.01, 1e30]}}\n"
        "budget: {sampler: grid, studies: 1, choose: best}\n"
        "confirm: {seeds: 2, max_seeds: 2}\n"
        "fixed: {loss: svm, model.width: 0.05, data.subset: 320, trainer.max_epochs: 2, trainer.accelerator: cpu, diagnostics: none}\n"
    )
    assert main(["sweep", "rates.yaml", "budget.points=2", "workers=1", "--json"]) == 0
    tree = json.loads(capsys.readouterr().out)
    for arm in tree["cells"]:
        assert arm["diverged"] == 1 and arm["setting"]["optimizer.lr"] == 0.01, arm
