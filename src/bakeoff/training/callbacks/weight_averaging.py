"""The callback for optimizers that train one set of weights and evaluate another."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.plugins import Precision
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from bakeoff.data.epoch_sampler import EpochSampler
from bakeoff.training.lightning_module import ClassificationModule

BATCH_NORM_IMAGES = 2048
"""Training images, over all ranks, on which batch norm's statistics are measured anew."""


def has_eval_mode(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether an optimizer has `train()` and `eval()`, as schedule-free ones do."""
    return all(callable(getattr(optimizer, name, None)) for name in ("train", "eval"))


class ScheduleFreeAveraging(pl.Callback):
    """Validates a schedule-free optimizer at its averaged weights, and restores the training weights to the bit; idle for all others.

    Batch norm's running statistics belong to the weights in training: for the averaged ones they are measured anew on the first
    training batches of the run (Izmailov et al., arXiv:1803.05407, section 3.2; Defazio et al., arXiv:2405.15682, say the same of
    schedule-free). Which batches is a function of the seed alone, so that a resumed run measures the same. `optimizer.train()` alone
    would restore the weights with rounding errors.
    """

    def __init__(self) -> None:
        """Hold no weights yet."""
        self._training_state: dict[str, Tensor] = {}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the optimizer in training mode."""
        optimizer: Any = trainer.optimizers[0]
        if has_eval_mode(optimizer):
            optimizer.train()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the averaged weights into the net."""
        assert isinstance(pl_module, ClassificationModule)
        if has_eval_mode(trainer.optimizers[0]):
            loader = trainer.train_dataloader
            assert isinstance(loader, EpochSampler)
            pl_module.averaged_weights = self.swap_in(pl_module.net, trainer.optimizers[0], loader, trainer.precision_plugin)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the training weights back."""
        assert isinstance(pl_module, ClassificationModule)
        if has_eval_mode(trainer.optimizers[0]):
            self.swap_out(pl_module.net, trainer.optimizers[0])

    def swap_in(self, net: nn.Module, optimizer: Any, loader: EpochSampler, precision: Precision) -> dict[str, Tensor]:
        """Put the averaged weights into the net, with batch norm statistics of their own.

        Args:
            net: The net; its state is kept for `swap_out`.
            optimizer: The schedule-free optimizer of the net.
            loader: This rank's training batches, which stay as they are.
            precision: The precision at which the net computes.

        Returns:
            A copy of the net's averaged state on the CPU.
        """
        # Lightning evaluates in inference mode, whose tensors no later step could train on.
        with torch.inference_mode(False), torch.no_grad():
            self._training_state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
            optimizer.eval()
            norms = [module for module in net.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
            if norms:
                with precision.val_step_context():
                    update_bn((precision.convert_input(images) for images in first_training_images(loader)), net)
                for norm in norms:
                    average_over_ranks(norm.running_mean, norm.running_var)
            return {name: tensor.cpu().clone() for name, tensor in net.state_dict().items()}

    def swap_out(self, net: nn.Module, optimizer: Any) -> None:
        """Put the weights and statistics in training back as they were."""
        with torch.inference_mode(False), torch.no_grad():
            optimizer.train()
            for name, tensor in net.state_dict().items():
                tensor.copy_(self._training_state[name])
        self._training_state = {}


def first_training_images(loader: EpochSampler) -> Iterator[Tensor]:
    """Yield this rank's images (n, C, S, S) of the first training batches of epoch 0, wherever training is."""
    first_epoch = copy.copy(loader)
    first_epoch.resume(epoch=-1, skip=0)
    first_epoch.set_epoch(0)
    batches = math.ceil(BATCH_NORM_IMAGES / (first_epoch.micro * first_epoch.shard.world_size))
    return (images for images, _ in itertools.islice(first_epoch, batches))


def average_over_ranks(*statistics: Tensor | None) -> None:
    """Replace each tensor by its mean over the ranks."""
    if dist.is_available() and dist.is_initialized():
        for tensor in statistics:
            if tensor is not None:
                dist.all_reduce(tensor)
                tensor.div_(dist.get_world_size())
