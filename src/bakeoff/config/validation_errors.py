"""pydantic's errors as a line with the key, the value, the rule, the choices and the near miss."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from bakeoff.config.key_names import suggest_key
from bakeoff.errors import near_miss, shorten


def explain_validation_error(error: ValidationError, model: type[BaseModel]) -> str:
    """Return the first error of `model.model_validate` as a line.

    It is `KEY=VALUE: rule`, or `KEY: no such key (did you mean X?); keys: ...`, with a dotted key.
    """
    first = error.errors(include_url=False)[0]
    names, annotation, parents = _walk(model, first["loc"])
    key, value = ".".join(names), first["input"]
    context = first.get("ctx", {})
    if first["type"] == "extra_forbidden":
        siblings = [name for parent in parents[-1:] for name in _field_names(parent)]
        return f"{key}: no such key{suggest_key(key, keys=[], siblings=siblings)}"
    if first["type"] == "missing":
        return f"{key}: this key is missing"
    if first["type"] == "too_long":
        return f"{key}={shorten(value)}: must have at most {context['max_length']} items"
    if first["type"] == "string_too_long":
        return f"{key}={shorten(value)}: must have at most {context['max_length']} characters"
    if first["type"] in ("too_short", "string_too_short"):
        return f"{key}: must not be empty"
    if first["type"] == "value_error":
        return f"{key}={shorten(value)}: {context['error']}" if key else str(context["error"])
    if first["type"] == "complete_message":
        return first["msg"]
    if first["type"] in ("model_type", "dict_type", "model_attributes_type"):
        return f"{key}: must be a mapping, as in {key}: {{name: value}}"
    rule = first["msg"].removeprefix("Input should be ").removeprefix("a valid ")
    return f"{key}={shorten(value)}: must be {rule}{near_miss(str(value), _literals(annotation))}"


def _walk(model: type[BaseModel], location: tuple[int | str, ...]) -> tuple[list[str], Any, list[type[BaseModel]]]:
    """Follow the path of an error: return the names of its keys, the annotation of the last one, and the models on the path.

    A union reports an error for each member, with the member's type at the end of the path, where the walk stops.
    """
    names: list[str] = []
    parents = [model]
    annotation: Any = model
    for step in location:
        node = _first_of(annotation, BaseModel)
        if node is not None:
            parents.append(node)
            names.append(str(step))
            fields = {field.alias or name: field for name, field in node.model_fields.items()}
            annotation = fields[str(step)].annotation if step in fields else None
        elif _first_of(annotation, dict) is not None:
            names.append(str(step))
            annotation = next((args[1] for part in _parts(annotation) if (args := get_args(part)) and get_origin(part) is dict), None)
        elif isinstance(step, int) and _first_of(annotation, list, tuple) is not None:
            annotation = next((args[0] for part in _parts(annotation) if (args := get_args(part))), None)
        else:
            break
    return names, annotation, parents


def _parts(annotation: Any) -> Iterator[Any]:
    """Yield the members of a union, without Annotated wrappers."""
    if hasattr(annotation, "__metadata__"):
        yield from _parts(annotation.__origin__)
    elif get_origin(annotation) in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from _parts(part)
    else:
        yield annotation


def _first_of(annotation: Any, *kinds: type) -> Any:
    """Return the first member of an annotation that is a subclass of one of these kinds, or None."""
    for part in _parts(annotation):
        origin = get_origin(part) or part
        if isinstance(origin, type) and issubclass(origin, kinds):
            return origin
    return None


def _literals(annotation: Any) -> list[str]:
    """Return the values of an annotation's Literals."""
    return [str(value) for part in _parts(annotation) if get_origin(part) is Literal for value in get_args(part)]


def _field_names(model: type[BaseModel]) -> list[str]:
    """Return the keys of a model as in files."""
    return [field.alias or name for name, field in model.model_fields.items()]
