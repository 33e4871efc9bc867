"""Optimizers that train at one point and are evaluated at another: the switch between the two, and statistics for the second."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning.plugins import Precision
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from bakeoff.data.epoch_sampler import EpochSampler

IMAGES = 2048
"""Training images, over all ranks, from which batch-norm statistics are measured anew."""


def switches(optimizer: torch.optim.Optimizer) -> bool:
    """Whether an optimizer has `train()` and `eval()`, as schedule-free ones do."""
    return all(callable(getattr(optimizer, name, None)) for name in ("train", "eval"))


class Averaging:
    """Puts the averaged weights of a schedule-free optimizer into the net for an evaluation, and the training ones back, to the bit.

    Batch norm's running statistics belong to the weights in training: for the averaged ones they are measured anew on the first
    training batches of the run (Izmailov et al., arXiv:1803.05407, section 3.2; Defazio et al., arXiv:2405.15682, say the same of
    schedule-free). Which batches is a function of the seed alone, so that a resumed run measures the same. `weights` are the net's
    last averaged weights and statistics, on the CPU: what is exported. `optimizer.train()` alone would go back with rounding errors.
    """

    def __init__(self, net: nn.Module, optimizer: Any, *, weights: dict[str, Tensor] | None) -> None:
        self.net, self.optimizer, self.weights = net, optimizer, weights
        self.training: dict[str, Tensor] = {}
        optimizer.train()

    def enter(self, loader: EpochSampler, precision: Precision) -> None:
        """The averaged weights, with statistics of their own."""
        # Lightning evaluates in inference mode, whose tensors no later step could train on.
        with torch.inference_mode(False), torch.no_grad():
            self.training = {name: tensor.clone() for name, tensor in self.net.state_dict().items()}
            self.optimizer.eval()
            norms = [module for module in self.net.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
            if norms:
                with precision.val_step_context():
                    update_bn((precision.convert_input(images) for images in first_images(loader)), self.net)
                for norm in norms:
                    shared(norm.running_mean, norm.running_var)
            self.weights = {name: tensor.cpu().clone() for name, tensor in self.net.state_dict().items()}

    def leave(self) -> None:
        """The weights and statistics in training, as they were."""
        with torch.inference_mode(False), torch.no_grad():
            self.optimizer.train()
            for name, tensor in self.net.state_dict().items():
                tensor.copy_(self.training[name])
        self.training = {}


def first_images(loader: EpochSampler) -> Iterator[Tensor]:
    """This rank's images of the first training batches of the first epoch, wherever training is."""
    fresh = copy.copy(loader)
    fresh.resume(epoch=-1, skip=0)
    fresh.set_epoch(0)
    return (images for images, _ in itertools.islice(fresh, math.ceil(IMAGES / (fresh.micro * fresh.world))))


def shared(*statistics: Tensor | None) -> None:
    """Replace each by its mean over the ranks."""
    if dist.is_available() and dist.is_initialized():
        for tensor in statistics:
            if tensor is not None:
                dist.all_reduce(tensor)
                tensor.div_(dist.get_world_size())
