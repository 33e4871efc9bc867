"""Processes whose command is gone end without a word, and commands whose processes are killed end with one line or start them again."""

from __future__ import annotations

import multiprocessing
import os
import signal
from multiprocessing.connection import Connection

import pytest

from bakeoff.errors import MachineError, PlanError
from bakeoff.sweep import runner, worker
from bakeoff.training import processes


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


def end(how: str, wire: Connection) -> None:
    if how == "answer":
        wire.send(how)
    elif how != "exit":
        if how == "SIGTERM":  # a command that ran in this process before may have left its handler
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), getattr(signal, how))


def test_a_check_that_is_killed_is_a_fault_of_the_machine() -> None:
    context = multiprocessing.get_context("fork")
    assert runner.from_child(context, end, "answer", label="the check") == "answer"  # type: ignore[arg-type]
    for how in ("SIGKILL", "SIGTERM"):
        with pytest.raises(MachineError, match="the check was killed; the same line goes on"):
            runner.from_child(context, end, how, label="the check")  # type: ignore[arg-type]
    for how in ("SIGSEGV", "exit"):
        with pytest.raises(PlanError, match="the check ended with exit code"):
            runner.from_child(context, end, how, label="the check")  # type: ignore[arg-type]


class KilledServer:
    """A fork server that is killed after it has taken an order."""

    def __init__(self, times: int) -> None:
        self.times = times

    def Process(self, **_: object) -> KilledServer:  # noqa: N802
        return self

    def start(self) -> None:
        self.times -= 1
        if self.times >= 0:
            raise EOFError("unexpected EOF")


def test_a_process_is_ordered_again_where_the_fork_server_was_killed() -> None:
    assert processes.start_process(KilledServer(2), send) is not None  # type: ignore[arg-type]
    with pytest.raises(MachineError, match="the fork server was killed 3 times in a row"):
        processes.start_process(KilledServer(3), send)  # type: ignore[arg-type]
