"""The allowed values of the `_target_` of a component config, and its arguments.

A target must be a public name of an allowed module of its slot, and of the slot's kind. Users add their own modules on the command
line (`trust=[mypackage.nets]`); a stored config cannot.
"""

from __future__ import annotations

import importlib
import inspect
import os
import shlex
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bakeoff.config.choices import ChoiceDescription, describe_target
from bakeoff.config.schema import RunConfig
from bakeoff.errors import ARGUMENT, ArgumentError, BakeoffError, ChoiceError, ConfigError, join_choices, name_keys, near_miss

TRUST_VARIABLE = "BAKEOFF_TRUST"
"""Environment variable that passes the modules trusted on the command line to child processes and ranks."""


@dataclass(frozen=True)
class AllowedTargets:
    """The targets that a slot allows."""

    modules: tuple[str, ...]
    """Modules whose public names may be targets."""
    base: str
    """The base class of targets that are classes."""
    injected_args: tuple[str, ...] = ()
    """Arguments that the code passes and a config must not."""
    builder_keys: tuple[str, ...] = ()
    """Keys of the config that only the builder reads."""


ALLOWED_TARGETS = {
    "model": AllowedTargets(("bakeoff.nets.alexnet", "bakeoff.nets.vgg"), "torch.nn.Module", injected_args=("activation",)),
    "activation": AllowedTargets(("torch.nn", "bakeoff.components.activations"), "torch.nn.Module"),
    "initializer": AllowedTargets(
        ("bakeoff.components.initializers",), "bakeoff.components.initializers.Initializer", builder_keys=("head", "auto_gain")
    ),
    "optimizer": AllowedTargets(
        ("torch.optim", "timm.optim", "pytorch_optimizer", "schedulefree", "bakeoff.components.optimizers"),
        "torch.optim.Optimizer",
        injected_args=("params",),
        builder_keys=("decay_all",),
    ),
    "scheduler": AllowedTargets(
        ("bakeoff.components.schedulers",),
        "torch.optim.lr_scheduler.LRScheduler",
        injected_args=("optimizer", "total_steps", "steps_per_epoch"),
    ),
    "loss": AllowedTargets(("torch.nn", "bakeoff.components.losses"), "torch.nn.Module"),
    "data.source": AllowedTargets(("bakeoff.data.sources",), "bakeoff.data.sources.Images", injected_args=("root", "download")),
}


@dataclass(frozen=True)
class Component:
    """A component config with checked target and arguments."""

    slot: str
    config: Mapping[str, Any]
    target: Callable[..., Any]
    arguments: Mapping[str, Any]

    def build(self, **injected: Any) -> Any:
        """Call the target with the config's arguments and `injected`; ChoiceError: the target raised an error."""
        with build_errors(self.slot, self.config):
            return self.target(**self.arguments, **injected)


def component_configs(run: RunConfig) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every slot with its component config."""
    for slot in ALLOWED_TARGETS:
        yield slot, run.data.source if slot == "data.source" else getattr(run, slot)


def check_names_and_ranges(
    run: RunConfig, *, trust: tuple[str, ...] = (), descriptions: Mapping[str, ChoiceDescription] | None = None
) -> None:
    """Check what can be checked without importing torch: the names of targets, the ranges of values, the division of the batch.

    Args:
        run: The run.
        trust: Modules that are allowed in addition to those that the process trusts.
        descriptions: Slot -> the description of its choice; by default those of the shipped choices with the run's targets.

    Raises:
        ConfigError: For the first error.
    """
    for slot, config in component_configs(run):
        target_module(slot, config, trust)
        description = describe_target(slot, config["_target_"]) if descriptions is None else descriptions.get(slot, ChoiceDescription())
        for name, allowed in description.ranges.items():
            value = config.get(name)
            if value is not None and value not in allowed:
                raise ConfigError(f"{slot}.{name}={value}: must be {'numbers' if isinstance(value, list) else 'a number'} {allowed}")
    parts = run.trainer.devices * run.trainer.accumulate
    if run.data.batch_size % parts:
        raise ConfigError(
            f"data.batch_size={run.data.batch_size}: must divide by trainer.devices x trainer.accumulate = "
            f"{run.trainer.devices} x {run.trainer.accumulate}"
        )


def trusted_modules() -> tuple[str, ...]:
    """Return the user's modules that this process trusts."""
    return tuple(module for module in os.environ.get(TRUST_VARIABLE, "").split(",") if module)


def trust_modules(modules: Iterable[str]) -> None:
    """Trust more modules in this process and in its future child processes."""
    trusted = dict.fromkeys([*trusted_modules(), *modules])
    if trusted:
        os.environ[TRUST_VARIABLE] = ",".join(trusted)


def trust_word() -> str:
    """Return the ` trust=[...]` that a printed command needs to find the modules trusted in this process, or an empty text."""
    modules = ",".join(trusted_modules())
    return f" {shlex.quote(f'trust=[{modules}]')}" if modules else ""


def target_module(slot: str, config: Mapping[str, Any], trust: tuple[str, ...] = ()) -> tuple[str, str]:
    """Split a component's target into (allowed module, public name).

    Raises:
        ChoiceError: The target is not a public name of an allowed module.
    """
    target = config.get("_target_")
    modules = (*ALLOWED_TARGETS[slot].modules, *trust, *trusted_modules())
    if not isinstance(target, str):
        raise ChoiceError(f"{slot}._target_: this key is missing; it must name a class or function of {join_choices(modules)}")
    module, _, name = target.rpartition(".")
    if module not in modules or not name.isidentifier() or name.startswith("_"):
        raise ChoiceError(
            f"{slot}._target_={target}: not a public name of {join_choices(modules)}; "
            f"trust=[{module or 'module'}] on the command line allows a module of your own"
        )
    for key in config:
        if key.startswith("_") and key != "_target_":
            raise ChoiceError(f"{slot}.{key}: no such key; the only key with a leading underscore is _target_")
    return module, name


def resolve_component(slot: str, config: Mapping[str, Any]) -> Component:
    """Import the target of a component config and check its arguments against the signature.

    Raises:
        ChoiceError: The target or an argument is not allowed.
    """
    target = resolve_target(slot, config)
    return Component(slot, config, target, _checked_arguments(slot, config, target))


def resolve_target(slot: str, config: Mapping[str, Any]) -> Callable[..., Any]:
    """Import the class or function that a component config names.

    Raises:
        ChoiceError: There is no such name, or it is not of the slot's kind.
    """
    module_name, name = target_module(slot, config)
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ChoiceError(f"{slot}._target_={module_name}.{name}: {module_name} cannot be imported ({error})") from None
    public = [word for word in getattr(module, "__all__", dir(module)) if not word.startswith("_")]
    target = getattr(module, name, None)
    if target is None or name not in public:
        raise ChoiceError(f"{slot}._target_={module_name}.{name}: {module_name} has no such name{near_miss(name, public)}")
    base_module, _, base_name = ALLOWED_TARGETS[slot].base.rpartition(".")
    base = getattr(importlib.import_module(base_module), base_name)
    is_below = f"{getattr(target, '__module__', '')}.".startswith(f"{module_name}.")
    is_kind = issubclass(target, base) if isinstance(target, type) else inspect.isfunction(target) and is_below
    if not is_kind:
        raise ChoiceError(
            f"{slot}._target_={module_name}.{name}: not a kind of {base_module}.{base_name}, nor a function defined in {module_name}"
        )
    return typing.cast("Callable[..., Any]", target)


def _checked_arguments(slot: str, config: Mapping[str, Any], target: Callable[..., Any]) -> dict[str, Any]:
    """Return the config's arguments after checks of name and type against the signature of the target."""
    allowed = ALLOWED_TARGETS[slot]
    arguments = {name: value for name, value in config.items() if name not in ("_target_", *allowed.builder_keys)}
    parameters = inspect.signature(target).parameters
    keywords = [name for name, parameter in parameters.items() if parameter.kind.name in ("POSITIONAL_OR_KEYWORD", "KEYWORD_ONLY")]
    names = [name for name in keywords if name not in allowed.injected_args]
    # A library's **kwargs hide misspelt arguments; a user's class may need to pass them on.
    is_own = target_module(slot, config)[0] not in allowed.modules
    open_ended = is_own and any(parameter.kind.name == "VAR_KEYWORD" for parameter in parameters.values())
    title = getattr(target, "__name__", str(target))
    hints = _type_hints(target)
    for name, value in arguments.items():
        if name not in names and not open_ended:
            raise ChoiceError(
                f"{slot}.{name}: {title} has no such argument{near_miss(name, names)}; arguments: {join_choices(names) or 'none'}"
            )
        if name in hints:
            arguments[name] = _checked_value(f"{slot}.{name}", value, hints[name], title)
    for name in names:
        if parameters[name].default is inspect.Parameter.empty and name not in arguments:
            raise ChoiceError(f"{slot}.{name}: {title} needs this argument")
    return arguments


def _checked_value(key: str, value: Any, hint: Any, title: str) -> Any:
    """Return a value after a check against the type of a parameter."""
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    adapter = TypeAdapter(hint, config=ConfigDict(strict=True, arbitrary_types_allowed=True))
    # YAML has only lists, which become tuples if the hint says so.
    is_tuple = isinstance(value, list) and "tuple" in str(hint).lower()
    try:
        return adapter.validate_python(tuple(value) if is_tuple else value)
    except ValidationError:
        raise ChoiceError(f"{key}={value}: {title} needs {_describe_type(hint)}") from None


def _type_hints(target: Callable[..., Any]) -> dict[str, Any]:
    """Return the type hints by argument, without unreadable ones; the dry build checks those arguments."""
    subject = target.__init__ if isinstance(target, type) else target  # type: ignore[misc]
    try:
        return typing.get_type_hints(subject)
    except (NameError, TypeError, AttributeError):
        return {name: hint for name, hint in getattr(subject, "__annotations__", {}).items() if isinstance(hint, type)}


def _describe_type(hint: Any) -> str:
    """Return a type hint in words."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return "one of " + join_choices(str(value) for value in parts)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_describe_type(part) for part in parts))
    if origin is tuple and Ellipsis not in parts:
        return f"a list of {len(parts)}, each {' or '.join(dict.fromkeys(_describe_type(part) for part in parts))}"
    if hint is type(None):
        return "null"
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


ARGUMENT_KEYS = {
    "model": {
        "size": "data.size",
        "num_classes": "data.num_classes",
        "in_channels": "data.channels",
        "expansion": "activation.expansion",
        "match": "activation.match",
    },
    "data": {
        "devices": "trainer.devices",
        "accumulate": "trainer.accumulate",
        "crop": "data.augment.crop",
        "scale": "data.augment.scale",
        "kind": "data.views.kind",
        "flip": "data.views.flip",
        "scales": "data.views.scales",
    },
}
"""Slot -> argument -> its key in the configuration, if that is not `<slot>.<argument>`."""


@contextmanager
def build_errors(slot: str, config: Mapping[str, Any]) -> Iterator[None]:
    """Convert an exception of a component's code into a ChoiceError that names the configuration's keys.

    Raises:
        ChoiceError: the block raised an ArgumentError, or an exception that is not a BakeoffError.
    """
    try:
        yield
    except ArgumentError as error:
        keys = ARGUMENT_KEYS.get(slot, {})
        prefix = "" if ARGUMENT.match(str(error)) else f"{slot}: "
        raise ChoiceError(prefix + name_keys(str(error), lambda name: keys.get(name, f"{slot}.{name}"))) from error
    except BakeoffError:
        raise
    except Exception as error:  # libraries raise exceptions of all kinds
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise ChoiceError(f"{slot}: {config['_target_']} does not work with these settings: {reason}") from error
