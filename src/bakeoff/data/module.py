"""The LightningDataModule: one source, split, fitted to the trained size, and given out in batches on the training device."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable, Hashable
from typing import Literal

import psutil
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional

from bakeoff.data.batches import EvalBatches, Pixels, TrainBatches, micro_batch_size
from bakeoff.data.sources import Images
from bakeoff.data.splits import split
from bakeoff.errors import ChoiceError, DataError

Fit = Literal["resize", "pad"]
_loaded: dict[Hashable, tuple[Images, str]] = {}


def load(source: Callable[[], Images]) -> tuple[Images, str]:
    """A source's images and their digest; the last source is kept, so that a process (and its forked children) reads it once."""
    key: Hashable = source
    if isinstance(source, functools.partial):
        key = (source.func.__module__, source.func.__qualname__, repr(source.args), repr(sorted(source.keywords.items())))
    if key not in _loaded:
        images = source()
        _loaded.clear()
        _loaded[key] = images, images.digest()
    return _loaded[key]


def fitted(images: Tensor, *, size: int, fit: Fit) -> Tensor:
    """uint8[N, C, H, W] -> uint8[N, C, size, size]: resized (bilinear, antialiased) or padded with zeros all around, centred.

    Errors: ChoiceError where fit=pad has to shrink, or fit is neither.
    """
    height, width = images.shape[-2:]
    if (height, width) == (size, size):
        return images
    if fit == "pad":
        if max(height, width) > size:
            raise ChoiceError(f"data.fit=pad: images of {height}x{width} do not fit into data.size={size}: use data.fit=resize")
        top, left = (size - height) // 2, (size - width) // 2
        return functional.pad(images, (left, size - width - left, top, size - height - top))
    if fit != "resize":
        raise ChoiceError(f"data.fit={fit}: must be one of resize, pad")
    out = torch.empty(*images.shape[:2], size, size, dtype=torch.uint8)
    for start in range(0, len(images), 1024):  # in parts: the float copies are four times the bytes
        part = images[start : start + 1024].float()
        out[start : start + 1024] = functional.interpolate(part, size=(size, size), mode="bilinear", antialias=True).round().clamp(0, 255)
    return out


def moments(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and (population) standard deviation per channel of uint8[N, C, H, W], scaled to 0..1; exact, from integer counts."""
    value = torch.arange(256, dtype=torch.int64)
    means, stds = [], []
    for channel in range(images.shape[1]):
        counts = torch.bincount(images[:, channel].flatten(), minlength=256)
        n, total, squares = int(counts.sum()), int((counts * value).sum()), int((counts * value * value).sum())
        means.append(total / n / 255)
        stds.append(math.sqrt(n * squares - total * total) / n / 255)
    return tuple(means), tuple(stds)


def home(device: torch.device, *, need: int) -> torch.device:
    """Where the images live: on the CUDA device where `need` bytes take at most half of its free memory, else in main memory.

    Errors: DataError where main memory is too small as well.
    """
    if device.type == "cuda" and need <= torch.cuda.mem_get_info(device)[0] // 2:
        return device
    free = psutil.virtual_memory().available
    if need > free:
        raise DataError(
            f"data.size, data.subset: the images need {need / 2**30:.1f} GiB at this size and {free / 2**30:.1f} GiB of memory are free: "
            "lower one of the two"
        )
    return torch.device("cpu")


class ImageData(pl.LightningDataModule):
    """Training, validation and test batches of one image source.

    source: gives the images. size, fit: the trained size and how images get there, once, before training. crop, flip, batch_size
    (global), accumulate: see TrainBatches. normalize: to zero mean and unit variance per channel, measured on the training split
    at the trained size. val_fraction, split_seed, subset, folds, fold: see splits.split. seed: of order and augmentation. eval_batch_size:
    per device. max_steps: optimizer steps after which training ends; it shortens the last epoch, so that validation follows it.

    The images live as uint8 on the training device where at most half of its free memory goes for them, else in main memory.
    Rank, world size and device are those of the attached Trainer; without one: 0, 1 and the CPU. The Trainer needs
    use_distributed_sampler=False, `max_epochs=self.epochs(...)`, no max_steps of its own (Lightning then restarts otherwise), and
    reload_dataloaders_every_n_epochs=1 where max_steps ends within an epoch behind the first.

    To go on in the middle of an epoch: `load_state_dict`, and a fresh Trainer whose epoch counters stand at that epoch. Lightning's
    own restart is not used: it counts batches in ways of its own and leaves validations out.

    Errors: DataError, ChoiceError from `setup`, which name the key.
    """

    n_train: int
    n_val: int
    n_test: int
    steps_per_epoch: int
    channels: int
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digest: str
    split_digest: str

    def __init__(
        self,
        source: Callable[[], Images],
        *,
        size: int,
        fit: Fit,
        crop: int,
        flip: bool,
        normalize: bool,
        batch_size: int,
        accumulate: int,
        val_fraction: float,
        split_seed: int,
        subset: int | None,
        seed: int,
        folds: int | None = None,
        fold: int = 0,
        eval_batch_size: int = 512,
        channels_last: bool = False,
        max_steps: int | None = None,
    ) -> None:
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True  # a rank may have no validation image where there are few
        self.source, self.size, self.fit, self.crop, self.flip, self.normalize = source, size, fit, crop, flip, normalize
        self.batch_size, self.accumulate, self.eval_batch_size = batch_size, accumulate, eval_batch_size
        self.val_fraction, self.split_seed, self.subset, self.seed = val_fraction, split_seed, subset, seed
        self.folds, self.fold = folds, fold
        self.channels_last, self.max_steps = channels_last, max_steps
        self._train: TrainBatches | None = None
        self._resume: dict[str, int] | None = None

    def setup(self, stage: str | None = None) -> None:
        """Load, split, fit and measure; does nothing the second time."""
        if self._train is not None:
            return
        micro_batch_size(self.batch_size, devices=self._world, accumulate=self.accumulate)
        images, self.digest = load(self.source)
        train, val = split(
            images.train_y,
            val_fraction=self.val_fraction,
            seed=self.split_seed,
            subset=self.subset,
            folds=self.folds,
            fold=self.fold,
        )
        self.split_digest = hashlib.sha256(train.numpy().tobytes() + b"|" + val.numpy().tobytes()).hexdigest()
        self.classes, self.n_train, self.n_val, self.n_test = images.classes, len(train), len(val), len(images.test_y)
        self.steps_per_epoch = self.n_train // self.batch_size
        if self.steps_per_epoch == 0:
            raise DataError(
                f"data.batch_size={self.batch_size}: is larger than the {self.n_train} training images (see data.subset, data.val_fraction)"
            )
        self.channels = images.train_x.shape[1]
        cut = self.channels * (self.size + 2 * self.crop) ** 2 * (2 if self.flip else 1)
        self._home = home(self._device, need=self.n_train * cut + (self.n_train + self.n_val) * self.channels * self.size**2)
        train_x = fitted(images.train_x[train], size=self.size, fit=self.fit)
        val_x = fitted(images.train_x[val], size=self.size, fit=self.fit)
        self.mean, self.std = moments(train_x)
        if self.normalize and min(self.std) == 0:
            raise DataError(f"data.normalize=true: a channel of the {self.n_train} training images is constant: set data.normalize=false")
        self._pixels = Pixels(
            channels=self.channels,
            size=self.size,
            mean=self.mean if self.normalize else None,
            std=self.std if self.normalize else None,
            channels_last=self.channels_last,
            device=self._device,
        )
        self._val = self._eval_batches(val_x, images.train_y[val])
        self._train = TrainBatches(
            train_x.to(self._home),
            images.train_y[train].to(self._home),
            pixels=self._pixels,
            batch_size=self.batch_size,
            seed=self.seed,
            crop=self.crop,
            flip=self.flip,
            accumulate=self.accumulate,
            rank=self._rank,
            world=self._world,
            max_steps=self.max_steps,
        )

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Take up training at micro-batch `skip` of `epoch`: that epoch's loader gives, and counts, only what remains of it."""
        self._resume = {"epoch": state_dict["epoch"], "skip": state_dict["skip"]}

    def epochs(self, max_epochs: int) -> int:
        """How many epochs are begun: `max_epochs`, or fewer where max_steps ends training before."""
        return max_epochs if self.max_steps is None else min(max_epochs, math.ceil(self.max_steps / self.steps_per_epoch))

    def total_steps(self, max_epochs: int) -> int:
        """Optimizer steps of the whole training: what a scheduler's length is."""
        steps = max_epochs * self.steps_per_epoch
        return steps if self.max_steps is None else min(steps, self.max_steps)

    def train_dataloader(self) -> TrainBatches:
        """This rank's micro-batches, standing at the Trainer's epoch: the same object each time, so that reloading costs nothing."""
        assert self._train is not None, "setup comes first"
        if self._resume is not None:
            self._train.resume(**self._resume)
        self._train.set_epoch(self.trainer.current_epoch if self.trainer is not None else 0)
        return self._train

    def val_dataloader(self) -> EvalBatches:
        """This rank's share of the validation images."""
        return self._val

    def test_dataloader(self) -> EvalBatches:
        """This rank's share of the test images, which nothing else touches."""
        images, _ = load(self.source)
        return self._eval_batches(fitted(images.test_x, size=self.size, fit=self.fit), images.test_y)

    def _eval_batches(self, images: Tensor, labels: Tensor) -> EvalBatches:
        return EvalBatches(
            images.to(self._home),
            labels.to(self._home),
            pixels=self._pixels,
            batch_size=self.eval_batch_size,
            rank=self._rank,
            world=self._world,
        )

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer is not None else 0

    @property
    def _world(self) -> int:
        return self.trainer.world_size if self.trainer is not None else 1

    @property
    def _device(self) -> torch.device:
        return self.trainer.strategy.root_device if self.trainer is not None else torch.device("cpu")
