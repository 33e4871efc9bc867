"""The writer: a process of its own that replays the journals below a folder into the store while runs are training.

`python -m bakeoff.training.writer ROOT --parent PID`: ends after a last drain when its standard input says so or ends, or PID is gone.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any, Protocol

from bakeoff import builders
from bakeoff.errors import BakeoffError, StoreError
from bakeoff.machine import SAFE_PATH
from bakeoff.run_files.run_dir import RunDir, iter_run_dirs
from bakeoff.run_files.settling import settle_run
from bakeoff.tracking.client import URI_VARIABLE
from bakeoff.tracking.replay import ReplayProgress, is_behind, replay_run, store_of

POLL = 0.5
DRAIN = 20.0
#: Seconds between two tries of a store that is away.
RETRY = 5.0
LAGS = "store lags: bakeoff sync"


def sync_runs(root: Path, *, uri: str | None = None) -> list[ReplayProgress]:
    """Replay every run below a folder that its store lags behind on, with the end of those whose process died.

    Args:
        root: The folder of all runs.
        uri: The store; None: see `store_of`.

    Returns:
        The progress of every run that was changed. A damaged run folder is a problem of its progress.

    Raises:
        StoreError: A store is away.
    """
    done: list[ReplayProgress] = []
    for folder in iter_run_dirs(root):
        try:
            settle_run(folder)
            if is_behind(folder, uri=uri):
                done.append(replay_run(folder, uri=uri, load_net=builders.load_trained_model))
        except StoreError:
            raise
        except BakeoffError as error:
            done.append(ReplayProgress(folder.path, folder.path.name.rpartition("-")[2], problems=[str(error)]))
    return done


def settle_runs(root: Path) -> None:
    """Write the ends of all runs below a folder whose process is gone; a folder that cannot be read or written is told."""
    for folder in iter_run_dirs(root):
        try:
            settle_run(folder)
        except BakeoffError as error:
            print(f"writer: {error}", file=sys.stderr, flush=True)


class JournalFollower:
    """Replays the journals below a folder as they grow; one that has not grown since it was replayed costs one stat."""

    def __init__(self, root: Path, uri: str | None) -> None:
        """Follow all journals below `root` into the store at `uri` (None: see `store_of`)."""
        self.root, self.uri = Path(root), uri
        self.sizes: dict[Path, int] = {}
        self.away: dict[str, float] = {}
        self.reported: set[str] = set()

    def replay_grown(self, *, deadline: float | None = None) -> bool:
        """Replay the journals that have grown, and export trained nets after everything else.

        Args:
            deadline: The value of `time.monotonic()` after which no further journal is begun. With one, stores that were away a moment
                ago are tried again.

        Returns:
            Whether something is left over.
        """
        left = False
        for models in (False, True):
            for path in _journals(self.root):
                if deadline is not None and time.monotonic() > deadline:
                    return True
                left |= self._replay(RunDir(path.parent), models=models, last=deadline is not None)
        return left

    def _replay(self, folder: RunDir, *, models: bool, last: bool) -> bool:
        """Replay one run if its journal has grown; True where something is left over."""
        try:
            size = folder.journal.stat().st_size
            if self.sizes.get(folder.path) == size:
                return False
            if folder.path not in self.sizes and not is_behind(folder, uri=self.uri):
                self.sizes[folder.path] = size
                return False
            address = store_of(folder, uri=self.uri)
            if not last and self.away.get(address, 0.0) > time.monotonic():
                return True
            try:
                progress = replay_run(folder, uri=self.uri, load_net=builders.load_trained_model if models else None)
            except StoreError:
                self.away[address] = time.monotonic() + RETRY
                raise
        except FileNotFoundError:
            return False  # the folder has been deleted meanwhile
        except BakeoffError as error:
            self._report(str(error))
            return True
        for problem in progress.problems:
            self._report(problem)
        if not progress.pending:
            # The size from before the replay: what was added meanwhile is read again.
            self.sizes[folder.path] = size
        return False

    def _report(self, message: str) -> None:
        if message not in self.reported:
            self.reported.add(message)
            print(f"writer: {message}", file=sys.stderr, flush=True)


def _journals(root: Path) -> list[Path]:
    """List the journals of all runs below a folder."""
    journals = (f"{run}/journal.jsonl" for experiment in _subdirs(root) for run in _subdirs(experiment))
    return [Path(journal) for journal in journals if os.path.exists(journal)]


def _subdirs(folder: Path | str) -> list[str]:
    """List the folders in a folder, without the hidden ones; a missing folder has none."""
    try:
        with os.scandir(folder) as entries:
            return [entry.path for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
    except FileNotFoundError:
        return []


def run_writer(root: Path, uri: str | None, stop: Callable[[float], float | None]) -> bool:
    """Replay what grows below a folder until the training is over.

    Args:
        root: The folder of all runs.
        uri: The store; None: see `store_of`.
        stop: Waits the given seconds for the order to stop. It returns the longest time in seconds that the last replay may take, or
            None to go on.

    Returns:
        Whether the store still lags behind the journals.
    """
    settle_runs(root)
    follower = JournalFollower(root, uri)
    bound = stop(0.0)
    while bound is None:
        follower.replay_grown()
        bound = stop(POLL)
    settle_runs(root)
    deadline = time.monotonic() + bound
    while follower.replay_grown(deadline=deadline):
        if time.monotonic() + POLL > deadline:
            return True
        time.sleep(POLL)
    return False


class _Child(Protocol):
    @property
    def pid(self) -> int:
        """The process id."""

    def stop(self, timeout: float) -> bool | None:
        """Ask for the last replay and wait; True where the store lags, None where the process had to be ended."""


class Writer:
    """A writer process beside the training, as a context manager; its end brings the store up to date."""

    def __init__(self, root: Path, *, uri: str | None = None, context: Any = None) -> None:
        """Start the process.

        Args:
            root: The folder of all runs.
            uri: The store; None: see `store_of`.
            context: A multiprocessing context, such as a forkserver that has MLflow imported; it saves the start of a fresh interpreter.
        """
        self._child: _Child | None = _Forked(Path(root), uri, context) if context is not None else _Spawned(Path(root), uri)
        #: Process id of the writer.
        self.pid = self._child.pid

    def close(self, timeout: float = DRAIN) -> bool:
        """Replay what is left, and end the process.

        Args:
            timeout: The longest time in seconds that the last replay may take.

        Returns:
            Whether the store lags behind the journals; if so, standard error says it.
        """
        if self._child is None:
            return False
        child, self._child = self._child, None
        lagging = child.stop(timeout) is not False
        if lagging:
            print(LAGS, file=sys.stderr, flush=True)
        return lagging

    def __enter__(self) -> Writer:
        """Return the writer itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the writer."""
        self.close()


class _Spawned:
    """A writer in a fresh interpreter, which its standard input tells to stop."""

    def __init__(self, root: Path, uri: str | None) -> None:
        command = [sys.executable, "-m", "bakeoff.training.writer", str(root.absolute()), "--parent", str(os.getpid())]
        # An address may hold a password, and everyone on a machine can read command lines.
        environment = {**os.environ, **SAFE_PATH, **({URI_VARIABLE: uri} if uri else {})}
        # A session of its own: Ctrl-C is for the training, which then tells the writer.
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, start_new_session=True)
        self.pid = self.process.pid

    def stop(self, timeout: float) -> bool | None:
        pipe = self.process.stdin
        assert pipe is not None
        try:
            # Written out, since a forked sibling may hold the pipe's other end open.
            pipe.write(f"{timeout}\n".encode())
            pipe.close()
        except BrokenPipeError:
            return None
        try:
            return self.process.wait(timeout + 15.0) != 0
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None


class _Forked:
    """A writer of a multiprocessing context, which a pipe tells to stop."""

    def __init__(self, root: Path, uri: str | None, context: Any) -> None:
        receiver, self.pipe = context.Pipe(duplex=False)
        self.process = context.Process(target=_serve_pipe, args=(root.absolute(), uri, receiver, os.getpid()), daemon=True)
        self.process.start()
        self.pid: int = self.process.pid
        receiver.close()

    def stop(self, timeout: float) -> bool | None:
        try:
            self.pipe.send(timeout)
        except OSError:
            return None
        self.process.join(timeout + 15.0)
        code = self.process.exitcode
        if code is None:
            self.process.kill()
            self.process.join()
            return None
        return bool(code != 0)


def _serve_pipe(root: Path, uri: str | None, pipe: Connection, parent: int) -> None:
    """Run the writer as a child of a multiprocessing context."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def stop(seconds: float) -> float | None:
        try:
            return float(pipe.recv()) if pipe.poll(seconds) else _parent_gone(parent)
        except EOFError:
            return DRAIN

    sys.exit(3 if run_writer(root, uri, stop) else 0)


def _parent_gone(parent: int) -> float | None:
    """Return the bound of the last replay where the parent is gone, else None."""
    try:
        os.kill(parent, 0)
    except ProcessLookupError:
        return DRAIN
    except PermissionError:
        return None
    return None


def _listen(file: IO[str], stopped: threading.Event, bound: list[float]) -> None:
    """Wait for the line that stops the writer and names the bound of the last replay."""
    line = file.readline().strip()
    bound.append(float(line) if line else DRAIN)
    stopped.set()


def main(arguments: list[str] | None = None) -> int:
    """Run the writer as a program.

    Args:
        arguments: The command line; None: that of the process.

    Returns:
        The exit code: 0 where everything is in the store, 3 where the store lags.
    """
    parser = argparse.ArgumentParser(prog="bakeoff.training.writer", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("root", type=Path)
    parser.add_argument("--parent", type=int, required=True)
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stopped, bound = threading.Event(), list[float]()
    threading.Thread(target=_listen, args=(sys.stdin, stopped, bound), daemon=True).start()

    def stop(seconds: float) -> float | None:
        return bound[0] if stopped.wait(seconds) else _parent_gone(options.parent)

    return 3 if run_writer(options.root, os.environ.get(URI_VARIABLE) or None, stop) else 0


if __name__ == "__main__":
    sys.exit(main())
