"""Processes whose command is gone end without a word."""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection

import pytest

from bakeoff.sweep import worker


def send(wire: Connection) -> None:
    wire.send(["an answer"])


def test_an_answer_that_nobody_waits_for(capfd: pytest.CaptureFixture[str]) -> None:
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    receiver.close()
    process = context.Process(target=worker.answer, args=(send, sender))
    process.start()
    process.join(30)
    assert process.exitcode == 0 and capfd.readouterr().err == ""
