"""The LightningModule of every run: the net, its training and evaluation steps, its meters and its optimizer."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from bakeoff import builders, seeds
from bakeoff.components.losses import chance_loss
from bakeoff.config.schema import RunConfig
from bakeoff.training.metrics import MANY_CLASSES, TOP_K, LossAccuracyMeter
from bakeoff.training.mixup import make_mixing
from bakeoff.training.view_scores import ViewScores, make_view_scores
from bakeoff.training.weight_penalty import make_penalties


class ClassificationModule(pl.LightningModule):
    """Trains and evaluates one net as its run config says.

    Nothing is logged in the step: the meters add up on the device, and the callbacks of `bakeoff.training.callbacks` read them, step the
    schedule, write checkpoints and end the training. What they share is public here.

    Attributes:
        step: Optimizer steps made so far.
        latest_metrics: The last value of every metric.
        best_metrics: `val/loss`, `val/accuracy` and `step` of the best validation so far; empty before the first.
        diverged: Why the run has diverged; None while it has not.
        averaged_weights: The weights of the last validation where they are an average, on the CPU; else None.
        earlier_seconds: How long earlier processes of the run have trained, up to the checkpoint from which this one goes on.
        chance_loss: The loss of a net that gives every class the same score.
    """

    def __init__(self, run: RunConfig, *, total_steps: int, steps_per_epoch: int) -> None:
        """Build the initialized net and the loss.

        Args:
            run: The run's config.
            total_steps: Optimizer steps of the whole training, which a schedule may need.
            steps_per_epoch: Optimizer steps of a whole epoch.
        """
        super().__init__()
        self.run, self.total_steps, self.steps_per_epoch = run, total_steps, steps_per_epoch
        self.net, self.initializer_tags = builders.make_initialized_model(run)
        self.loss = builders.make_loss(run)
        if run.trainer.channels_last:
            self.net.to(memory_format=torch.channels_last)
        if run.trainer.compile:
            self.net.compile()
        self.penalties, self.mixing = make_penalties(run, self.net), make_mixing(run)
        self.step = 0
        self.latest_metrics: dict[str, float] = {}
        self.best_metrics: dict[str, float] = {}
        self.diverged: str | None = None
        self.averaged_weights: dict[str, Tensor] | None = None
        self.chance_loss = chance_loss(self.loss, classes=run.data.num_classes)
        self.images_per_second, self.earlier_seconds = 0.0, 0.0
        self.train_window_meter, self.train_epoch_meter, self.eval_meter = (LossAccuracyMeter() for _ in range(3))
        self.test_prefix = "test"
        self._view_scores: ViewScores | None = None
        self._closure_calls = 0

    def setup(self, stage: str) -> None:
        """Put the meters of training on the training device."""
        device = self.trainer.strategy.root_device
        self.train_window_meter, self.train_epoch_meter = LossAccuracyMeter(device), LossAccuracyMeter(device)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Build the optimizer, and the schedule that `ScheduleStepping` steps."""
        optimizer = builders.make_optimizer(self.run, self.net)
        self.schedule = builders.make_scheduler(self.run, optimizer, total_steps=self.total_steps, steps_per_epoch=self.steps_per_epoch)
        return optimizer

    def trained_weights(self) -> dict[str, Tensor]:
        """Return the weights that are evaluated and exported: the averaged ones where there are any, else those in training."""
        return self.averaged_weights if self.averaged_weights is not None else self.net.state_dict()

    def ends_step(self, batch_idx: int) -> bool:
        """Return whether a micro-batch, counted within the epoch, is the last one of its optimizer step."""
        return (batch_idx + 1) % self.run.trainer.accumulate == 0

    def seed_step(self, *, micro_batch: int) -> None:
        """Seed the pass over one micro-batch of the current step, so that a resumed run draws the same dropout as an uninterrupted one."""
        seeds.seed_global_generators(self.run.seed, "step", self.step, micro_batch, self.global_rank)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed dropout, mixup and all other randomness on the device, and count the evaluations of the loss anew."""
        self.seed_step(micro_batch=batch_idx % self.run.trainer.accumulate)
        self._closure_calls = 0

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the mean loss of one micro-batch, penalties included; Lightning divides it by `trainer.accumulate`.

        Args:
            batch: Images (N, C, S, S) and classes (N,).
            batch_idx: The micro-batch within the epoch.
        """
        images, targets = batch
        if self._closure_calls:  # L-BFGS evaluates one function several times a step: the same one each time, and counted once
            self.seed_step(micro_batch=0)
        if self.mixing is not None:
            images, targets = self.mixing(images, targets)
        scores = self.net(images)
        loss: Tensor = self.loss(scores, targets)
        if not self._closure_calls:
            self.train_window_meter.update(loss, scores, targets)
        self._closure_calls += 1
        return loss if self.penalties is None else loss + self.penalties()

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Make Lightning's optimizer step and count it."""
        super().optimizer_step(*args, **kwargs)
        self.step += 1

    def on_validation_epoch_start(self) -> None:
        """Start a new meter, on the training device."""
        self.eval_meter = LossAccuracyMeter(self.device, top_k=TOP_K if self.run.data.num_classes >= MANY_CLASSES else None)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Score one batch of images (N, C, S, S) and classes (N,)."""
        images, targets = batch
        scores = self.net(images)
        self.eval_meter.update(self.eval_loss(scores, targets), scores, targets)

    def eval_loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of evaluated scores: nan where a score is not finite, for which a hinge loss is 0."""
        loss: Tensor = self.loss(scores, targets)
        return loss + 0.0 * scores.sum(dtype=torch.float64)

    def on_test_epoch_start(self) -> None:
        """Start a new meter, and prepare the views that the test takes of each image."""
        self.on_validation_epoch_start()
        self._view_scores = make_view_scores(self.run, self.net, self.loss)

    def test_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Score one batch, the scores of several views of an image averaged first, and return the predicted classes (N,)."""
        images, targets = batch
        scores = self.net(images) if self._view_scores is None else self._view_scores(images, count=len(targets))
        self.eval_meter.update(self.eval_loss(scores, targets), scores, targets)
        return scores.argmax(1)
