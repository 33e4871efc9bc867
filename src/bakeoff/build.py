"""The door: the only place where a leaf of a config becomes an object, after it has been checked.

A leaf names its `_target_`, which must be a public name of one of the slot's home modules and of the slot's kind. Homes of the user's
own are named on the command line (`trust=[mypackage.nets]`), never by a stored config.
"""

from __future__ import annotations

import importlib
import inspect
import os
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bakeoff.errors import BakeoffError, ChoiceError, ConfigError, listed, near_miss
from bakeoff.recipe import Run

if TYPE_CHECKING:
    import torch
    from torch import nn

    from bakeoff.data.module import ImageData

TRUST = "BAKEOFF_TRUST"
"""Environment variable that hands the homes trusted on the command line on to child processes and ranks."""


@dataclass(frozen=True)
class Slot:
    """Where a slot's choices live, what they must be, which arguments the code passes, and which keys of the leaf are no arguments."""

    homes: tuple[str, ...]
    base: str
    given: tuple[str, ...] = ()
    siblings: tuple[str, ...] = ()


TABLE = {
    "model": Slot(("bakeoff.nets.alexnet", "bakeoff.nets.vgg"), "torch.nn.Module", given=("activation",)),
    "activation": Slot(("torch.nn",), "torch.nn.Module"),
    "initializer": Slot(("bakeoff.arms.initializers",), "bakeoff.arms.initializers.Initializer"),
    "optimizer": Slot(("torch.optim",), "torch.optim.Optimizer", given=("params",), siblings=("decay_all",)),
    "scheduler": Slot(
        ("bakeoff.arms.schedulers",),
        "torch.optim.lr_scheduler.LRScheduler",
        given=("optimizer", "total_steps", "steps_per_epoch"),
    ),
    "loss": Slot(("torch.nn", "bakeoff.arms.losses"), "torch.nn.Module"),
    "data.source": Slot(("bakeoff.data.sources",), "bakeoff.data.sources.Images", given=("root", "download")),
}

RULES: dict[str, tuple[str, Callable[[float], bool]]] = {
    "optimizer.lr": ("above 0", lambda x: x > 0),
    "optimizer.weight_decay": ("0 or more", lambda x: x >= 0),
    "optimizer.momentum": ("at least 0 and below 1", lambda x: 0 <= x < 1),
    "optimizer.eps": ("0 or more", lambda x: x >= 0),
    "model.width": ("above 0", lambda x: x > 0),
    "model.dropout": ("at least 0 and below 1", lambda x: 0 <= x < 1),
    "initializer.std": ("0 or more", lambda x: x >= 0),
    "loss.label_smoothing": ("at least 0 and at most 1", lambda x: 0 <= x <= 1),
    "scheduler.warmup": ("at least 0 and below 1 (a share of all steps)", lambda x: 0 <= x < 1),
}


def leaves(run: Run) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every slot with its leaf."""
    for name in TABLE:
        yield name, run.data.source if name == "data.source" else getattr(run, name)


def check_names(run: Run, *, trust: tuple[str, ...] = ()) -> None:
    """The door's first tier, which imports nothing heavy: targets by name, ranges, the division of the batch."""
    for slot, leaf in leaves(run):
        home_of(slot, leaf, trust)
        for name, value in leaf.items():
            rule = RULES.get(f"{slot}.{name}")
            if rule is None or value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not rule[1](value):
                raise ConfigError(f"{slot}.{name}={value}: must be a number {rule[0]}")
    parts = run.trainer.devices * run.trainer.accumulate
    if run.data.batch_size % parts:
        raise ConfigError(
            f"data.batch_size={run.data.batch_size}: must divide by trainer.devices x trainer.accumulate = "
            f"{run.trainer.devices} x {run.trainer.accumulate}"
        )


def trusted() -> tuple[str, ...]:
    """The homes that this process trusts beyond its own."""
    return tuple(home for home in os.environ.get(TRUST, "").split(",") if home)


def home_of(slot: str, leaf: Mapping[str, Any], trust: tuple[str, ...] = ()) -> tuple[str, str]:
    """(home module, public name) of a leaf's target; `ChoiceError` for a foreign one."""
    target = leaf.get("_target_")
    homes = (*TABLE[slot].homes, *trust, *trusted())
    if not isinstance(target, str):
        raise ChoiceError(f"{slot}._target_: this key is missing; it names a class or function of {listed(homes)}")
    home, _, name = target.rpartition(".")
    if home not in homes or not name.isidentifier() or name.startswith("_"):
        raise ChoiceError(
            f"{slot}._target_={target}: not a public name of {listed(homes)}; "
            f"trust=[{home or 'module'}] on the command line admits a module of your own"
        )
    for key in leaf:
        if key.startswith("_") and key != "_target_":
            raise ChoiceError(f"{slot}.{key}: no such key; of the underscored keys only _target_ is known")
    return home, name


def found(slot: str, leaf: Mapping[str, Any]) -> Callable[..., Any]:
    """The class or function that a leaf names, once it is known to be of the slot's kind."""
    home, name = home_of(slot, leaf)
    try:
        module = importlib.import_module(home)
    except ImportError as error:
        raise ChoiceError(f"{slot}._target_={home}.{name}: {home} cannot be imported ({error})") from None
    public = [word for word in getattr(module, "__all__", dir(module)) if not word.startswith("_")]
    thing = getattr(module, name, None)
    if thing is None or name not in public:
        raise ChoiceError(f"{slot}._target_={home}.{name}: {home} has no such name{near_miss(name, public)}")
    base = getattr(importlib.import_module(TABLE[slot].base.rpartition(".")[0]), TABLE[slot].base.rpartition(".")[2])
    fits = issubclass(thing, base) if isinstance(thing, type) else inspect.isfunction(thing) and thing.__module__ == home
    if not fits:
        raise ChoiceError(f"{slot}._target_={home}.{name}: not a kind of {TABLE[slot].base}, nor a function defined in {home}")
    return typing.cast("Callable[..., Any]", thing)


def arguments(slot: str, leaf: Mapping[str, Any], thing: Callable[..., Any]) -> dict[str, Any]:
    """The leaf's own keywords, checked by name and type against the signature of `thing`."""
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    spec = TABLE[slot]
    given = {name: value for name, value in leaf.items() if name not in ("_target_", *spec.siblings)}
    parameters = inspect.signature(thing).parameters
    names = [name for name, parameter in parameters.items() if parameter.kind.name in ("POSITIONAL_OR_KEYWORD", "KEYWORD_ONLY")]
    own = [name for name in names if name not in spec.given]
    open_ended = any(parameter.kind.name == "VAR_KEYWORD" for parameter in parameters.values())
    title = getattr(thing, "__name__", str(thing))
    hints = hints_of(thing)
    for name, value in given.items():
        if name not in own and not open_ended:
            raise ChoiceError(f"{slot}.{name}: {title} has no such argument{near_miss(name, own)}; arguments: {listed(own) or 'none'}")
        if name not in hints:
            continue
        adapter = TypeAdapter(hints[name], config=ConfigDict(strict=True, arbitrary_types_allowed=True))
        # YAML knows lists only: a tuple is wanted where the hint says so.
        if isinstance(value, list) and "tuple" in str(hints[name]).lower():
            value = tuple(value)
        try:
            given[name] = adapter.validate_python(value)
        except ValidationError:
            raise ChoiceError(f"{slot}.{name}={value}: {title} wants {wanted(hints[name])}") from None
    for name in own:
        if parameters[name].default is inspect.Parameter.empty and name not in given:
            raise ChoiceError(f"{slot}.{name}: {title} needs this argument")
    return given


def hints_of(thing: Callable[..., Any]) -> dict[str, Any]:
    """Type hints by argument; those that cannot be read are left out and are told by the dry build instead."""
    subject = thing.__init__ if isinstance(thing, type) else thing  # type: ignore[misc]
    try:
        return typing.get_type_hints(subject)
    except (NameError, TypeError, AttributeError):
        return {name: hint for name, hint in getattr(subject, "__annotations__", {}).items() if isinstance(hint, type)}


def wanted(hint: Any) -> str:
    """A type hint in words."""
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + listed(str(value) for value in typing.get_args(hint))
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "").replace("torch.Tensor", "Tensor")


@contextmanager
def refusals(slot: str, leaf: Mapping[str, Any]) -> Iterator[None]:
    """Tell an exception of a choice's own code as a complaint about that choice."""
    try:
        yield
    except BakeoffError:
        raise
    except (ValueError, TypeError, RuntimeError, AssertionError, NotImplementedError, IndexError, KeyError, ZeroDivisionError) as error:
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise ChoiceError(f"{slot}: {leaf['_target_']} does not work with these settings: {reason}") from error


def make(slot: str, leaf: Mapping[str, Any], **given: Any) -> Any:
    """The object that a leaf describes; `given` are the arguments that the code passes."""
    thing = found(slot, leaf)
    keywords = arguments(slot, leaf, thing)
    with refusals(slot, leaf):
        return thing(**keywords, **given)


def make_activation(run: Run) -> Callable[[], nn.Module]:
    """A factory of the run's activation: one new module a call."""
    thing = found("activation", run.activation)
    keywords = arguments("activation", run.activation, thing)
    return lambda: typing.cast("nn.Module", thing(**keywords))


def make_bare_model(run: Run) -> nn.Module:
    """The run's net with whatever weights its modules start with."""
    return typing.cast("nn.Module", make("model", run.model, activation=make_activation(run)))


def make_model(run: Run) -> nn.Module:
    """The run's net on the CPU, initialized from the run's seed: the same bits at every call.

    Takes images (N, channels, size, size), gives scores (N, classes).
    """
    import torch

    from bakeoff import seeds
    from bakeoff.arms.initializers import activation_gain

    # Modules draw their own first weights from the global generator, which is put back as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.key(run.seed, "init"))
        net = make_bare_model(run)
    initializer = make("initializer", run.initializer)
    with refusals("initializer", run.initializer):
        initializer(net, activation_gain=activation_gain(make_activation(run)()), generator=seeds.generator(run.seed, "init"))
    return net


def make_optimizer(run: Run, model: nn.Module) -> torch.optim.Optimizer:
    """The run's optimizer over `model`; norm layers, biases and PReLU slopes get no weight decay unless `optimizer.decay_all`."""
    from bakeoff.arms.optimizers import parameter_groups

    decay = run.optimizer.get("weight_decay")
    groups = parameter_groups(model, weight_decay=decay, decay_all=bool(run.optimizer.get("decay_all", False)))
    return typing.cast("torch.optim.Optimizer", make("optimizer", run.optimizer, params=groups))


def make_scheduler(
    run: Run, optimizer: torch.optim.Optimizer, *, total_steps: int, steps_per_epoch: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """The run's learning-rate schedule, stepped once an optimizer step; its lengths come from the run's own number of steps."""
    made = make("scheduler", run.scheduler, optimizer=optimizer, total_steps=total_steps, steps_per_epoch=steps_per_epoch)
    return typing.cast("torch.optim.lr_scheduler.LRScheduler", made)


def make_loss(run: Run) -> nn.Module:
    """The run's loss, called as loss(scores (N, classes), targets (N,) int64) -> mean over the batch."""
    return typing.cast("nn.Module", make("loss", run.loss))


def make_data(run: Run) -> ImageData:
    """The run's data module; nothing is read until its `setup`."""
    from bakeoff.data.module import ImageData

    data, source = run.data, found("data.source", run.data.source)
    keywords = arguments("data.source", data.source, source)
    return ImageData(
        lambda: source(**keywords, root=Path(data.root).expanduser(), download=data.download),
        size=data.size,
        fit=data.fit,
        crop=data.augment.crop,
        flip=data.augment.flip,
        normalize=data.normalize,
        batch_size=data.batch_size,
        accumulate=run.trainer.accumulate,
        val_fraction=data.val_fraction,
        split_seed=data.split_seed,
        subset=data.subset,
        seed=run.seed,
        eval_batch_size=data.eval_batch_size,
        max_steps=run.trainer.max_steps,
        channels_last=run.trainer.channels_last,
    )


def check(run: Run) -> None:
    """The whole door: names and ranges, then signatures and a dry build of every choice (the net on the meta device)."""
    import torch
    from torch import nn

    check_names(run)
    gpus = torch.cuda.device_count()
    if run.trainer.accelerator == "gpu" and gpus < run.trainer.devices:
        raise ConfigError(f"trainer.accelerator=gpu: this machine has {gpus} GPUs, trainer.devices={run.trainer.devices} are asked for")
    found("data.source", run.data.source)
    with refusals("activation", run.activation):
        probe = torch.linspace(-3, 3, 24).reshape(2, 3, 2, 2)
        shape = make_activation(run)()(probe).shape
    if shape != probe.shape:
        raise ChoiceError(f"activation: {run.activation['_target_']} turns {tuple(probe.shape)} into {tuple(shape)}; the shape must stay")
    data = run.data
    with torch.device("meta"), refusals("model", run.model):
        scores = make_bare_model(run)(torch.empty(2, data.channels, data.size, data.size))
    if tuple(scores.shape) != (2, data.num_classes):
        raise ChoiceError(
            f"model: {run.model['_target_']} gives scores of shape {tuple(scores.shape)} for 2 images; "
            f"data.num_classes={data.num_classes} needs (2, {data.num_classes})"
        )
    small = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, data.num_classes))
    with refusals("initializer", run.initializer):
        make("initializer", run.initializer)(small, activation_gain=1.0, generator=torch.Generator().manual_seed(0))
    with refusals("optimizer", run.optimizer):
        optimizer = make_optimizer(run, small)
    make_scheduler(run, optimizer, total_steps=10, steps_per_epoch=5)
    with refusals("loss", run.loss):
        loss = make_loss(run)(torch.zeros(4, data.num_classes, requires_grad=True), torch.zeros(4, dtype=torch.long))
    if loss.shape != () or not loss.requires_grad:
        raise ChoiceError(f"loss: {run.loss['_target_']} must give one number with a gradient; it gives shape {tuple(loss.shape)}")


def load_model(folder: Path) -> nn.Module:
    """The trained net of a run folder, on the CPU in eval mode: the weights of its last checkpoint."""
    from bakeoff.composition import load_frozen
    from bakeoff.training.checkpoints import weights

    run = load_frozen((folder / "config.yaml").read_text(), origin=str(folder / "config.yaml"))
    net = make_bare_model(run)
    net.load_state_dict(weights(folder / "checkpoints"))
    return net.eval()
