"""The LightningModule of every run: the step, the sums behind the curves, validation, divergence, and what a checkpoint holds."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import Tensor, nn

from bakeoff import builders, seeds
from bakeoff.components.losses import Focal
from bakeoff.components.optimizers import decayed_parameters
from bakeoff.config.schema import EvalViews, PenaltyConfig, RunConfig
from bakeoff.data.epoch_sampler import EpochSampler
from bakeoff.nets.fully_convolutional import to_fully_convolutional
from bakeoff.training.metrics import MANY_CLASSES, TOP, LossAccuracyMeter
from bakeoff.training.mixup import Mixing
from bakeoff.training.test_views import ViewScores
from bakeoff.training.weight_averaging import Averaging, switches
from bakeoff.training.weight_penalty import Penalties

Report = Callable[[dict[str, float], int], None]


class Keeper(Protocol):
    """What writes checkpoints: called on every rank after each optimizer step, and after each epoch's validation."""

    def step(self, task: ClassificationModule) -> None: ...
    def epoch(self, task: ClassificationModule) -> None: ...


class ClassificationModule(pl.LightningModule):
    """Trains one net as its run says. Calls `report(values, step)` on rank 0 for every point of a curve, and `keep` where a
    checkpoint may be written.

    Randomness inside the net (dropout) is seeded from (seed, step, micro-batch, rank) before every step, so that no generator state has to
    be saved. Nothing is logged through Lightning in the step: sums stay on the device and are read every `trainer.log_every` steps.

    `train/loss` is the data's loss alone, of mixed images where they are mixed; `train/penalty` stands beside it.
    """

    def __init__(
        self,
        run: RunConfig,
        *,
        total_steps: int,
        steps_per_epoch: int,
        report: Report,
        keep: Keeper,
        state: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.run, self.total_steps, self.steps_per_epoch = run, total_steps, steps_per_epoch
        self.report, self.keep, self.state = report, keep, state
        self.net, self.facts = builders.make_initialized_model(run)
        self.loss = builders.make_loss(run)
        if state is not None:
            self.net.load_state_dict(state.get("training", state["net"]))
        if run.trainer.channels_last:
            self.net.to(memory_format=torch.channels_last)
        if run.trainer.compile:
            self.net.compile()
        weights = decayed_parameters(self.net, decay_all=bool(run.optimizer.get("decay_all", False)))
        self.penalties = Penalties(weights, run.penalty) if run.penalty != PenaltyConfig() else None
        mixed, last = run.data.augment.mixup or run.data.augment.cutmix, run.trainer.channels_last
        self.mixing = Mixing(run.data.augment, classes=run.data.num_classes, channels_last=last) if mixed else None
        self.averaging: Averaging | None = None
        self.evaluations = 0
        self.step = int(state["step"]) if state else 0
        self.micro = int(state["micro"]) if state else 0
        self.latest: dict[str, float] = dict(state["metrics"]) if state else {}
        self.best: dict[str, float] = dict(state["best"]) if state else {}
        self.diverged: str | None = state["diverged"] if state else None
        self.judged: dict[str, Tensor] | None = None
        self.guessing = float(self.loss(torch.zeros(run.data.num_classes, run.data.num_classes), torch.arange(run.data.num_classes)))
        self.window, self.epoch, self.evaluation = LossAccuracyMeter(), LossAccuracyMeter(), LossAccuracyMeter()
        self.views: ViewScores | None = None
        self.window_loss = math.nan
        self.clock, self.clock_images, self.speed = 0.0, 0.0, 0.0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimizer, and the schedule that this module steps itself, both taken up where the checkpoint left them."""
        optimizer = builders.make_optimizer(self.run, self.net)
        self.schedule = builders.make_scheduler(self.run, optimizer, total_steps=self.total_steps, steps_per_epoch=self.steps_per_epoch)
        if self.state is not None:
            optimizer.load_state_dict(self.state["optimizer"])
            self.schedule.load_state_dict(self.state["schedule"])
        if switches(optimizer):
            averaged = self.state["net"] if self.state is not None and "training" in self.state else None
            self.averaging = Averaging(self.net, optimizer, weights=averaged)
        return optimizer

    def on_fit_start(self) -> None:
        """Sums on the training device; ranks that were started with different configs stop here."""
        self.window, self.epoch = LossAccuracyMeter(self.device), LossAccuracyMeter(self.device)
        if self.state is not None:
            self.window.values += self.state["window"].to(self.window.values.device) * float(self.trainer.is_global_zero)
            self.epoch.values += self.state["sums"].to(self.epoch.values.device) * float(self.trainer.is_global_zero)
            scaler = getattr(self.trainer.precision_plugin, "scaler", None)
            if scaler is not None and self.state.get("scaler"):
                scaler.load_state_dict(self.state["scaler"])
        if dist.is_available() and dist.is_initialized():
            texts: list[str | None] = [None] * dist.get_world_size()
            dist.all_gather_object(texts, self.run.model_dump_json())
            if len(set(texts)) != 1:
                raise RuntimeError("the ranks were started with different configs")

    def on_train_epoch_start(self) -> None:
        """The clock of images/s leaves validation out."""
        self.clock, self.clock_images = time.perf_counter(), 0.0

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """A step that nothing has evaluated yet."""
        self.evaluations = 0
        self.sow()

    def sow(self) -> None:
        """All randomness of this step from (seed, step, micro-batch, rank)."""
        number = seeds.derive_seed(self.run.seed, "step", self.step, self.micro, self.global_rank)
        torch.manual_seed(number)
        random.seed(number)
        np.random.seed(number % 2**32)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The mean loss of one micro-batch; Lightning divides it by `trainer.accumulate`."""
        images, targets = batch
        if self.evaluations:  # L-BFGS looks at one function several times a step: the same one each time, and counted once
            self.sow()
        self.evaluations += 1
        if self.mixing is not None:
            images, targets = self.mixing(images, targets)
        scores = self.net(images)
        loss: Tensor = self.loss(scores, targets)
        if self.evaluations == 1:
            self.window.add(loss, scores, targets)
            self.clock_images += targets.shape[0] * self.trainer.world_size
        return loss if self.penalties is None else loss + self.penalties()

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Lightning's step, then the schedule's."""
        super().optimizer_step(*args, **kwargs)
        self.schedule.step()
        self.step += 1
        self.micro = -1

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """A point of the training curves every `trainer.log_every` steps and at the end of every epoch."""
        stepped = self.micro == -1
        self.micro += 1
        if not stepped:
            return
        if self.step % self.run.trainer.log_every == 0 or self.step % self.steps_per_epoch == 0 or self.step == self.total_steps:
            self.flush()
        self.keep.step(self)

    def flush(self) -> None:
        """Read the window's sums, report them, and stop where the loss is no number any more."""
        loss, accuracy, _ = self.window.means()
        self.epoch.values += self.window.values
        self.window.values.zero_()
        self.window_loss = loss
        lapse = time.perf_counter() - self.clock
        values = {"train/loss": loss, "train/accuracy": accuracy, "lr": float(self.optimizers().param_groups[0]["lr"])}  # type: ignore[union-attr]
        if self.penalties is not None:
            values["train/penalty"] = float(self.penalties().detach())
        self.latest.update(values)
        self.speed = self.clock_images / lapse
        self.clock, self.clock_images = time.perf_counter(), 0.0
        self.tell(values | {"images_per_second": self.speed})
        if self.run.trainer.divergence is not None and not math.isfinite(loss):
            self.stop(f"train/loss is {loss} at step {self.step}")

    def on_validation_start(self) -> None:
        """The weights that are evaluated, where they are not those in training."""
        if self.averaging is not None:
            loader = self.trainer.train_dataloader
            assert isinstance(loader, EpochSampler)
            self.averaging.enter(loader, self.trainer.precision_plugin)

    def on_validation_end(self) -> None:
        """The weights in training."""
        if self.averaging is not None:
            self.averaging.leave()

    def weights(self) -> dict[str, Tensor]:
        """The trained net's: those of the last validation where they are an average, else those in training."""
        averaged = self.averaging.weights if self.averaging is not None else None
        return averaged if averaged is not None else self.net.state_dict()

    def on_validation_epoch_start(self) -> None:
        """Fresh sums."""
        self.evaluation = LossAccuracyMeter(self.device, top=TOP if self.run.data.num_classes >= MANY_CLASSES else 0)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Adds one batch to the sums."""
        images, targets = batch
        scores = self.net(images)
        self.evaluation.add(self.loss(scores, targets), scores, targets)

    def on_validation_epoch_end(self) -> None:
        """The epoch's figures: validation, and the means over the epoch's training steps."""
        loss, accuracy, _ = self.evaluation.means()
        values = {"val/loss": loss, "val/accuracy": accuracy} | self.ranked("val")
        if self.trainer.state.fn == "fit":
            train_loss, train_accuracy, _ = self.epoch.means()
            self.epoch.values.zero_()
            values |= {"train/epoch_loss": train_loss, "train/epoch_accuracy": train_accuracy, "epoch": float(self.current_epoch + 1)}
        self.latest.update(values)
        if not self.best or accuracy > self.best["val/accuracy"]:
            self.best = {"val/loss": loss, "val/accuracy": accuracy, "step": float(self.step)}
        self.tell(values)
        if hasattr(self.schedule, "epoch_end"):
            self.schedule.epoch_end(loss if getattr(self.schedule, "watch", "error") == "loss" else 1 - accuracy)
        limit = self.run.trainer.divergence
        if limit is not None and self.window_loss > limit * self.guessing:
            guess = f"{limit:g} times the loss of guessing, {self.guessing:.3g}"
            self.stop(f"train/loss is {self.window_loss:.3g} at step {self.step}, over {guess}")

    def on_train_epoch_end(self) -> None:
        """Validation is done: the state at the start of the next epoch can be kept."""
        self.keep.epoch(self)

    def on_test_epoch_start(self) -> None:
        """Fresh sums, and the views that the test takes of an image."""
        self.on_validation_epoch_start()
        if self.judged is not None or self.averaging is not None:
            self.net.load_state_dict(self.judged or self.weights())
        if self.run.data.views != EvalViews():
            softmax = isinstance(self.loss, nn.CrossEntropyLoss | Focal)
            self.views = ViewScores(
                self.net, self.run.data.views, size=self.run.data.size, probabilities=softmax, slide=to_fully_convolutional
            )

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Adds one batch to the sums; the scores of several views of an image are averaged first."""
        if self.views is None:
            self.validation_step(batch, batch_idx)
            return
        scaled, targets = batch
        scores = self.views(scaled, count=len(targets))
        self.evaluation.add(self.loss(scores, targets), scores, targets)

    def ranked(self, part: str) -> dict[str, float]:
        """The accuracy within the best scores, where it is counted."""
        return {f"{part}/top{TOP}_accuracy": self.evaluation.top_accuracy} if self.evaluation.top else {}

    def on_test_epoch_end(self) -> None:
        """The test set's figures."""
        loss, accuracy, _ = self.evaluation.means()
        part = "test" if self.judged is None else "test_best"
        values = {f"{part}/loss": loss, f"{part}/accuracy": accuracy} | self.ranked(part)
        self.latest.update(values)
        # One number a run and no curve: at step 0 MLflow's chart page compares the runs by bars.
        self.tell(values, step=0)

    def tell(self, values: dict[str, float], *, step: int | None = None) -> None:
        """Report a point on rank 0, at the present step where none is given."""
        if self.trainer.is_global_zero:
            self.report(values, self.step if step is None else step)

    def stop(self, reason: str) -> None:
        """End the fit: the run has diverged."""
        self.diverged = self.diverged or reason
        self.trainer.should_stop = True

    def checkpoint(self, *, epoch: int, skip: int) -> dict[str, Any]:
        """What a process needs to go on from here with the same bits: at micro-batch `skip` of `epoch`. Collective: every rank calls it."""
        window, epoch_sums = self.window.values.clone(), self.epoch.values.clone()
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(window)
            dist.all_reduce(epoch_sums)
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        return {
            "net": self.weights(),
            **({"training": self.net.state_dict()} if self.averaging is not None else {}),
            "optimizer": self.optimizers().optimizer.state_dict(),  # type: ignore[union-attr]
            "schedule": self.schedule.state_dict(),
            "scaler": scaler.state_dict() if scaler is not None else None,
            "epoch": epoch,
            "skip": skip,
            "step": self.step,
            "micro": self.micro,
            "window": window.cpu(),
            "sums": epoch_sums.cpu(),
            "metrics": self.latest,
            "best": self.best,
            "diverged": self.diverged,
        }
