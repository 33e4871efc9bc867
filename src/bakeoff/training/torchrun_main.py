"""One rank of a run on several devices, started by torchrun: `python -m bakeoff.training.torchrun_main RUN_DIR [--progress]`.

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

from bakeoff.training.processes import exit_on_stop
from bakeoff.training.run_training import train_from_dir


def watch_launcher(launcher: socket.socket) -> None:
    """Wait until the launcher is gone, and then kill torchrun and this rank: SIGKILL of the launcher reaches neither of them."""
    with contextlib.suppress(OSError):
        launcher.recv(1)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(os.getppid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


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
    main()
