"""What the training step adds to a loss and to a batch: penalties, mixup and cutmix; and an optimizer that looks several times."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from bakeoff import builders
from bakeoff.builders import validate_run
from bakeoff.components.schedulers import Plateau
from bakeoff.config.compose import compose
from bakeoff.config.schema import AugmentConfig, PenaltyConfig, RunConfig
from bakeoff.errors import ConfigError
from bakeoff.run_files import checkpoints
from bakeoff.run_files.run_dir import RunDir
from bakeoff.training.lightning_module import ClassificationModule
from bakeoff.training.metrics import LossAccuracyMeter
from bakeoff.training.mixup import Mixing
from bakeoff.training.reproduction import journal_metrics
from bakeoff.training.run_lifecycle import create_run_dir
from bakeoff.training.run_training import RunResult, train_from_dir
from bakeoff.training.weight_penalty import Penalties

SMALL = ["model.width=0.05", "data.subset=160", "data.batch_size=16", "trainer.max_epochs=2", "trainer.threads=1", "trainer.log_every=1"]


def small(tmp_path: Path, *overrides: str) -> RunConfig:
    return compose([*SMALL, f"tracking.folder={tmp_path}", f"tracking.uri=sqlite:///{tmp_path / 'mlflow.db'}", *overrides])


def trained(tmp_path: Path, *overrides: str) -> tuple[RunDir, RunResult]:
    tmp_path.mkdir(parents=True, exist_ok=True)
    place = create_run_dir(small(tmp_path, *overrides))
    return place, train_from_dir(place.path)


def curve(place: RunDir, name: str) -> list[float]:
    return [value for _, value in sorted(journal_metrics(place.journal)[name].items())]


def batch() -> tuple[Tensor, Tensor]:
    return torch.randn(6, 2, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3, 4, 0])


@pytest.mark.parametrize("last", [False, True])
def test_mixup_is_a_share_of_each_image_and_of_the_one_before_it(last: bool) -> None:
    images, targets = batch()
    torch.manual_seed(3)
    mixed, soft = Mixing(AugmentConfig(mixup=0.7), classes=5, channels_last=last)(images, targets)
    share = float(soft[1, 1])
    assert 0 < share < 1
    torch.testing.assert_close(mixed, share * images + (1 - share) * images.roll(1, 0))
    torch.testing.assert_close(soft, share * torch.eye(5)[targets] + (1 - share) * torch.eye(5)[targets.roll(1)])
    assert mixed.is_contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def test_cutmix_pastes_a_box_whose_area_is_the_share() -> None:
    images, targets = batch()
    torch.manual_seed(4)
    mixed, soft = Mixing(AugmentConfig(cutmix=1.0), classes=5, channels_last=False)(images, targets)
    pasted = (mixed == images.roll(1, 0)).all(1)
    assert torch.equal(torch.where(pasted.unsqueeze(1), images.roll(1, 0), images), mixed)
    assert (pasted == pasted[0]).all() and 0 < int(pasted[0].sum()) < 64
    torch.testing.assert_close(soft[1, 0], pasted[0].float().mean())
    torch.testing.assert_close(soft.sum(1), torch.ones(6))


def test_with_both_on_each_batch_gets_one_of_them_by_the_seed() -> None:
    images, targets = batch()
    mixing = Mixing(AugmentConfig(mixup=1.0, cutmix=1.0), classes=5, channels_last=False)

    def once(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return mixing(images, targets)[0]

    pasted = [bool(((mixed == images) | (mixed == images.roll(1, 0))).all()) for mixed in map(once, range(20))]
    assert 3 < sum(pasted) < 17
    assert torch.equal(once(5), once(5))


def test_accuracy_on_mixed_images_is_that_of_the_larger_target() -> None:
    meter = LossAccuracyMeter(top_k=2)
    scores = torch.tensor([[9.0, 1.0, 5.0], [1.0, 9.0, 5.0], [1.0, 5.0, 9.0]])
    meter.update(torch.tensor(2.0), scores, torch.tensor([[0.7, 0.3, 0.0], [0.6, 0.4, 0.0], [0.2, 0.5, 0.3]]))
    reading = meter.compute()
    assert (reading.loss, reading.accuracy, reading.top_k_accuracy) == pytest.approx((2.0, 1 / 3, 2 / 3))
    assert meter.sums[2] == 3


@pytest.mark.parametrize("loss", ["softmax", "svm", "mse", "bce", "focal"])
def test_every_loss_trains_on_mixed_images(tmp_path: Path, loss: str) -> None:
    mixed = ["data.augment.mixup=0.4", "data.augment.cutmix=1.0", "optimizer.lr=1e-3", "initializer=torch_default"]
    place, result = trained(tmp_path, f"loss={loss}", *mixed)
    losses = curve(place, "train/loss")
    assert result.status == "finished"
    assert sum(losses[-5:]) < sum(losses[:5])


@pytest.mark.parametrize(
    "overrides",
    [
        ["data.augment.mixup=0.4", "data.augment.cutmix=1.0", "penalty.l1=1e-4"],
        pytest.param(["optimizer=muon", "model=vgg11_bn"], marks=pytest.mark.slow),
        pytest.param(["optimizer=soap"], marks=pytest.mark.slow),
        pytest.param(["optimizer=prodigy", "scheduler=one_cycle"], marks=pytest.mark.slow),
        pytest.param(["optimizer=lbfgs", "data.batch_size=144", "trainer.max_epochs=14", "optimizer.max_iter=2"], marks=pytest.mark.slow),
    ],
)
def test_a_stopped_run_goes_on_with_the_same_bits(
    tmp_path: Path, train_until: Callable[[RunDir, int], None], assert_same_bits: Callable[[RunDir, RunDir], None], overrides: list[str]
) -> None:
    uninterrupted, _ = trained(tmp_path, "trainer.checkpoint_every=1", *overrides)
    resumed = create_run_dir(small(tmp_path, "trainer.checkpoint_every=1", *overrides))
    train_until(resumed, 11)
    train_from_dir(resumed.path)
    assert_same_bits(uninterrupted, resumed)


def test_a_penalty_has_its_value_and_its_gradient() -> None:
    w, v = (nn.Parameter(torch.linspace(a, b, 5, dtype=torch.float64)) for a, b in ((-1, 2), (0.5, -3)))
    penalties = Penalties([w, v], PenaltyConfig(l1=0.3, l2=0.7))
    penalty_value = penalties()
    every = torch.cat([w, v]).detach()
    assert penalty_value.item() == pytest.approx(0.3 * float(every.abs().sum()) + 0.35 * float(every.square().sum()), rel=1e-6)
    penalty_value.backward()  # type: ignore[no-untyped-call]
    assert w.grad is not None
    torch.testing.assert_close(w.grad, 0.3 * w.detach().sign() + 0.7 * w.detach())


def test_a_penalty_is_trained_on_and_told_beside_the_loss(tmp_path: Path) -> None:
    options = ["optimizer=sgd", "optimizer.weight_decay=0", "trainer.max_steps=3", "model.dropout=0"]
    plain, _ = trained(tmp_path / "plain", *options)
    place, result = trained(tmp_path / "penalty", *options, "penalty.l2=0.01")
    assert curve(place, "train/loss")[0] == curve(plain, "train/loss")[0]
    assert curve(place, "train/loss")[1] != curve(plain, "train/loss")[1]
    weights = checkpoints.read_model_weights(place.checkpoints)
    known = sum(float(w.double().square().sum()) for name, w in weights.items() if name.endswith("weight")) * 0.005
    assert result.metrics["train/penalty"] == pytest.approx(known, rel=1e-5)
    decayed, _ = trained(tmp_path / "decay", "optimizer=sgd", "optimizer.weight_decay=0.01", "trainer.max_steps=3", "model.dropout=0")
    for name, tensor in checkpoints.read_model_weights(decayed.checkpoints).items():
        torch.testing.assert_close(tensor, weights[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("watch", ["error", "loss"])
def test_a_plateau_is_told_what_it_watches(watch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[float] = []
    monkeypatch.setattr(Plateau, "epoch_end", lambda self, value: told.append(value))
    place, _ = trained(tmp_path, "scheduler=plateau", f"scheduler.watch={watch}")
    expected = curve(place, "val/loss") if watch == "loss" else [1 - accuracy for accuracy in curve(place, "val/accuracy")]
    assert told == expected and len(told) == 2


@pytest.mark.parametrize("wait", [True, False])
def test_a_plateau_at_chance_keeps_its_rate(wait: bool, tmp_path: Path) -> None:
    options = ["scheduler=plateau", "scheduler.patience=0", f"scheduler.wait={wait}", "optimizer.lr=1e-9", "trainer.max_epochs=4"]
    place, _ = trained(tmp_path, *options)
    assert (set(curve(place, "lr")) == {1e-9}) == wait


def test_lbfgs_wants_the_whole_training_set_as_one_batch(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.batch_size=16: LBFGS .* needs all 144 training images as one batch"):
        validate_run(small(tmp_path, "optimizer=lbfgs"))
    with pytest.raises(ConfigError, match=r"trainer\.accumulate=2: LBFGS"):
        validate_run(small(tmp_path, "optimizer=lbfgs", "data.batch_size=144", "trainer.accumulate=2"))
    with pytest.raises(ConfigError, match=r"trainer\.precision=16-mixed: LBFGS"):
        validate_run(small(tmp_path, "optimizer=lbfgs", "data.batch_size=144", "trainer.precision=16-mixed"))
    assert not list(tmp_path.iterdir())


def test_lbfgs_trains_through_lightnings_closure_and_is_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    update = LossAccuracyMeter.update

    def records(self: LossAccuracyMeter, loss: Tensor, scores: Tensor, targets: Tensor) -> None:
        seen.append(len(targets))
        update(self, loss, scores, targets)

    monkeypatch.setattr(LossAccuracyMeter, "update", records)
    options = ["optimizer=lbfgs", "optimizer.max_iter=5", "data.batch_size=144", "data.augment.crop=0", "trainer.max_epochs=3"]
    place, result = trained(tmp_path, *options)
    losses = curve(place, "train/loss")
    assert result.status == "finished" and len(losses) == 3
    assert losses[-1] < 0.9 * losses[0]
    assert seen == [144, 16] * 3  # a training batch and a validation batch an epoch
    state = checkpoints.read_latest_checkpoint(place.checkpoints)
    assert state is not None and state["optimizer"]["state"][0]["func_evals"] > 6


def test_every_evaluation_of_a_step_is_of_one_function(tmp_path: Path) -> None:
    run = small(tmp_path, "data.augment.mixup=0.4", "model.dropout=0.5")
    data = builders.make_data(run)
    data.setup("fit")

    module = ClassificationModule(run, total_steps=1, steps_per_epoch=1)
    module.trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    first = next(iter(data.train_dataloader()))
    module.on_train_batch_start(first, 0)
    losses = [module.training_step(first, 0).item() for _ in range(3)]
    assert losses[0] == losses[1] == losses[2]
    module.step += 1
    module.on_train_batch_start(first, 0)
    assert module.training_step(first, 0).item() != losses[0]
