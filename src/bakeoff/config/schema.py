"""The typed config of a run, and the kinds of its fields: science, numerics or site.

A `RunConfig` is composed from conf/ and the command line, checked, and frozen into the run's `config.yaml`. Its choices (net,
activation, ...) are component configs: plain mappings with a `_target_`, which only `bakeoff.builders` turns into objects.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from bakeoff.config.choices import describe_target
from bakeoff.config.renamed_targets import recorded_targets
from bakeoff.config.validation_errors import explain_validation_error
from bakeoff.errors import ConfigError


class FieldKind(Enum):
    """What a field affects."""

    SCIENCE = "the result: fingerprinted"
    NUMERICS = "the bits but not the science: logged, and kept by reproduce and resume"
    SITE = "only where a run is trained and what it is called"


SCIENCE, NUMERICS, SITE = FieldKind.SCIENCE, FieldKind.NUMERICS, FieldKind.SITE
ComponentConfig = Annotated[
    dict[str, Any], Field(json_schema_extra={"required": ["_target_"], "properties": {"_target_": {"type": "string"}}})
]


class AddedLater:
    """Marks a field that was added after the first results: the fingerprint omits it at its default."""


ADDED_LATER = AddedLater()


def _check_path(path: str) -> str:
    """Refuse a path that no file system takes."""
    if not path.isprintable() or any(len(name.encode()) > 255 for name in path.split("/")):
        raise ValueError("must be a path of printable characters, with names of at most 255 bytes")
    return path


def _check_duration(text: str) -> str:
    """Refuse what is no time in Lightning's format."""
    if not re.fullmatch(r"\d{1,4}:\d\d:\d\d:\d\d", text, flags=re.ASCII) or not text.strip("0:"):
        raise ValueError("must be days:hours:minutes:seconds in digits, above zero, as in 00:01:30:00; in a file in quotes")
    return text


MAX_COUNT = 2**31 - 1
"""The largest count without a bound of its own."""
MAX_DEVICES, MAX_THREADS, MAX_WORKERS = 64, 1024, 256
"""Devices of a run, threads of a process, and processes that decode images: more are a slip of the keys on any machine."""
MAX_SIDE = 8192
"""Pixels of a side of an image."""
MAX_PATH = 1024
"""Characters of a folder."""
MIN_SYSTEM_EVERY = 0.1
Count = Annotated[int, Field(ge=1, le=MAX_COUNT)]
Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]
FolderPath = Annotated[str, Field(min_length=1, max_length=MAX_PATH), AfterValidator(_check_path)]
Duration = Annotated[str, AfterValidator(_check_duration)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class _Node(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class AugmentConfig(_Node):
    """Random changes of a training image, independent for each image."""

    crop: Annotated[int, Field(ge=0, le=MAX_SIDE)] = 0
    """Pixels of zero padding on each side before a random crop of the trained size; for images in memory."""
    flip: bool = False
    """Whether half of the images are mirrored left to right."""
    scale: Annotated[list[Side], Field(max_length=2), ADDED_LATER] = Field(default_factory=list)
    """For image files: the shorter side to which an image is resized before a random crop: a number, or a range of two."""
    lighting: Annotated[float, Field(ge=0), ADDED_LATER] = 0.0
    """Standard deviation of the PCA lighting noise (Krizhevsky et al. 2012); 0: none."""
    mixup: Annotated[float, Field(ge=0), ADDED_LATER] = 0.0
    """Alpha of mixup's Beta distribution (Zhang et al. 2018); 0: none."""
    cutmix: Annotated[float, Field(ge=0), ADDED_LATER] = 0.0
    """Alpha of CutMix's Beta distribution (Yun et al. 2019); 0: none."""


class EvalViews(_Node):
    """The views of an image that the test scores; an image's scores are averaged over its views."""

    kind: Literal["whole", "ten_crop", "dense"] = "whole"
    """The entire image, ten crops of it, or the net applied densely."""
    flip: bool = False
    """Whether each view is scored mirrored as well."""
    scales: list[Side] = Field(default_factory=list)
    """Shorter sides to which a dense test resizes the image; empty: the trained size."""


class DataConfig(_Node):
    """The images, how they are split, and how they are batched."""

    source: Annotated[ComponentConfig, SCIENCE]
    """The source of the images: a function of bakeoff.data.sources, and its arguments."""
    num_classes: Annotated[int, Field(ge=2, le=MAX_COUNT), SCIENCE]
    """Number of classes."""
    channels: Annotated[Count, SCIENCE]
    """Channels of an image."""
    native_size: Annotated[Side, SCIENCE]
    """Height and width of the dataset's images, in pixels."""
    size: Annotated[Side, SCIENCE] = 32
    """Height and width of the net's training images, in pixels."""
    fit: Annotated[Literal["resize", "pad"], SCIENCE] = "resize"
    """How an image in memory is brought to the trained size."""
    augment: Annotated[AugmentConfig, SCIENCE] = AugmentConfig()
    """Random changes of the training images."""
    normalize: Annotated[bool | Literal["mean"], SCIENCE] = True
    """Whether channels get zero mean and unit variance; `mean` subtracts the mean from pixels of 0..255."""
    batch_size: Annotated[Count, SCIENCE] = 128
    """Images of an optimizer step, over all devices."""
    val_fraction: Annotated[float, Field(gt=0, lt=1), SCIENCE] = 0.1
    """Share of the training images that are held out for validation."""
    split_seed: Annotated[Seed, SCIENCE] = 0
    """Seed of the split into training and validation images."""
    subset: Annotated[Count | None, SCIENCE] = None
    """Number of training and validation images to use together; null: all."""
    folds: Annotated[int | None, Field(ge=2, le=MAX_COUNT), SCIENCE, ADDED_LATER] = None
    """Number of cross-validation folds, which replace `val_fraction`; null: no folds."""
    fold: Annotated[int, Field(ge=0, le=MAX_COUNT), SCIENCE, ADDED_LATER] = 0
    """The fold for validation, counted from 0."""
    views: Annotated[EvalViews, SCIENCE, ADDED_LATER] = EvalViews()
    """The views of an image that the test scores."""
    workers: Annotated[int | None, Field(ge=0, le=MAX_WORKERS), NUMERICS] = None
    """Processes of a rank that decode image files; null: one per core."""
    eval_batch_size: Annotated[Count, NUMERICS] = 512
    """Images of a validation or test batch, per device."""
    root: Annotated[FolderPath, SITE] = "data"
    """Folder of the dataset's files."""
    download: Annotated[bool, SITE] = False
    """Whether missing files are downloaded."""


class PenaltyConfig(_Node):
    """Penalties that training adds to the loss, on the weights subject to weight decay."""

    l1: Annotated[float, Field(ge=0)] = 0.0
    """Factor of the sum of |w|."""
    l2: Annotated[float, Field(ge=0)] = 0.0
    """Factor of half the sum of w^2."""


class TrainerConfig(_Node):
    """Length, precision and devices of the training."""

    max_epochs: Annotated[Count, SCIENCE] = 10
    """Epochs of the training."""
    max_steps: Annotated[Count | None, SCIENCE] = None
    """Optimizer steps after which training ends, even before `max_epochs`; null: no limit."""
    max_time: Annotated[Duration | None, NUMERICS] = None
    """Time after which training ends, days:hours:minutes:seconds over all parts of a resumed run; null: no limit."""
    precision: Annotated[Literal["32-true", "64-true", "bf16-mixed", "bf16-true", "16-mixed"], SCIENCE] = "32-true"
    """Number format of weights and arithmetic, as named by Lightning."""
    accumulate: Annotated[Count, SCIENCE] = 1
    """Micro-batches whose gradients are summed into one optimizer step."""
    clip: Annotated[float | None, Field(gt=0), SCIENCE] = None
    """Maximum norm of the gradient, to which larger ones are clipped; null: none."""
    divergence: Annotated[float | None, Field(gt=1), SCIENCE] = 10.0
    """A run stops as diverged when its loss is not finite or above this multiple of the chance loss; null: it never stops."""
    accelerator: Annotated[Literal["auto", "cpu", "gpu"], NUMERICS] = "auto"
    """Kind of device; auto: a GPU if available."""
    devices: Annotated[int, Field(ge=1, le=MAX_DEVICES), NUMERICS] = 1
    """Number of devices, with a process for each."""
    strategy: Annotated[Literal["auto", "ddp"], NUMERICS] = "auto"
    """Parallel strategy; auto: DistributedDataParallel for more than one device."""
    threads: Annotated[int | None, Field(ge=1, le=MAX_THREADS), NUMERICS] = None
    """CPU threads of a process; null: the cores divided by the devices."""
    deterministic: Annotated[bool, NUMERICS] = True
    """Whether only deterministic algorithms are used."""
    channels_last: Annotated[bool, NUMERICS] = True
    """Whether images and weights have the channels_last memory format."""
    compile: Annotated[bool, NUMERICS] = False
    """Whether the net is compiled by torch.compile."""
    log_every: Annotated[Count, NUMERICS] = 10
    """Optimizer steps between two logged values of the training loss."""
    checkpoint_every: Annotated[Count | None, SITE] = None
    """Optimizer steps between two checkpoints within an epoch; null: checkpoints only after epochs."""
    progress: Annotated[bool, SITE] = True
    """Whether a progress bar is shown."""

    @property
    def is_distributed(self) -> bool:
        """Whether the run is trained by DistributedDataParallel, in processes that torchrun starts."""
        return self.devices > 1 or self.strategy == "ddp"


class TrackingConfig(_Node):
    """Where runs are stored."""

    uri: Annotated[str | None, SITE] = None
    """Address of the MLflow store; null: mlflow.db in the working folder."""
    experiment: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$"), SITE] = "train"
    """The run's MLflow experiment."""
    folder: Annotated[FolderPath, SITE] = "runs"
    """Folder of the run folders."""
    system_every: Annotated[float, Field(ge=MIN_SYSTEM_EVERY), SITE] = 10.0
    """Seconds between two samples of the system metrics."""


class RunConfig(_Node):
    """A run: component configs for the slots, typed nodes for the rest."""

    model: Annotated[ComponentConfig, SCIENCE]
    """The net."""
    activation: Annotated[ComponentConfig, SCIENCE]
    """The activation after each hidden layer."""
    initializer: Annotated[ComponentConfig, SCIENCE]
    """How weights are initialized."""
    optimizer: Annotated[ComponentConfig, SCIENCE]
    """The optimizer."""
    scheduler: Annotated[ComponentConfig, SCIENCE]
    """The learning rate over the steps of the run."""
    loss: Annotated[ComponentConfig, SCIENCE]
    """The loss that training minimizes."""
    penalty: Annotated[PenaltyConfig, SCIENCE, ADDED_LATER] = PenaltyConfig()
    """Penalties that training adds to the loss."""
    data: DataConfig
    """The images."""
    trainer: TrainerConfig = TrainerConfig()
    """Length, precision and devices of the training."""
    tracking: TrackingConfig = TrackingConfig()
    """Where runs are stored."""
    seed: Annotated[Seed, SCIENCE] = 0
    """Seed of the weights, the order of the images, their augmentation, and dropout."""
    test: Annotated[bool, SCIENCE] = False
    """Whether the test set is scored once, at the end."""
    diagnostics: Annotated[Literal["none", "light", "full"], SITE] = "light"
    """The measurements inside the net during training, which never change a run's bits."""
    name: Annotated[str | None, Field(min_length=1, max_length=200, pattern=r"^[^/\x00-\x1f]+$"), SITE] = None
    """The run's name; null: its choices and seed."""
    choices: Annotated[dict[str, str], SITE] = Field(default_factory=dict)
    """Slot -> the name of its choice."""

    @property
    def title(self) -> str:
        """The run's name, or its choices and seed."""
        if self.name is not None:
            return self.name
        words = [self.choices.get(slot, slot) for slot in ("data", "model", "activation", "initializer", "optimizer")]
        return "-".join([*words, f"s{self.seed}"])

    def fields_of_kind(self, kind: FieldKind) -> dict[str, Any]:
        """Return the fields of a kind, nested as in the config."""
        return _fields_of_kind(self, kind)

    def replace(self, **changes: Any) -> RunConfig:
        """Return a checked copy with dotted fields changed: `run.replace(**{"trainer.threads": 1})`."""
        tree = self.model_dump()
        for dotted, value in changes.items():
            node, (*parents, last) = tree, dotted.split(".")
            for parent in parents:
                node = node[parent]
            node[last] = value
        return parse_run_config(tree)

    def flat(self) -> dict[str, Any]:
        """Return every value by its dotted key, in the config's order."""
        return dict(flatten(self.model_dump()))

    def params(self) -> dict[str, Any]:
        """Return what a run logs of its config: its choices, and every value but those of `tracking` by its dotted key."""
        return {**self.choices, **{name: value for name, value in self.flat().items() if not name.startswith(("choices.", "tracking."))}}


def _fields_of_kind(node: BaseModel, kind: FieldKind) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, info in type(node).model_fields.items():
        value = getattr(node, name)
        if kind in info.metadata:
            fields[name] = value.model_dump() if isinstance(value, BaseModel) else value
        elif isinstance(value, BaseModel) and not any(isinstance(item, FieldKind) for item in info.metadata):
            fields[name] = _fields_of_kind(value, kind)
    return fields


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted keys and values of nested mappings; an empty mapping is a value."""
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def fingerprint(run: RunConfig) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of all fields that affect the result.

    Names, folders and devices do not change it, nor do fields and arguments at their default that were added after the first results.
    """
    science = recorded_targets(_without_added(run, run.fields_of_kind(SCIENCE)))
    text = json.dumps(science, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _without_added(node: BaseModel, tree: dict[str, Any]) -> dict[str, Any]:
    """Return the tree of a node without the fields and arguments that were added later and have their default."""
    kept: dict[str, Any] = {}
    for name, value in tree.items():
        info, field = type(node).model_fields[name], getattr(node, name)
        if ADDED_LATER in info.metadata and field == info.get_default(call_default_factory=True):
            continue
        if isinstance(field, BaseModel):
            kept[name] = _without_added(field, value)
        elif isinstance(value, dict):
            kept[name] = without_added(name, value)
        else:
            kept[name] = value
    return kept


def without_added(slot: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a component config without the arguments that were added later and have the value that stands for their absence."""
    added = describe_target(slot, str(config.get("_target_"))).added
    return {key: argument for key, argument in config.items() if key not in added or argument != added[key]}


def parse_run_config(tree: Mapping[str, Any]) -> RunConfig:
    """Return the `RunConfig` of plain mappings.

    Raises:
        ConfigError: For the first wrong key, type or range.
    """
    _check_finite(tree)
    try:
        return RunConfig.model_validate(dict(tree))
    except ValidationError as error:
        raise ConfigError(explain_validation_error(error, RunConfig)) from None


def _check_finite(tree: Mapping[str, Any]) -> None:
    """Raise a ConfigError if there is nan or inf anywhere in the tree."""
    for key, value in flatten(tree):
        for item in value if isinstance(value, list | tuple) else (value,):
            if isinstance(item, float) and not math.isfinite(item):
                raise ConfigError(f"{key}: {item} is not a finite number")
