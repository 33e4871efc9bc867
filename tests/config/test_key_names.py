"""A name that is no key leads to ours, and every key that a message names is one."""

from __future__ import annotations

from bakeoff.config.compose import compose
from bakeoff.config.key_names import FOREIGN
from bakeoff.config.slots import SLOTS


def test_every_key_of_the_table_is_a_key_of_a_run() -> None:
    keys = set(compose().flat())
    for name, key in FOREIGN.items():
        assert key in keys or key in SLOTS, f"{name} -> {key}"
