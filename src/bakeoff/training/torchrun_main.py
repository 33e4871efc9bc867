"""A run on several devices: `python -m bakeoff.training.torchrun_main --launch WORDS` is torchrun, `... RUN_DIR [--progress]` a rank of it.

torchrun itself ends with exit code 1 and a page of text whatever has happened to a rank; here its exit code is that of the first rank to
fail, 128 + N where signal N has ended it.

Standard input is a socket to the process that started torchrun: its end ends the rank, and a rank says its exit code over it, which
torchrun keeps to itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from pathlib import Path

import bakeoff.training.postponed_torchmetrics  # noqa: F401  # before Lightning
from bakeoff.training.processes import SIGNAL_BASE, exit_on_stop
from bakeoff.training.run_training import train_from_dir


def watch_launcher(launcher: socket.socket) -> None:
    """Wait until the launcher is gone, and then kill torchrun and this rank: SIGKILL of the launcher reaches neither of them."""
    with contextlib.suppress(OSError):
        launcher.recv(1)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(os.getppid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def launch(words: list[str]) -> None:
    """Run torchrun with the words of its command line."""
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    try:
        run.main(words)
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        sys.exit(failure.exitcode if failure.exitcode >= 0 else SIGNAL_BASE - failure.exitcode)


def main() -> None:
    """Train as one rank."""
    launcher = socket.socket(fileno=os.dup(sys.stdin.fileno()))
    threading.Thread(target=watch_launcher, args=(launcher,), daemon=True).start()
    try:
        with exit_on_stop():
            train_from_dir(Path(sys.argv[1]), progress="--progress" in sys.argv[2:])
    except SystemExit as stop:
        with contextlib.suppress(OSError):
            launcher.send(bytes([int(stop.code or 0)]))
        raise


if __name__ == "__main__":
    if sys.argv[1] == "--launch":
        launch(sys.argv[2:])
    else:
        main()
