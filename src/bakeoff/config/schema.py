"""What one run is: the typed trunk, and which of its fields are science, numerics or site.

A `Run` is read from conf/ and the command line, checked, and frozen into the run's `config.yaml`. Its choices (net, activation, ...)
are leaves: plain mappings with a `_target_`, which only `bakeoff.builders` may turn into objects.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bakeoff.config.renamed_targets import recorded_targets
from bakeoff.config.validation_errors import explain_validation_error
from bakeoff.errors import ConfigError


class FieldKind(Enum):
    """What a field decides."""

    SCIENCE = "the result: fingerprinted"
    NUMERICS = "the bits but not the science: logged, taken over by reproduce and resume"
    SITE = "where it runs and what it is called: neither"


SCIENCE, NUMERICS, SITE = FieldKind.SCIENCE, FieldKind.NUMERICS, FieldKind.SITE
ComponentConfig = dict[str, Any]


class Added:
    """Marks a field that came after the first results: the fingerprint leaves it out while it holds its default."""


ADDED = Added()
ADDED_ARGUMENTS: dict[str, dict[str, Any]] = {
    "bakeoff.nets.alexnet": {
        "dropout_kind": "auto",
        "batch_norm": False,
        "norm_place": "before",
        "lrn": "own",
        "pool": "own",
        "hidden": [],
    },
    "bakeoff.nets.vgg": {"dropout_kind": "auto", "norm_place": "before", "lrn": "own", "pool": "own"},
}
"""As `ADDED`, for the arguments of choices: module of the target -> argument -> its default."""
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class _Node(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class AugmentConfig(_Node):
    """Random changes of a training image; each image is decided on its own."""

    crop: Annotated[int, Field(ge=0)] = 0
    flip: bool = False
    scale: Annotated[list[Count], Field(max_length=2), ADDED] = Field(default_factory=list)
    lighting: Annotated[float, Field(ge=0), ADDED] = 0.0
    mixup: Annotated[float, Field(ge=0), ADDED] = 0.0
    cutmix: Annotated[float, Field(ge=0), ADDED] = 0.0


class EvalViews(_Node):
    """How the test looks at an image: whole, as ten crops, or densely at one or several scales; scores are averaged over the views."""

    kind: Literal["whole", "ten_crop", "dense"] = "whole"
    flip: bool = False
    scales: list[Count] = Field(default_factory=list)


class DataConfig(_Node):
    """The images, how they are split, and how they are batched."""

    source: Annotated[ComponentConfig, SCIENCE]
    num_classes: Annotated[int, Field(ge=2), SCIENCE]
    channels: Annotated[Count, SCIENCE]
    native_size: Annotated[Count, SCIENCE]
    size: Annotated[Count, SCIENCE] = 32
    fit: Annotated[Literal["resize", "pad"], SCIENCE] = "resize"
    augment: Annotated[AugmentConfig, SCIENCE] = AugmentConfig()
    normalize: Annotated[bool | Literal["mean"], SCIENCE] = True
    batch_size: Annotated[Count, SCIENCE] = 128
    val_fraction: Annotated[float, Field(gt=0, lt=1), SCIENCE] = 0.1
    split_seed: Annotated[Seed, SCIENCE] = 0
    subset: Annotated[Count | None, SCIENCE] = None
    folds: Annotated[int | None, Field(ge=2), SCIENCE, ADDED] = None
    fold: Annotated[int, Field(ge=0), SCIENCE, ADDED] = 0
    views: Annotated[EvalViews, SCIENCE, ADDED] = EvalViews()
    workers: Annotated[int | None, Field(ge=0), NUMERICS] = None
    eval_batch_size: Annotated[Count, NUMERICS] = 512
    root: Annotated[str, SITE] = "data"
    download: Annotated[bool, SITE] = False


class PenaltyConfig(_Node):
    """Added to the loss in training: l1 times the sum of |w|, and l2 / 2 times the sum of w^2, over the weights that would decay."""

    l1: Annotated[float, Field(ge=0)] = 0.0
    l2: Annotated[float, Field(ge=0)] = 0.0


class TrainerConfig(_Node):
    """How long, how precisely and on what the net is trained."""

    max_epochs: Annotated[Count, SCIENCE] = 10
    max_steps: Annotated[Count | None, SCIENCE] = None
    precision: Annotated[Literal["32-true", "64-true", "bf16-mixed", "bf16-true", "16-mixed"], SCIENCE] = "32-true"
    accumulate: Annotated[Count, SCIENCE] = 1
    clip: Annotated[float | None, Field(gt=0), SCIENCE] = None
    divergence: Annotated[float | None, Field(gt=1), SCIENCE] = 10.0
    accelerator: Annotated[Literal["auto", "cpu", "gpu"], NUMERICS] = "auto"
    devices: Annotated[Count, NUMERICS] = 1
    strategy: Annotated[Literal["auto", "ddp"], NUMERICS] = "auto"
    threads: Annotated[Count | None, NUMERICS] = None
    deterministic: Annotated[bool, NUMERICS] = True
    channels_last: Annotated[bool, NUMERICS] = True
    compile: Annotated[bool, NUMERICS] = False
    log_every: Annotated[Count, NUMERICS] = 10
    checkpoint_every: Annotated[Count | None, SITE] = None
    progress: Annotated[bool, SITE] = True


class TrackingConfig(_Node):
    """Where runs are kept."""

    uri: Annotated[str | None, SITE] = None
    experiment: Annotated[str, Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$"), SITE] = "train"
    folder: Annotated[str, Field(min_length=1), SITE] = "runs"
    system_every: Annotated[float, Field(gt=0), SITE] = 10.0


class RunConfig(_Node):
    """One run, whole: leaves for the slots, typed nodes for the rest."""

    model: Annotated[ComponentConfig, SCIENCE]
    activation: Annotated[ComponentConfig, SCIENCE]
    initializer: Annotated[ComponentConfig, SCIENCE]
    optimizer: Annotated[ComponentConfig, SCIENCE]
    scheduler: Annotated[ComponentConfig, SCIENCE]
    loss: Annotated[ComponentConfig, SCIENCE]
    penalty: Annotated[PenaltyConfig, SCIENCE, ADDED] = PenaltyConfig()
    data: DataConfig
    trainer: TrainerConfig = TrainerConfig()
    tracking: TrackingConfig = TrackingConfig()
    seed: Annotated[Seed, SCIENCE] = 0
    test: Annotated[bool, SCIENCE] = False
    diagnostics: Annotated[Literal["none", "light", "full"], SITE] = "light"
    name: Annotated[str | None, Field(min_length=1, max_length=200, pattern=r"^[^/\x00-\x1f]+$"), SITE] = None
    choices: Annotated[dict[str, str], SITE] = Field(default_factory=dict)

    @property
    def title(self) -> str:
        """A name that a person can read: the run's own, or its choices and seed."""
        if self.name is not None:
            return self.name
        words = [self.choices.get(slot, slot) for slot in ("data", "model", "activation", "initializer", "optimizer")]
        return "-".join([*words, f"s{self.seed}"])

    def part(self, kind: FieldKind) -> dict[str, Any]:
        """The fields of one kind, nested as in the config."""
        return _part(self, kind)

    def replace(self, **changes: Any) -> RunConfig:
        """A checked copy with dotted fields changed: `run.replace(**{"trainer.threads": 1})`."""
        tree = self.model_dump()
        for dotted, value in changes.items():
            node, (*parents, last) = tree, dotted.split(".")
            for parent in parents:
                node = node[parent]
            node[last] = value
        return parse_run_config(tree)

    def flat(self) -> dict[str, Any]:
        """Every value by its dotted key, in the config's order."""
        return dict(_flat(self.model_dump(), ""))


def _part(node: BaseModel, kind: FieldKind) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, info in type(node).model_fields.items():
        value = getattr(node, name)
        if kind in info.metadata:
            found[name] = value.model_dump() if isinstance(value, BaseModel) else value
        elif isinstance(value, BaseModel) and not any(isinstance(item, FieldKind) for item in info.metadata):
            found[name] = _part(value, kind)
    return found


def _flat(node: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def fingerprint(run: RunConfig) -> str:
    """16 hexadecimal digits of the SHA-256 over all fields that decide the result; names, folders and devices leave it as it is."""
    text = json.dumps(recorded_targets(_without_added(run, run.part(SCIENCE))), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _without_added(node: BaseModel, tree: dict[str, Any]) -> dict[str, Any]:
    """The tree of a node, less every `ADDED` field that holds its default."""
    kept: dict[str, Any] = {}
    for name, value in tree.items():
        info, own = type(node).model_fields[name], getattr(node, name)
        if ADDED in info.metadata and own == info.get_default(call_default_factory=True):
            continue
        kept[name] = _without_added(own, value) if isinstance(own, BaseModel) else _leaf_without_added(value)
    return kept


def _leaf_without_added(value: Any) -> Any:
    """A leaf less every argument of `ADDED_ARGUMENTS` that holds its default; any other value as it is."""
    if not isinstance(value, dict):
        return value
    added = ADDED_ARGUMENTS.get(str(value.get("_target_")).rpartition(".")[0], {})
    return {name: own for name, own in value.items() if name not in added or own != added[name]}


def parse_run_config(tree: Mapping[str, Any]) -> RunConfig:
    """A `Run` from plain mappings, or `ConfigError` for the first key, type or range that is wrong."""
    check_finite(tree)
    try:
        return RunConfig.model_validate(dict(tree))
    except ValidationError as error:
        raise ConfigError(explain_validation_error(error, RunConfig)) from None


def check_finite(tree: Mapping[str, Any]) -> None:
    """Refuse nan and inf wherever they stand."""
    for key, value in _flat(tree, ""):
        for item in value if isinstance(value, list | tuple) else (value,):
            if isinstance(item, float) and not math.isfinite(item):
                raise ConfigError(f"{key}: {item} is not a finite number")
