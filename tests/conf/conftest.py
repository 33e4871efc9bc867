"""Compositions and plans that several tests here look at: Hydra takes a tenth of a second for each, so each is made once."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest

from bakeoff.config import compose
from bakeoff.config.compose import ComposedConfig
from bakeoff.sweep.overrides import text
from bakeoff.sweep.plan import Plan, make_plan
from bakeoff.sweep.request import read_request


@pytest.fixture(scope="session")
def composed() -> Callable[..., ComposedConfig]:
    """What a command line composes to, as `composed("model=vgg11", ...)`."""
    return functools.cache(lambda *words: compose.compose_config(list(words)))


@pytest.fixture(scope="session")
def planned() -> Callable[..., Plan]:
    """A sweep's plan at a scale, or whole; `outer` narrows every factor and block to its first and last value."""

    @functools.cache
    def made(name: str, scale: str | None, *, outer: bool = False) -> Plan:
        words = [] if scale is None else [f"scale={scale}"]
        spec = read_request(name, overrides=words).spec
        several = [(key, values) for key, values in {**spec.factors, **spec.blocks}.items() if outer and len(values) > 2]
        return make_plan(name, overrides=[*words, *(f"{key}={text(values[0])},{text(values[-1])}" for key, values in several)])

    return made
