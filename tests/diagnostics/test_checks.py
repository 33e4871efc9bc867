"""`bakeoff check`: what is wrong is named and makes the exit code 1, what is well is left alone, figures are exact where they can be."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bakeoff.commands.main import main
from bakeoff.config.compose import compose
from bakeoff.diagnostics.checks import check_run, dataset, initialization, optimization
from bakeoff.diagnostics.checks.check_context import CheckContext
from bakeoff.diagnostics.curvature import sharpness, top_eigenvalue
from bakeoff.diagnostics.probe import Probe
from bakeoff.run_files import journal
from bakeoff.run_files.run_dir import find_run_dir

SMALL = ["model.width=0.1", "data.subset=320", "trainer.max_epochs=1", "trainer.threads=1"]

SOURCES = """
import dataclasses
import torch
from bakeoff.data import sources

def shuffled(*, root, download):
    digits = sources.digits(root=root, download=download)
    mixed = [y[torch.randperm(len(y), generator=torch.Generator().manual_seed(0))] for y in (digits.train_y, digits.test_y)]
    return dataclasses.replace(digits, train_y=mixed[0], test_y=mixed[1])

def doubled(*, root, download):
    digits = sources.digits(root=root, download=download)
    test = digits.test_x.clone()
    test[:20] = digits.train_x[:20]
    return dataclasses.replace(digits, test_x=test)
"""


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module with faulty data sources, trusted like a user's module."""
    (tmp_path / "odd_sources.py").write_text(SOURCES)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("BAKEOFF_TRUST", "odd_sources")
    return "odd_sources"


def check(tmp_path: Path, capsys: pytest.CaptureFixture[str], *overrides: str) -> tuple[int, dict[str, dict[str, str]], Path]:
    site = [f"tracking.folder={tmp_path}/runs", f"tracking.uri=sqlite:///{tmp_path}/mlflow.db"]
    code = main(["check", "--json", *SMALL, *site, *overrides])
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    tree = json.loads(out)
    return code, {result["name"]: result for result in tree["findings"]}, Path(tree["folder"])


def test_a_healthy_run_passes_and_is_stored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, results, folder = check(tmp_path, capsys)
    assert code == 0 and not [name for name, result in results.items() if result["state"] == "wrong"]
    assert {"class balance", "duplicates", "normalization", "loss at the start", "activations by depth", "gradients by depth"} <= set(
        results
    )
    assert {"gradient check", "overfit 20 examples", "learning-rate range", "speed", "memory", "time of the whole run"} <= set(results)
    assert results["overfit 20 examples"]["found"].startswith("100 %")
    assert results["loss at the start"]["expected"] == "ln 10 = 2.303"
    lines = [line for line in journal.read_journal(folder / "journal.jsonl") if line["kind"] in ("artifact", "metrics", "end")]
    assert any(line.get("path") == "check" for line in lines) and lines[-1]["status"] == "FINISHED"
    assert {"index.html", "check.json", "learning_rate_range.png"} <= {path.name for path in (folder / "check").iterdir()}
    assert "<script" not in (folder / "check" / "index.html").read_text()
    from bakeoff.tracking import store

    stored = store.resolve_run(f"sqlite:///{tmp_path}/mlflow.db", find_run_dir(tmp_path / "runs", folder.name[-12:]).read_job().id)
    assert stored.data.tags["kind"] == "check" and stored.data.metrics["check/loss_expected"] == pytest.approx(math.log(10))
    assert main(["train", f"resume={folder.name[-12:]}", f"tracking.folder={tmp_path}/runs"]) == 2
    assert "is a check, and trains nothing" in capsys.readouterr().err


def test_vanishing_activations_are_wrong_and_a_remedy_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimization, "OVERFIT_STEPS", 20)
    monkeypatch.setattr(optimization, "RATE_STEPS", 10)
    # The cost of a run is not tested.
    monkeypatch.setattr(check_run, "check_cost", lambda run, measure_cost: iter(()))
    code, results, _ = check(tmp_path, capsys, "initializer=normal", "initializer.std=1e-4", "activation=tanh")
    assert code == 1
    advice = results["activations by depth"]["advice"]
    assert advice.startswith("activations vanish: std falls from") and "try initializer=xavier_normal" in advice
    assert results["gradients by depth"]["state"] == results["overfit 20 examples"]["state"] == "wrong"


def test_a_user_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "optimizer=adamm"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def check_context(*overrides: str) -> CheckContext:
    return CheckContext(compose([*SMALL, *overrides]))


def test_duplicates_across_splits_are_reported(odd: str) -> None:
    by_name = {result.name: result for result in dataset.check_dataset(check_context(f"data.source._target_={odd}.doubled"))}
    assert by_name["duplicates"].state == "wrong" and "duplicate images across splits" in by_name["duplicates"].advice
    assert 0 < by_name["duplicates"].figures["duplicates_test"] <= 20
    assert {result.name: result.state for result in dataset.check_dataset(check_context())}["duplicates"] == "ok"


def test_an_empty_class_and_an_unbalanced_split_are_reported() -> None:
    assert dataset.check_balance(torch.tensor([0, 0, 1]), ("a", "b", "c")).state == "wrong"
    assert dataset.check_balance(torch.tensor([0] * 30 + [1]), ("a", "b")).state == "look"
    assert dataset.check_balance(torch.tensor([0, 1]), ("a", "b")).state == "ok"


@pytest.mark.parametrize(
    ("loss", "words"), [("softmax", "ln 10 = 2.303"), ("svm", "10 - 1 = 9.000"), ("bce", "ln 2 = 0.693"), ("mse", "1 / 10 = 0.100")]
)
def test_the_first_loss_is_compared_with_the_chance_loss(loss: str, words: str) -> None:
    context = check_context(f"loss={loss}")
    assert initialization.describe_chance_loss(context.chance_loss, classes=10).startswith(words)


class Bent(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.tanh()

    @staticmethod
    def backward(ctx: object, *grads: Tensor) -> Tensor:
        return 1.1 * grads[0]


class Wrong(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Bent.apply(x)  # type: ignore[no-any-return]


def test_a_wrong_gradient_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    context = check_context()
    assert [result.state for result in optimization.check_gradients(context)] == ["ok"]
    monkeypatch.setattr("bakeoff.builders.make_activation", lambda run: Wrong)
    (result,) = optimization.check_gradients(check_context())
    assert result.state == "wrong" and "backward is wrong in" in result.advice


def test_sharpness_of_a_quadratic_is_its_top_eigenvalue() -> None:
    basis = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)).Q
    for values in ([0.1, 0.5, 1.0, 2.0, 3.0, 7.5], [-9.0, 0.5, 1.0, 2.0, 3.0, 4.0]):
        matrix = basis @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ basis.T
        eigenvalue = top_eigenvalue(lambda w, m=matrix: 0.5 * w["w"] @ m @ w["w"], {"w": torch.ones(6, dtype=torch.float64)}, seed=0)  # type: ignore[misc]
        assert eigenvalue == pytest.approx(max(values, key=abs), rel=1e-3)


def test_sharpness_of_a_linear_net_is_that_of_its_data() -> None:
    x = torch.randn(32, 5, generator=torch.Generator().manual_seed(0))
    net = nn.Linear(5, 1, bias=False)
    eigenvalue = sharpness(net, nn.MSELoss(), Probe(x, torch.zeros(32, 1)), seed=0)
    assert eigenvalue == pytest.approx(float(torch.linalg.eigvalsh(2 * x.T @ x / 32)[-1]), rel=5e-3)


@pytest.mark.slow
def test_shuffled_labels_end_in_overfitting(odd: str, tmp_path: Path) -> None:
    from bakeoff.training.run_lifecycle import create_run_dir
    from bakeoff.training.run_training import train_from_dir

    site = [f"tracking.folder={tmp_path}/runs", f"tracking.uri=sqlite:///{tmp_path}/mlflow.db", f"data.source._target_={odd}.shuffled"]
    run = ["model.width=0.25", "model.dropout=0", "data.subset=120", "data.batch_size=20", "trainer.max_epochs=30", "trainer.threads=1"]
    site += ["optimizer=adam", "scheduler=constant"]
    folder = create_run_dir(compose([*run, *site]))
    train_from_dir(folder.path)
    tags = [name for line in journal.read_journal(folder.journal) if line["kind"] == "tags" for name in line["values"]]
    assert "diagnosis.overfitting" in tags
