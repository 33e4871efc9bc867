"""The door: what a leaf of a config may name, and with which arguments.

A leaf names its `_target_`, which must be a public name of one of the slot's home modules and of the slot's kind. Homes of the user's
own are named on the command line (`trust=[mypackage.nets]`), never by a stored config.
"""

from __future__ import annotations

import importlib
import inspect
import os
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bakeoff.config.schema import RunConfig
from bakeoff.errors import BakeoffError, ChoiceError, ConfigError, join_choices, near_miss

TRUST_VARIABLE = "BAKEOFF_TRUST"
"""Environment variable that hands the homes trusted on the command line on to child processes and ranks."""


@dataclass(frozen=True)
class AllowedTargets:
    """Where a slot's choices live, what they must be, which arguments the code passes, and which keys of the leaf are no arguments."""

    homes: tuple[str, ...]
    base: str
    given: tuple[str, ...] = ()
    siblings: tuple[str, ...] = ()


ALLOWED_TARGETS = {
    "model": AllowedTargets(("bakeoff.nets.alexnet", "bakeoff.nets.vgg"), "torch.nn.Module", given=("activation",)),
    "activation": AllowedTargets(("torch.nn", "bakeoff.components.activations"), "torch.nn.Module"),
    "initializer": AllowedTargets(("bakeoff.components.initializers",), "bakeoff.components.initializers.Initializer"),
    "optimizer": AllowedTargets(
        ("torch.optim", "timm.optim", "pytorch_optimizer", "schedulefree", "bakeoff.components.optimizers"),
        "torch.optim.Optimizer",
        given=("params",),
        siblings=("decay_all",),
    ),
    "scheduler": AllowedTargets(
        ("bakeoff.components.schedulers",),
        "torch.optim.lr_scheduler.LRScheduler",
        given=("optimizer", "total_steps", "steps_per_epoch"),
    ),
    "loss": AllowedTargets(("torch.nn", "bakeoff.components.losses"), "torch.nn.Module"),
    "data.source": AllowedTargets(("bakeoff.data.sources",), "bakeoff.data.sources.Images", given=("root", "download")),
}

VALUE_RANGES: dict[str, tuple[str, Callable[[float], bool]]] = {
    "optimizer.lr": ("above 0", lambda x: x > 0),
    "optimizer.weight_decay": ("0 or more", lambda x: x >= 0),
    "optimizer.momentum": ("at least 0 and below 1", lambda x: 0 <= x < 1),
    "optimizer.eps": ("0 or more", lambda x: x >= 0),
    "optimizer.betas": ("at least 0 and below 1", lambda x: 0 <= x < 1),
    "optimizer.dampening": ("at least 0 and at most 1", lambda x: 0 <= x <= 1),
    "optimizer.max_grad_norm": ("above 0", lambda x: x > 0),
    "torch.optim.RMSprop.alpha": ("at least 0 and below 1", lambda x: 0 <= x < 1),
    "pytorch_optimizer.Prodigy.d0": ("above 0", lambda x: x > 0),
    "optimizer.adamw_lr": ("above 0", lambda x: x > 0),
    "optimizer.rho": ("at least 0 and below 1", lambda x: 0 <= x < 1),
    "optimizer.d_coef": ("above 0", lambda x: x > 0),
    "model.width": ("above 0", lambda x: x > 0),
    "model.dropout": ("at least 0 and below 1", lambda x: 0 <= x < 1),
    "initializer.std": ("0 or more", lambda x: x >= 0),
    "loss.label_smoothing": ("at least 0 and at most 1", lambda x: 0 <= x <= 1),
    "loss.gamma": ("0 or more", lambda x: x >= 0),
    "scheduler.warmup": ("at least 0 and below 1 (a share of all steps)", lambda x: 0 <= x < 1),
}
"""Slot or target, and argument -> its range, in words and as a test: of a number, or of each number of a list."""


def component_configs(run: RunConfig) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every slot with its leaf."""
    for name in ALLOWED_TARGETS:
        yield name, run.data.source if name == "data.source" else getattr(run, name)


def check_target_names(run: RunConfig, *, trust: tuple[str, ...] = ()) -> None:
    """The door's first tier, which imports nothing heavy: targets by name, ranges, the division of the batch."""
    for slot, leaf in component_configs(run):
        target_module(slot, leaf, trust)
        for name, value in leaf.items():
            rule = VALUE_RANGES.get(f"{leaf['_target_']}.{name}", VALUE_RANGES.get(f"{slot}.{name}"))
            if rule is None or value is None:
                continue
            numbers = value if isinstance(value, list) else [value]
            if any(isinstance(x, bool) or not isinstance(x, int | float) or not rule[1](x) for x in numbers):
                raise ConfigError(f"{slot}.{name}={value}: must be {'numbers' if isinstance(value, list) else 'a number'} {rule[0]}")
    parts = run.trainer.devices * run.trainer.accumulate
    if run.data.batch_size % parts:
        raise ConfigError(
            f"data.batch_size={run.data.batch_size}: must divide by trainer.devices x trainer.accumulate = "
            f"{run.trainer.devices} x {run.trainer.accumulate}"
        )


def trusted_modules() -> tuple[str, ...]:
    """The homes that this process trusts beyond its own."""
    return tuple(home for home in os.environ.get(TRUST_VARIABLE, "").split(",") if home)


def target_module(slot: str, leaf: Mapping[str, Any], trust: tuple[str, ...] = ()) -> tuple[str, str]:
    """(home module, public name) of a leaf's target; `ChoiceError` for a foreign one."""
    target = leaf.get("_target_")
    homes = (*ALLOWED_TARGETS[slot].homes, *trust, *trusted_modules())
    if not isinstance(target, str):
        raise ChoiceError(f"{slot}._target_: this key is missing; it names a class or function of {join_choices(homes)}")
    home, _, name = target.rpartition(".")
    if home not in homes or not name.isidentifier() or name.startswith("_"):
        raise ChoiceError(
            f"{slot}._target_={target}: not a public name of {join_choices(homes)}; "
            f"trust=[{home or 'module'}] on the command line admits a module of your own"
        )
    for key in leaf:
        if key.startswith("_") and key != "_target_":
            raise ChoiceError(f"{slot}.{key}: no such key; of the underscored keys only _target_ is known")
    return home, name


def resolve_target(slot: str, leaf: Mapping[str, Any]) -> Callable[..., Any]:
    """The class or function that a leaf names, once it is known to be of the slot's kind."""
    home, name = target_module(slot, leaf)
    try:
        module = importlib.import_module(home)
    except ImportError as error:
        raise ChoiceError(f"{slot}._target_={home}.{name}: {home} cannot be imported ({error})") from None
    public = [word for word in getattr(module, "__all__", dir(module)) if not word.startswith("_")]
    thing = getattr(module, name, None)
    if thing is None or name not in public:
        raise ChoiceError(f"{slot}._target_={home}.{name}: {home} has no such name{near_miss(name, public)}")
    base = getattr(importlib.import_module(ALLOWED_TARGETS[slot].base.rpartition(".")[0]), ALLOWED_TARGETS[slot].base.rpartition(".")[2])
    fits = issubclass(thing, base) if isinstance(thing, type) else inspect.isfunction(thing) and thing.__module__ == home
    if not fits:
        raise ChoiceError(f"{slot}._target_={home}.{name}: not a kind of {ALLOWED_TARGETS[slot].base}, nor a function defined in {home}")
    return typing.cast("Callable[..., Any]", thing)


def checked_arguments(slot: str, leaf: Mapping[str, Any], thing: Callable[..., Any]) -> dict[str, Any]:
    """The leaf's own keywords, checked by name and type against the signature of `thing`."""
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    spec = ALLOWED_TARGETS[slot]
    given = {name: value for name, value in leaf.items() if name not in ("_target_", *spec.siblings)}
    parameters = inspect.signature(thing).parameters
    names = [name for name, parameter in parameters.items() if parameter.kind.name in ("POSITIONAL_OR_KEYWORD", "KEYWORD_ONLY")]
    own = [name for name in names if name not in spec.given]
    # A library's **kwargs swallow a misspelt word; a class of the user's own may hand them on.
    foreign = target_module(slot, leaf)[0] not in spec.homes
    open_ended = foreign and any(parameter.kind.name == "VAR_KEYWORD" for parameter in parameters.values())
    title = getattr(thing, "__name__", str(thing))
    hints = type_hints(thing)
    for name, value in given.items():
        if name not in own and not open_ended:
            raise ChoiceError(
                f"{slot}.{name}: {title} has no such argument{near_miss(name, own)}; arguments: {join_choices(own) or 'none'}"
            )
        if name not in hints:
            continue
        adapter = TypeAdapter(hints[name], config=ConfigDict(strict=True, arbitrary_types_allowed=True))
        # YAML knows lists only: a tuple is wanted where the hint says so.
        tupled = isinstance(value, list) and "tuple" in str(hints[name]).lower()
        try:
            given[name] = adapter.validate_python(tuple(value) if tupled else value)
        except ValidationError:
            raise ChoiceError(f"{slot}.{name}={value}: {title} wants {describe_type(hints[name])}") from None
    for name in own:
        if parameters[name].default is inspect.Parameter.empty and name not in given:
            raise ChoiceError(f"{slot}.{name}: {title} needs this argument")
    return given


def type_hints(thing: Callable[..., Any]) -> dict[str, Any]:
    """Type hints by argument; those that cannot be read are left out and are told by the dry build instead."""
    subject = thing.__init__ if isinstance(thing, type) else thing  # type: ignore[misc]
    try:
        return typing.get_type_hints(subject)
    except (NameError, TypeError, AttributeError):
        return {name: hint for name, hint in getattr(subject, "__annotations__", {}).items() if isinstance(hint, type)}


def describe_type(hint: Any) -> str:
    """A type hint in words."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return "one of " + join_choices(str(value) for value in parts)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(describe_type(part) for part in parts))
    if origin is tuple and Ellipsis not in parts:
        return f"a list of {len(parts)}, each {' or '.join(dict.fromkeys(describe_type(part) for part in parts))}"
    if hint is type(None):
        return "null"
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


@contextmanager
def build_errors(slot: str, leaf: Mapping[str, Any]) -> Iterator[None]:
    """Tell an exception of a choice's own code as a complaint about that choice."""
    try:
        yield
    except BakeoffError:
        raise
    except Exception as error:  # whatever a library raises, of kinds of its own too
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise ChoiceError(f"{slot}: {leaf['_target_']} does not work with these settings: {reason}") from error
