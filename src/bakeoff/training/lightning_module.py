"""The LightningModule of every run: the net, its training and evaluation steps, its meters and its optimizer."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from bakeoff import builders, seeds
from bakeoff.components.losses import Focal, chance_loss
from bakeoff.components.optimizers import decayed_parameters
from bakeoff.config.schema import EvalViews, PenaltyConfig, RunConfig
from bakeoff.nets.fully_convolutional import to_fully_convolutional
from bakeoff.training.metrics import MANY_CLASSES, TOP_K, LossAccuracyMeter
from bakeoff.training.mixup import Mixing
from bakeoff.training.view_scores import ViewScores
from bakeoff.training.weight_penalty import Penalties


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
        weights = decayed_parameters(self.net, decay_all=bool(run.optimizer.get("decay_all", False)))
        self.penalties = Penalties(weights, run.penalty) if run.penalty != PenaltyConfig() else None
        augment, classes = run.data.augment, run.data.num_classes
        mixes = augment.mixup or augment.cutmix
        self.mixing = Mixing(augment, classes=classes, channels_last=run.trainer.channels_last) if mixes else None
        self.step = 0
        self.latest_metrics: dict[str, float] = {}
        self.best_metrics: dict[str, float] = {}
        self.diverged: str | None = None
        self.averaged_weights: dict[str, Tensor] | None = None
        self.chance_loss = chance_loss(self.loss, classes=classes)
        self.images_per_second = 0.0
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
        """Seed torch, numpy and Python for one pass of the current step.

        As every pass is seeded anew, no generator's state has to be saved: a resumed run draws the same dropout as an uninterrupted one.

        Args:
            micro_batch: The micro-batch within the step.
        """
        step_seed = seeds.derive_seed(self.run.seed, "step", self.step, micro_batch, self.global_rank)
        torch.manual_seed(step_seed)
        random.seed(step_seed)
        np.random.seed(step_seed % 2**32)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Count the evaluations of the loss anew."""
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
        self.eval_meter.update(self.loss(scores, targets), scores, targets)

    def on_test_epoch_start(self) -> None:
        """Start a new meter, and prepare the views that the test takes of each image."""
        self.on_validation_epoch_start()
        views, size = self.run.data.views, self.run.data.size
        if views != EvalViews():
            softmax = isinstance(self.loss, nn.CrossEntropyLoss | Focal)
            net = to_fully_convolutional(self.net) if views.kind == "dense" else self.net
            self._view_scores = ViewScores(net, views, size=size, probabilities=softmax)

    def test_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Score one batch, the scores of several views of an image averaged first, and return the predicted classes (N,)."""
        images, targets = batch
        scores = self.net(images) if self._view_scores is None else self._view_scores(images, count=len(targets))
        self.eval_meter.update(self.loss(scores, targets), scores, targets)
        return scores.argmax(1)
