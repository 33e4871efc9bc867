"""The writer: a process of its own that replays the journals below a folder into the store while runs are training.

`python -m bakeoff.tracking.writer ROOT --parent PID`: ends after a last drain when its standard input says so or ends, or PID is gone.
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

from bakeoff.errors import BakeoffError, StoreError
from bakeoff.runs.run_dir import RunDir, iter_run_dirs
from bakeoff.tracking.replay import ReplayProgress, is_behind, mark_dead, replay_run, store_of

POLL = 0.5
DRAIN = 20.0
#: Seconds between two tries of a store that is away.
RETRY = 5.0
URI = "BAKEOFF_TRACKING_URI"
LAGS = "store lags: bakeoff sync"


def sync_runs(root: Path, *, uri: str | None = None) -> list[ReplayProgress]:
    """Replays every run below `root` that the store lags behind on, says KILLED of the dead ones, and returns what was done.

    StoreError where a store is away. A damaged run folder is told as a problem of its Progress.
    """
    done: list[ReplayProgress] = []
    for folder in iter_run_dirs(root):
        try:
            if is_behind(folder, uri=uri):
                done.append(replay_run(folder, uri=uri))
            dead = mark_dead(folder, uri=uri)
            if dead is not None:
                done = [p for p in done if p.folder != dead.folder] + [dead]
        except StoreError:
            raise
        except BakeoffError as error:
            done.append(ReplayProgress(folder.path, folder.path.name.rpartition("-")[2], problems=[str(error)]))
    return done


class _Pass:
    """One look at all journals after the other; a journal that has not grown since it was replayed costs one stat."""

    def __init__(self, root: Path, uri: str | None) -> None:
        self.root, self.uri = Path(root), uri
        self.sizes: dict[Path, int] = {}
        self.away: dict[str, float] = {}
        self.told: set[str] = set()

    def once(self, *, deadline: float | None = None) -> bool:
        """Replays what has grown; True where something is left over. Trained nets go last."""
        left = False
        for models in (False, True):
            for path in _journals(self.root):
                if deadline is not None and time.monotonic() > deadline:
                    return True
                left |= self._one(RunDir(path.parent), models=models, last=deadline is not None)
        return left

    def _one(self, folder: RunDir, *, models: bool, last: bool) -> bool:
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
                progress = replay_run(folder, uri=self.uri, models=models)
            except StoreError:
                self.away[address] = time.monotonic() + RETRY
                raise
        except FileNotFoundError:
            return False  # the folder was thrown away under our eyes
        except BakeoffError as error:
            self._tell(str(error))
            return True
        for problem in progress.problems:
            self._tell(problem)
        if not progress.pending:
            # The size from before the replay: what came meanwhile is looked at again.
            self.sizes[folder.path] = size
        return False

    def _tell(self, message: str) -> None:
        if message not in self.told:
            self.told.add(message)
            print(f"writer: {message}", file=sys.stderr, flush=True)


def _journals(root: Path) -> list[Path]:
    found = []
    for experiment in _entries(root):
        found += [journal for run in _entries(experiment) if os.path.exists(journal := f"{run}/journal.jsonl")]
    return [Path(path) for path in found]


def _entries(folder: Path | str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.path for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
    except FileNotFoundError:
        return []


def run_writer(root: Path, uri: str | None, stop: Callable[[float], float | None]) -> bool:
    """Replays until `stop(seconds to wait)` returns a bound in seconds for the last drain; returns whether the store still lags."""
    work = _Pass(root, uri)
    bound = stop(0.0)
    while bound is None:
        work.once()
        bound = stop(POLL)
    deadline = time.monotonic() + bound
    while work.once(deadline=deadline):
        if time.monotonic() + POLL > deadline:
            return True
        time.sleep(POLL)
    return False


class _Child(Protocol):
    def stop(self, timeout: float) -> bool | None:
        """Asks for the last drain, waits; True where the store lags, None where the process had to be ended."""


class Writer:
    """Keeps a writer process beside the training, as a context manager; `close` drains within a bound.

    With a multiprocessing `context` (a forkserver that has MLflow imported, say) it starts at once, else as a fresh interpreter.
    """

    def __init__(self, root: Path, *, uri: str | None = None, context: Any = None) -> None:
        self._child: _Child | None = _Forked(Path(root), uri, context) if context is not None else _Spawned(Path(root), uri)

    def close(self, timeout: float = DRAIN) -> bool:
        """Drains for at most `timeout` seconds, ends the process, and returns whether the store lags; tells the caller's shell if so."""
        if self._child is None:
            return False
        child, self._child = self._child, None
        lagging = child.stop(timeout) is not False
        if lagging:
            print(LAGS, file=sys.stderr, flush=True)
        return lagging

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Spawned:
    def __init__(self, root: Path, uri: str | None) -> None:
        command = [sys.executable, "-m", "bakeoff.tracking.writer", str(root.absolute()), "--parent", str(os.getpid())]
        # An address may hold a password, and everyone on a machine can read command lines.
        environment = {**os.environ, **({URI: uri} if uri else {})}
        # A session of its own: Ctrl-C is for the training, which then tells the writer.
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, start_new_session=True)

    def stop(self, timeout: float) -> bool | None:
        pipe = self.process.stdin
        assert pipe is not None
        try:
            # Said in words, since a forked sibling may hold the pipe's other end open.
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
    def __init__(self, root: Path, uri: str | None, context: Any) -> None:
        theirs, self.pipe = context.Pipe(duplex=False)
        self.process = context.Process(target=_serve_pipe, args=(root.absolute(), uri, theirs, os.getpid()), daemon=True)
        self.process.start()
        theirs.close()

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
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def stop(seconds: float) -> float | None:
        try:
            return float(pipe.recv()) if pipe.poll(seconds) else _bereft(parent)
        except EOFError:
            return DRAIN

    sys.exit(3 if run_writer(root, uri, stop) else 0)


def _bereft(parent: int) -> float | None:
    """A bound for the last drain where the parent is gone."""
    try:
        os.kill(parent, 0)
    except ProcessLookupError:
        return DRAIN
    except PermissionError:
        return None
    return None


def _listen(file: IO[str], told: threading.Event, bound: list[float]) -> None:
    line = file.readline().strip()
    bound.append(float(line) if line else DRAIN)
    told.set()


def main(arguments: list[str] | None = None) -> int:
    """The process: exit code 0 where everything is in the store, 3 where the store lags."""
    parser = argparse.ArgumentParser(prog="bakeoff.tracking.writer", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("root", type=Path)
    parser.add_argument("--parent", type=int, required=True)
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    told, bound = threading.Event(), list[float]()
    threading.Thread(target=_listen, args=(sys.stdin, told, bound), daemon=True).start()

    def stop(seconds: float) -> float | None:
        return bound[0] if told.wait(seconds) else _bereft(given.parent)

    return 3 if run_writer(given.root, os.environ.get(URI) or None, stop) else 0


if __name__ == "__main__":
    sys.exit(main())
