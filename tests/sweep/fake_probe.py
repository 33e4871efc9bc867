"""Probes of a plan's blocks that train nothing: one answers, one complains."""

from __future__ import annotations

from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any


def fake_probe(runs: Sequence[Any], wire: Connection) -> None:
    wire.send([(0.01 * len(runs), 3.0 + number) for number, _ in enumerate(runs)])


def broken_probe(runs: Sequence[Any], wire: Connection) -> None:
    wire.send("data.root=nowhere: no such folder")
