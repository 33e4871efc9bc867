"""The LightningDataModule: one source, split, resized or padded to the trained size, and batched on the training device."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Literal

import pytorch_lightning as pl
import torch
from torch import Tensor

from bakeoff.data.batches import NO_AUGMENTATION, Augmentation, EvalBatches, Normalizer, TrainBatches
from bakeoff.data.decoding import Decoder
from bakeoff.data.epoch_sampler import BatchPlan, Shard, micro_batch_size
from bakeoff.data.eval_views import FileViews, ImageViews, ViewPlan
from bakeoff.data.file_batches import EvalFiles, FileBatches, LabelledFiles
from bakeoff.data.file_store import FileStore
from bakeoff.data.memory import Fit, channel_moments, choose_placement, fit_images
from bakeoff.data.pca_lighting import ChannelStatistics, Lighting
from bakeoff.data.sources import ImageFiles, Images
from bakeoff.data.splits import SplitSpec, split
from bakeoff.errors import DataError, check_argument

Source = Callable[[], Images | ImageFiles]
_loaded: dict[Hashable, tuple[Images | ImageFiles, str]] = {}


def load_source(source: Source) -> tuple[Images | ImageFiles, str]:
    """Return a source's images, or its list of files, and their digest; the last one is kept: a process and its forks read it once."""
    key: Hashable = source
    if isinstance(source, functools.partial):
        key = (source.func.__module__, source.func.__qualname__, repr(source.args), repr(sorted(source.keywords.items())))
    if key not in _loaded:
        images = source()
        _loaded.clear()
        _loaded[key] = images, images.digest()
    return _loaded[key]


@dataclass(frozen=True)
class InputFormat:
    """The form in which images reach the net.

    Attributes:
        size: Height and width in pixels.
        fit: How images in memory are brought to this size, once, before training.
        normalize: Whether each channel gets zero mean and unit variance, measured on the training split at this size; "mean" takes
            the mean off and keeps the steps of 0..255.
        channels: Channels to which image files are decoded; images in memory have their own.
        channels_last: Whether batches are in torch's channels_last memory format.
    """

    size: int
    fit: Fit
    normalize: bool | Literal["mean"]
    channels: int = 3
    channels_last: bool = False


class ImageDataModule(pl.LightningDataModule):
    """Training, validation and test batches of one image source.

    Images are kept as uint8 on the training device where at most half of its free memory goes for them, else in main memory; image files
    stay on disk and are decoded for every batch.
    Rank, world size and device are those of the attached Trainer; without one: 0, 1 and the CPU. The Trainer needs
    use_distributed_sampler=False, `max_epochs=self.epochs(...)`, no max_steps of its own (Lightning then restarts otherwise), and
    reload_dataloaders_every_n_epochs=1 where max_steps ends within an epoch behind the first.

    To go on in the middle of an epoch: `load_state_dict`, and a fresh Trainer whose epoch counters stand at that epoch. Lightning's
    own restart is not used: it counts batches in ways of its own and leaves validations out.

    Args:
        source: Returns the images.
        input_format: The form in which they reach the net.
        batch_plan: How they are batched.
        split_spec: How they are split.
        augmentation: How training images are varied.
        views: In which views the test scores an image; None for one view.
        workers: Processes that decode image files.
    """

    n_train: int
    n_val: int
    n_test: int
    val_largest_class: int
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
        input_format: InputFormat,
        batch_plan: BatchPlan,
        split_spec: SplitSpec,
        augmentation: Augmentation = NO_AUGMENTATION,
        views: ViewPlan | None = None,
        workers: int = 0,
    ) -> None:
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True  # a rank may have no validation image where there are few
        self.source, self.input_format, self.batch_plan, self.split_spec = source, input_format, batch_plan, split_spec
        self.augmentation, self.views, self._workers = augmentation, views or ViewPlan(), workers
        self.channels = input_format.channels
        self._store: FileStore | None = None
        self._train: TrainBatches | FileBatches | None = None
        self._val: EvalBatches | EvalFiles
        self._resume: dict[str, int] | None = None

    def setup(self, stage: str | None = None) -> None:
        """Load, split, resize or pad, and measure; does nothing the second time.

        Raises:
            ArgumentError: Arguments do not go together, or do not fit the images.
            DataError: The dataset is missing or damaged, or too small for the split or a batch.
        """
        if self._train is not None:
            return
        micro_batch_size(self.batch_plan.batch_size, devices=self._shard.world_size, accumulate=self.batch_plan.accumulate)
        images, self.digest = load_source(self.source)
        train, val = split(images.train_y, self.split_spec)
        self.split_digest = hashlib.sha256(train.numpy().tobytes() + b"|" + val.numpy().tobytes()).hexdigest()
        self.classes, self.n_train, self.n_val, self.n_test = images.classes, len(train), len(val), len(images.test_y)
        self.val_largest_class = int(torch.bincount(images.train_y[val], minlength=len(images.classes)).max())
        self.steps_per_epoch = self.batch_plan.steps_per_epoch(self.n_train)
        self.views.check(size=self.input_format.size, crop=None if isinstance(images, ImageFiles) else self.augmentation.crop)
        if isinstance(images, ImageFiles):
            self._set_up_files(images, train, val)
        else:
            self._set_up_images(images, train, val)

    def _set_up_images(self, images: Images, train: Tensor, val: Tensor) -> None:
        size, augmentation = self.input_format.size, self.augmentation
        rule = "is for image files, which are resized as they are decoded; these images are in memory: use `crop`"
        check_argument("scale", list(augmentation.scale), fits=not augmentation.scale, rule=rule)
        self.channels = images.train_x.shape[1]
        padded_bytes = self.channels * (size + 2 * augmentation.crop) ** 2 * (2 if augmentation.flip else 1)
        need = self.n_train * padded_bytes + (self.n_train + self.n_val) * self.channels * size**2
        self._placement = choose_placement(self._device, need=need)
        train_x, val_x = self._fit(images.train_x[train]), self._fit(images.train_x[val])
        self.mean, self.std = channel_moments(train_x)
        lighting: Lighting | None = None
        if augmentation.lighting:
            statistics = ChannelStatistics(self.channels)
            statistics.add(train_x)
            lighting = Lighting(statistics.covariance, std=augmentation.lighting)
        self._make_normalizer()
        self._val = self._eval_batches(val_x, images.train_y[val])
        self._train = TrainBatches(
            train_x.to(self._placement),
            images.train_y[train].to(self._placement),
            normalizer=self._normalizer,
            plan=self.batch_plan,
            augmentation=augmentation,
            lighting=lighting,
            shard=self._shard,
        )

    def _set_up_files(self, files: ImageFiles, train: Tensor, val: Tensor) -> None:
        input_format, augmentation = self.input_format, self.augmentation
        rule = "is for images in memory; image files are resized and cropped, see `scale`"
        check_argument("crop", augmentation.crop, fits=augmentation.crop == 0, rule=rule)
        check_argument("fit", input_format.fit, fits=input_format.fit == "resize", rule=rule)
        self._store = FileStore(
            decoder=Decoder(channels=self.channels, workers=self._workers, pinned=self._device.type == "cuda"),
            size=input_format.size,
            scale=augmentation.scale,
            eval_batch_size=self.batch_plan.eval_batch_size,
            shard=self._shard,
        )
        paths = [str(files.train[i]) for i in train.tolist()]
        statistics = self._store.channel_statistics(paths, key=(self.digest, self.split_digest), seed=self.split_spec.seed)
        self.mean, self.std = statistics.mean, statistics.std
        self._make_normalizer()
        self._val = self._store.eval_batches(
            LabelledFiles([str(files.train[i]) for i in val.tolist()], files.train_y[val]), normalizer=self._normalizer
        )
        self._train = FileBatches(
            LabelledFiles(paths, files.train_y[train]),
            decoder=self._store.decoder,
            normalizer=self._normalizer,
            plan=self.batch_plan,
            augmentation=augmentation,
            lighting=Lighting(statistics.covariance, std=augmentation.lighting) if augmentation.lighting else None,
            shard=self._shard,
        )

    def _make_normalizer(self) -> None:
        normalize = self.input_format.normalize
        if normalize is True and min(self.std) == 0:
            raise DataError(f"normalize=true: a channel of the {self.n_train} training images is constant: set normalize=false")
        self._normalizer = Normalizer(
            channels=self.channels,
            size=self.input_format.size,
            mean=self.mean if normalize else None,
            # Of pixels scaled to 0..1: this keeps the steps of 0..255.
            std=(1 / 255,) * self.channels if normalize == "mean" else self.std if normalize else None,
            channels_last=self.input_format.channels_last,
            device=self._device,
        )

    @property
    def workers(self) -> int:
        """The number of processes that decode images: 0 for images in memory."""
        return self._store.decoder.workers if self._store is not None else 0

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Resume training at micro-batch `skip` of `epoch`: that epoch's loader yields, and counts, only what remains of it."""
        self._resume = {"epoch": state_dict["epoch"], "skip": state_dict["skip"]}

    def epochs(self, max_epochs: int) -> int:
        """Return how many epochs are begun: `max_epochs`, or fewer where max_steps ends training before."""
        max_steps = self.batch_plan.max_steps
        return max_epochs if max_steps is None else min(max_epochs, math.ceil(max_steps / self.steps_per_epoch))

    def total_steps(self, max_epochs: int) -> int:
        """Return the optimizer steps of the entire training: what a scheduler's length is."""
        steps = max_epochs * self.steps_per_epoch
        return steps if self.batch_plan.max_steps is None else min(steps, self.batch_plan.max_steps)

    def train_dataloader(self) -> TrainBatches | FileBatches:
        """Return this rank's micro-batches, set to the Trainer's epoch: the same object each time, so that reloading costs nothing."""
        assert self._train is not None, "setup comes first"
        if self._resume is not None:
            self._train.resume(**self._resume)
        self._train.set_epoch(self.trainer.current_epoch if self.trainer is not None else 0)
        return self._train

    def val_dataloader(self) -> EvalBatches | EvalFiles:
        """Return this rank's share of the validation images."""
        return self._val

    def test_dataloader(self) -> EvalBatches | EvalFiles | ImageViews | FileViews:
        """Return this rank's share of the test images, which nothing else touches; in several views of each where `views` says so."""
        images, _ = load_source(self.source)
        if isinstance(images, ImageFiles):
            assert self._store is not None, "setup comes first"
            files = LabelledFiles([str(path) for path in images.test], images.test_y)
            if self.views.plain:
                return self._store.eval_batches(files, normalizer=self._normalizer)
            return self._store.views(files, normalizer=self._normalizer, plan=self.views)
        if self.views.plain:
            return self._eval_batches(self._fit(images.test_x), images.test_y)
        return ImageViews(
            self.views.images(
                images.test_x,
                fit=functools.partial(fit_images, fit=self.input_format.fit),
                size=self.input_format.size,
                crop=self.augmentation.crop,
            ),
            images.test_y,
            normalizer=self._normalizer,
            batch_size=self.batch_plan.eval_batch_size,
            shard=self._shard,
        )

    def _eval_batches(self, images: Tensor, labels: Tensor) -> EvalBatches:
        return EvalBatches(
            images.to(self._placement),
            labels.to(self._placement),
            normalizer=self._normalizer,
            batch_size=self.batch_plan.eval_batch_size,
            shard=self._shard,
        )

    def _fit(self, images: Tensor) -> Tensor:
        return fit_images(images, size=self.input_format.size, fit=self.input_format.fit)

    @property
    def _shard(self) -> Shard:
        return Shard(self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else Shard()

    @property
    def _device(self) -> torch.device:
        return self.trainer.strategy.root_device if self.trainer is not None else torch.device("cpu")
