"""Compositions and plans for several tests of this folder, each created once, since Hydra takes a tenth of a second for each."""

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
    """The config of a command line, as `composed("model=vgg11", ...)`."""
    return functools.cache(lambda *words: compose.compose_config(list(words)))


@pytest.fixture(scope="session")
def planned() -> Callable[..., Plan]:
    """A sweep's plan at a scale; `outer` restricts every factor and block to its first and last value."""

    @functools.cache
    def plan(name: str, scale: str | None, *, outer: bool = False) -> Plan:
        words = [] if scale is None else [f"scale={scale}"]
        spec = read_request(name, overrides=words).spec
        several = [(key, values) for key, values in {**spec.factors, **spec.blocks}.items() if outer and len(values) > 2]
        return make_plan(name, overrides=[*words, *(f"{key}={text(values[0])},{text(values[-1])}" for key, values in several)])

    return plan
