"""`bakeoff COMMAND ...`: finds the command and tells a user's error as one line with exit code 2."""

from __future__ import annotations

import importlib
import io
import os
import sys

import bakeoff.training.postponed_torchmetrics  # noqa: F401  # before Lightning
from bakeoff.errors import BakeoffError, MachineError, RunInterrupted, echo, join_choices, near_miss, signal_of
from bakeoff.machine import SAFE_PATH

COMMANDS = {
    "check": "check data, net, gradients and learning rate before a long run",
    "train": "train one net, or a grid of them with -m",
    "sweep": "run a comparison from sweeps/, or continue it where it stopped",
    "report": "build a sweep's report again from the store",
    "reproduce": "train a logged run again and compare it with the original",
    "list": "every slot and its choices",
    "schema": "the JSON Schema of run configs or sweep files, for editors",
    "show": "pictures that explain activations, optimizers, backpropagation, ...",
    "ui": "the MLflow UI, on this machine only",
    "sync": "bring the store up to date with the journals",
    "clean": "remove the checkpoints of finished runs",
    "completion": 'shell completion: eval "$(bakeoff completion bash)"',
}


TEMPORARY = 75
"""EX_TEMPFAIL of sysexits.h."""


def usage() -> str:
    """The page that --help prints."""
    rows = "\n".join(f"  {name:<11} {about}" for name, about in COMMANDS.items())
    return f"""bakeoff: which initializer, activation, optimizer or loss trains AlexNet and VGG best?

usage: bakeoff COMMAND [key=value ...]

{rows}

bakeoff train                                        a small net on scikit-learn's digits
bakeoff train model=vgg11 optimizer=adam seed=1      other choices
bakeoff train -m optimizer=sgd,adam seed=1,2,3       a grid
bakeoff sweep quickstart                             a fair comparison with a verdict
"""


def check_command(words: list[str]) -> None:
    """Check that the first word is a command, and that no word holds what only a caller in Python can pass."""
    if any("\0" in word for word in words):
        raise BakeoffError("a word holds a zero byte")
    if words[0] not in COMMANDS:
        raise BakeoffError(f"{words[0]}: no such command{near_miss(words[0], COMMANDS)}; commands: {join_choices(COMMANDS)}")


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code.

    It is 0, 1 for a result that is not as hoped, 2 for a user's error, 3 where the store lags, 75 for a fault of the machine after which
    the same work can go on, and 128 + N for signal N: 130 for Ctrl-C, 143 for SIGTERM.
    """
    os.environ.update(SAFE_PATH)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # letters that the terminal does not know are spelt out
            stream.reconfigure(errors="backslashreplace")
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        echo(usage().rstrip())
        return 0
    if words[0] == "--version":
        from importlib.metadata import version

        echo(f"bakeoff {version('bakeoff')}")
        return 0
    try:
        check_command(words)
        module = importlib.import_module(f"bakeoff.commands.{words[0]}")
        return int(module.main(words[1:]))
    except BakeoffError as error:
        echo(f"bakeoff: {error}", err=True)
        return TEMPORARY if isinstance(error, MachineError) else 2
    except RunInterrupted as stop:
        echo(f"bakeoff: {stop}", err=True)
        return 128 + stop.signal_number
    except KeyboardInterrupt as stop:
        echo("bakeoff: stopped", err=True)
        return 128 + signal_of(stop)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


if __name__ == "__main__":
    sys.exit(main())
