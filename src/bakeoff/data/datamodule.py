"""The LightningDataModule: one source, split, fitted to the trained size, and given out in batches on the training device."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable, Hashable, Sequence
from typing import Literal

import pytorch_lightning as pl
import torch
from torch import Tensor

from bakeoff.data.batches import EvalBatches, Normalizer, TrainBatches, micro_batch_size
from bakeoff.data.eval_views import FileViews, ImageViews, ViewPlan
from bakeoff.data.file_batches import EvalFiles, FileBatches
from bakeoff.data.file_store import FileStore
from bakeoff.data.memory import Fit, fitted, home, moments
from bakeoff.data.pca_lighting import ChannelStatistics, Lighting
from bakeoff.data.sources import ImageFiles, Images
from bakeoff.data.splits import split
from bakeoff.errors import ChoiceError, DataError

__all__ = ["Fit", "ImageDataModule", "fitted", "home", "load_source", "moments"]

Source = Callable[[], Images | ImageFiles]
_loaded: dict[Hashable, tuple[Images | ImageFiles, str]] = {}


def load_source(source: Source) -> tuple[Images | ImageFiles, str]:
    """A source's images, or its list of files, and their digest; the last one is kept: a process and its forks read it once."""
    key: Hashable = source
    if isinstance(source, functools.partial):
        key = (source.func.__module__, source.func.__qualname__, repr(source.args), repr(sorted(source.keywords.items())))
    if key not in _loaded:
        images = source()
        _loaded.clear()
        _loaded[key] = images, images.digest()
    return _loaded[key]


class ImageDataModule(pl.LightningDataModule):
    """Training, validation and test batches of one image source.

    source: gives the images. size, fit: the trained size and how images get there, once, before training. crop, flip, batch_size
    (global), accumulate: see TrainBatches. normalize: to zero mean and unit variance per channel, measured on the training split
    at the trained size; "mean" takes the mean off and keeps the steps of 0..255. val_fraction, split_seed, subset, folds, fold: see
    splits.split. seed: of order and augmentation. eval_batch_size: per device. lighting: the std of PCA lighting, off at 0. scale,
    workers, channels: of image files, see FileStore. views: how the test looks at an image. max_steps: optimizer steps after which
    training ends; it shortens the last epoch, so that validation follows it.

    Images live as uint8 on the training device where at most half of its free memory goes for them, else in main memory; image files
    stay on disk and are decoded for every batch.
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
        source: Source,
        *,
        size: int,
        fit: Fit,
        crop: int,
        flip: bool,
        normalize: bool | Literal["mean"],
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
        lighting: float = 0.0,
        scale: Sequence[int] = (),
        views: ViewPlan | None = None,
        channels: int = 3,
        workers: int = 0,
    ) -> None:
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True  # a rank may have no validation image where there are few
        self.source, self.size, self.fit, self.crop, self.flip, self.normalize = source, size, fit, crop, flip, normalize
        self.batch_size, self.accumulate, self.eval_batch_size = batch_size, accumulate, eval_batch_size
        self.val_fraction, self.split_seed, self.subset, self.seed = val_fraction, split_seed, subset, seed
        self.folds, self.fold = folds, fold
        self.channels_last, self.max_steps = channels_last, max_steps
        self.lighting, self.scale, self.views, self._workers = lighting, scale, views or ViewPlan(), workers
        self.channels = channels
        self._store: FileStore | None = None
        self._train: TrainBatches | FileBatches | None = None
        self._val: EvalBatches | EvalFiles
        self._resume: dict[str, int] | None = None

    def setup(self, stage: str | None = None) -> None:
        """Load, split, fit and measure; does nothing the second time."""
        if self._train is not None:
            return
        micro_batch_size(self.batch_size, devices=self._world, accumulate=self.accumulate)
        images, self.digest = load_source(self.source)
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
        self.views.check(size=self.size, crop=None if isinstance(images, ImageFiles) else self.crop)
        if isinstance(images, ImageFiles):
            self._set_up_files(images, train, val)
        else:
            self._set_up_images(images, train, val)

    def _set_up_images(self, images: Images, train: Tensor, val: Tensor) -> None:
        if self.scale:
            raise ChoiceError(
                f"data.augment.scale={list(self.scale)}: is for image files, which are resized as they are decoded; these images are in "
                "memory: use data.augment.crop"
            )
        self.channels = images.train_x.shape[1]
        cut = self.channels * (self.size + 2 * self.crop) ** 2 * (2 if self.flip else 1)
        self._home = home(self._device, need=self.n_train * cut + (self.n_train + self.n_val) * self.channels * self.size**2)
        train_x = fitted(images.train_x[train], size=self.size, fit=self.fit)
        val_x = fitted(images.train_x[val], size=self.size, fit=self.fit)
        self.mean, self.std = moments(train_x)
        covariance: Tensor | None = None
        if self.lighting:
            tally = ChannelStatistics(self.channels)
            tally.add(train_x)
            covariance = tally.covariance
        self._make_pixels()
        self._val = self._eval_batches(val_x, images.train_y[val])
        self._train = TrainBatches(
            train_x.to(self._home),
            images.train_y[train].to(self._home),
            pixels=self._pixels,
            batch_size=self.batch_size,
            seed=self.seed,
            crop=self.crop,
            flip=self.flip,
            lighting=Lighting(covariance, std=self.lighting) if covariance is not None else None,
            accumulate=self.accumulate,
            rank=self._rank,
            world=self._world,
            max_steps=self.max_steps,
        )

    def _set_up_files(self, files: ImageFiles, train: Tensor, val: Tensor) -> None:
        if self.crop or self.fit != "resize":
            name, value = ("augment.crop", str(self.crop)) if self.crop else ("fit", self.fit)
            raise ChoiceError(f"data.{name}={value}: is for images in memory; image files are resized and cut, see data.augment.scale")
        self._store = FileStore(
            size=self.size,
            scale=self.scale,
            channels=self.channels,
            workers=self._workers,
            eval_batch_size=self.eval_batch_size,
            rank=self._rank,
            world=self._world,
            pinned=self._device.type == "cuda",
        )
        paths = [str(files.train[i]) for i in train.tolist()]
        tally = self._store.tally(paths, key=(self.digest, self.split_digest), seed=self.split_seed)
        self.mean, self.std = tally.mean, tally.std
        self._make_pixels()
        self._val = self._store.evaluation([str(files.train[i]) for i in val.tolist()], files.train_y[val], pixels=self._pixels)
        self._train = FileBatches(
            paths,
            files.train_y[train],
            decoder=self._store.decoder,
            pixels=self._pixels,
            size=self.size,
            side=self._store.side,
            batch_size=self.batch_size,
            seed=self.seed,
            flip=self.flip,
            lighting=Lighting(tally.covariance, std=self.lighting) if self.lighting else None,
            accumulate=self.accumulate,
            rank=self._rank,
            world=self._world,
            max_steps=self.max_steps,
        )

    def _make_pixels(self) -> None:
        if self.normalize is True and min(self.std) == 0:
            raise DataError(f"data.normalize=true: a channel of the {self.n_train} training images is constant: set data.normalize=false")
        self._pixels = Normalizer(
            channels=self.channels,
            size=self.size,
            mean=self.mean if self.normalize else None,
            # Of pixels scaled to 0..1: this keeps the steps of 0..255.
            std=(1 / 255,) * self.channels if self.normalize == "mean" else self.std if self.normalize else None,
            channels_last=self.channels_last,
            device=self._device,
        )

    @property
    def workers(self) -> int:
        """Processes that decode images: 0 for images in memory."""
        return self._store.decoder.workers if self._store is not None else 0

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

    def train_dataloader(self) -> TrainBatches | FileBatches:
        """This rank's micro-batches, standing at the Trainer's epoch: the same object each time, so that reloading costs nothing."""
        assert self._train is not None, "setup comes first"
        if self._resume is not None:
            self._train.resume(**self._resume)
        self._train.set_epoch(self.trainer.current_epoch if self.trainer is not None else 0)
        return self._train

    def val_dataloader(self) -> EvalBatches | EvalFiles:
        """This rank's share of the validation images."""
        return self._val

    def test_dataloader(self) -> EvalBatches | EvalFiles | ImageViews | FileViews:
        """This rank's share of the test images, which nothing else touches; in several views of each where `views` says so."""
        images, _ = load_source(self.source)
        if isinstance(images, ImageFiles):
            assert self._store is not None, "setup comes first"
            paths = [str(path) for path in images.test]
            if self.views.plain:
                return self._store.evaluation(paths, images.test_y, pixels=self._pixels)
            return self._store.views(paths, images.test_y, pixels=self._pixels, plan=self.views)
        if self.views.plain:
            return self._eval_batches(fitted(images.test_x, size=self.size, fit=self.fit), images.test_y)
        return ImageViews(
            self.views.images(images.test_x, fit=functools.partial(fitted, fit=self.fit), size=self.size, crop=self.crop),
            images.test_y,
            pixels=self._pixels,
            batch_size=self.eval_batch_size,
            rank=self._rank,
            world=self._world,
        )

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
