"""The writer: a process of its own that replays the journals below a folder into the store while runs are training.

`python -m bakeoff.training.writer ROOT --parent PID --pipe FD`: ends after a last replay when the pipe says so or ends, or PID is gone.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

from bakeoff.errors import BakeoffError, FolderError, StoreError, echo
from bakeoff.machine import SAFE_PATH
from bakeoff.run_files.run_dir import RunDir, iter_run_dirs
from bakeoff.run_files.settling import settle_run
from bakeoff.tracking.client import URI_VARIABLE
from bakeoff.tracking.replay import ReplayProgress, forget_lost_runs, is_behind, replay_runs
from bakeoff.tracking.store_clock import StoreClock

POLL = 0.5
RETRY = 2.0
"""Seconds between two tries of a store that is away."""
FAILURES = 3
"""Failed replays in a row after which a store counts as away."""
PATIENCE = 8.0
"""Seconds that a store which does not answer is waited for when the training is over."""
ORPHANED = 20.0
"""Seconds that the last replay may take when the parent is gone."""
SILENCE = 60.0
"""Seconds without a word after which a writer counts as frozen."""
QUIET = 3.0
"""Seconds that the last replay may take without a word to the user."""
RESTARTS = 5
"""How often a writer that was killed is started again."""
LAGS = "MLflow is still catching up; nothing is missing from the run folders, and bakeoff sync finishes it"
EXIT_LAGGING = 3
"""The exit code of a command whose results are there, but not all in the store."""


def sync_runs(root: Path, *, uri: str | None = None, report: Callable[[int, int], object] | None = None) -> list[ReplayProgress]:
    """Replay every run below a folder that its store lags behind on, with the end of those whose process died.

    Args:
        root: The folder of all runs.
        uri: The store; None: see `store_of`.
        report: Called with the numbers of runs that are done and of all.

    Returns:
        The progress of every run that was changed. A damaged run folder is a problem of its progress.

    Raises:
        StoreError: A store is away.
    """
    forget_lost_runs(iter_run_dirs(root), uri=uri)
    outcomes: dict[Path, ReplayProgress | BakeoffError] = {}
    behind: list[RunDir] = []
    for folder in iter_run_dirs(root):
        try:
            settle_run(folder)
            if is_behind(folder, uri=uri):
                behind.append(folder)
        except BakeoffError as error:
            outcomes[folder.path] = error
    total = len(behind)
    while behind:
        replayed = replay_runs(behind, uri=uri, write_model=write_model)
        for outcome in replayed.values():
            if isinstance(outcome, StoreError) and len(replayed) == 1:
                raise outcome
        outcomes |= replayed
        behind = [folder for folder in behind if folder.path not in replayed]
        if report is not None:
            report(total - len(behind), total)
    return [
        ReplayProgress(path, path.name.rpartition("-")[2], problems=[str(outcome)]) if isinstance(outcome, BakeoffError) else outcome
        for path, outcome in outcomes.items()
    ]


def catch_up(root: Path, *, uri: str) -> bool:
    """Bring a store up to date with the runs below a folder before it is read, as far as it answers.

    Args:
        root: The folder of all runs, which may be missing.
        uri: The store.

    Returns:
        Whether the store still lags; standard error says so.
    """
    settle_runs(root)
    folders = list(iter_run_dirs(root))
    forget_lost_runs(folders, uri=uri, files_only=True)
    if not any(_needs_replay(folder, uri=uri) for folder in folders):
        return False
    with Writer(root, uri=uri) as writer:
        return writer.close()


def settle_runs(root: Path) -> None:
    """Write the ends of all runs below a folder whose process is gone; a folder that cannot be read or written is told."""
    for folder in iter_run_dirs(root):
        try:
            settle_run(folder)
        except BakeoffError as error:
            echo(f"writer: {error}", err=True)


def write_model(path: Path) -> None:
    """Write the trained net of a run's folder in a process of its own, since that needs torch.

    Raises:
        FolderError: It cannot be written.
    """
    command = [sys.executable, "-m", "bakeoff.training.model_files", str(path)]
    done = subprocess.run(command, env={**os.environ, **SAFE_PATH}, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise FolderError((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])


def _needs_replay(folder: RunDir, *, uri: str) -> bool:
    """Whether the store lags behind a run; not for a damaged folder, which a replay cannot mend."""
    try:
        return is_behind(folder, uri=uri)
    except BakeoffError:
        return False


class JournalFollower:
    """Replays the journals below a folder as they grow; one that has not grown since it was replayed costs one stat."""

    def __init__(self, root: Path, uri: str | None, clock: StoreClock | None = None) -> None:
        """Follow all journals below `root` into the store at `uri` (None: see `store_of`)."""
        self.root, self.uri = Path(root), uri
        self.clock = StoreClock() if clock is None else clock
        self.sizes: dict[Path, int] = {}
        self.away, self.failures = 0.0, 0
        self.failed: set[Path] = set()
        self.reported: set[str] = set()
        #: Replays that came to their end, and journals that the current pass has still to look at.
        self.replayed, self.left = 0, 0

    def replay_grown(self) -> bool:
        """Replay the journals that have grown, and export trained nets after everything else; return whether something is left over."""
        behind = False
        for models in (False, True):
            # A run that the store refuses must not keep the others waiting.
            grown = sorted(filter(self._has_grown, _journals(self.root)), key=lambda path: path.parent in self.failed)
            left, unreadable = self._list_behind(grown)
            behind |= unreadable
            while left:
                self.left = len(left)
                if self.away > time.monotonic():
                    return True
                outcomes = self._replay(list(left), models=models)
                for folder, outcome in outcomes.items():
                    size = left.pop(folder)
                    behind |= isinstance(outcome, BakeoffError)
                    if isinstance(outcome, ReplayProgress) and not outcome.pending:
                        # The size from before the replay: what was added meanwhile is read again.
                        self.sizes[folder] = size
        self.left = 0
        return behind

    def _list_behind(self, journals: Iterable[Path]) -> tuple[dict[Path, int], bool]:
        """Return the folders that the store lags behind on, with the sizes of their journals, and whether one could not be read."""
        behind, unreadable = dict[Path, int](), False
        for journal in journals:
            folder = journal.parent
            try:
                size = journal.stat().st_size
                if folder in self.sizes or is_behind(RunDir(folder), uri=self.uri):
                    behind[folder] = size
                else:
                    self.sizes[folder] = size
            except FileNotFoundError:
                continue  # the folder has been deleted meanwhile
            except BakeoffError as error:
                self._report(str(error))
                unreadable = True
        return behind, unreadable

    def _replay(self, folders: Sequence[Path], *, models: bool) -> Mapping[Path, ReplayProgress | BakeoffError]:
        """Replay some runs; tell what went wrong, and count failures of the store."""
        outcomes: dict[Path, ReplayProgress | BakeoffError]
        try:
            outcomes = replay_runs([RunDir(folder) for folder in folders], uri=self.uri, write_model=write_model if models else None)
        except StoreError as error:
            outcomes = {folders[0]: error}
        for folder, outcome in outcomes.items():
            if isinstance(outcome, ReplayProgress):
                self.replayed += 1
                self.failures = 0
            for problem in [str(outcome)] if isinstance(outcome, BakeoffError) else outcome.problems:
                self._report(problem)
            if isinstance(outcome, StoreError):
                self.clock.begin()
                self.failed.add(folder)
                self.failures += 1
                if self.failures >= FAILURES:
                    self.away = time.monotonic() + RETRY
        return outcomes

    def _has_grown(self, journal: Path) -> bool:
        try:
            return self.sizes.get(journal.parent) != journal.stat().st_size
        except FileNotFoundError:
            return False  # the folder has been deleted meanwhile

    def _report(self, message: str) -> None:
        if message not in self.reported:
            self.reported.add(message)
            echo(f"writer: {message}", err=True)


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


def run_writer(follower: JournalFollower, stop: Callable[[float], bool]) -> bool:
    """Replay what grows below a folder until the training is over, and then what is left, as long as the store answers.

    Args:
        follower: What follows the journals.
        stop: Waits the given seconds for the order to stop, and says whether it has come.

    Returns:
        Whether the store still lags behind the journals.
    """
    settle_runs(follower.root)
    try:
        forget_lost_runs(iter_run_dirs(follower.root), uri=follower.uri)
    except BakeoffError:
        follower.clock.begin()  # the replays meet the same store, and say so
    while not stop(POLL):
        follower.replay_grown()
    settle_runs(follower.root)
    replayed, since = follower.replayed, time.monotonic()
    while follower.replay_grown():
        if follower.replayed > replayed:
            replayed, since = follower.replayed, time.monotonic()
        elif time.monotonic() > since + PATIENCE:
            return True
        time.sleep(POLL)
    return False


class Writer:
    """A writer process beside the training, as a context manager; its end brings the store up to date.

    A process that is killed is started again.
    """

    def __init__(self, root: Path, *, uri: str | None = None) -> None:
        """Start the process.

        Args:
            root: The folder of all runs.
            uri: The store; None: see `store_of`.
        """
        self._root, self._uri = Path(root).absolute(), uri
        self._guard, self._done = threading.Lock(), threading.Event()
        self._restarts, self._stopping, self._closed, self._lagging = 0, False, False, True
        self._waiting, self._left, self._heard = 0.0, 0, time.monotonic()
        self._start()
        threading.Thread(target=self._listen, name="writer", daemon=True).start()

    def close(self, timeout: float | None = None) -> bool:
        """Replay what is left, and end the process.

        Args:
            timeout: The longest time in seconds that the last replay may take; None: as long as the store answers.

        Returns:
            Whether the store lags behind the journals; if so, standard error says it.
        """
        if self._closed:
            return False
        self._closed, start = True, time.monotonic()
        with self._guard:
            self._stopping = True
            self._send_stop()
        shown = ""
        try:
            while not self._done.wait(0.1):
                now = time.monotonic()
                if (timeout is not None and now > start + timeout) or now > max(start, self._heard) + SILENCE:
                    break
                line = self._describe(now - start)
                if line not in ("", shown):
                    shown = line
                    echo(line, err=True)
        finally:
            if not self._done.is_set():
                self._kill()
        if self._lagging:
            echo(LAGS, err=True)
        return self._lagging

    def __enter__(self) -> Writer:
        """Return the writer itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close the writer; soon, where the command is stopped."""
        self.close(None if kind is None or issubclass(kind, Exception) else PATIENCE / 2)

    def _start(self) -> None:
        """Start a process with a pipe of its own."""
        self._pipe, pipe = Pipe()
        command = [sys.executable, "-m", "bakeoff.training.writer", str(self._root), "--parent", str(os.getpid())]
        command += ["--pipe", str(pipe.fileno())]
        # An address may hold a password, and everyone on a machine can read command lines.
        environment = {**os.environ, **SAFE_PATH, **({URI_VARIABLE: self._uri} if self._uri else {})}
        # A session of its own: Ctrl-C is for the training, which then tells the writer.
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment, pass_fds=(pipe.fileno(),), start_new_session=True)
        self._reap = child.wait
        #: Process id of the writer.
        self.pid: int = child.pid
        pipe.close()

    def _listen(self) -> None:
        """Take in what the process says, and start another one where it is gone without a last word."""
        while True:
            try:
                message = self._pipe.recv()
            except (EOFError, OSError):
                self._reap()
                with self._guard:
                    if self._restarts >= RESTARTS:
                        break
                    self._restarts += 1
                    self._start()
                    self._heard = time.monotonic()
                    if self._stopping:
                        self._send_stop()
                continue
            self._heard = time.monotonic()
            if isinstance(message, bool):
                self._lagging = message
                self._reap()
                break
            self._waiting, self._left = message
        self._pipe.close()
        self._done.set()

    def _send_stop(self) -> None:
        with contextlib.suppress(OSError):  # a process that is gone is started again, and told then
            self._pipe.send("stop")

    def _kill(self) -> None:
        """End the process, and start no other."""
        with self._guard:
            self._restarts = RESTARTS
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        self._done.wait(PATIENCE)

    def _describe(self, seconds: float) -> str:
        """What the user is told `seconds` after the order to stop."""
        if self._waiting > 1.0:
            return f"the store does not answer: giving up in {max(1, round(PATIENCE - self._waiting) // 2 * 2)} s (nothing is lost)"
        if seconds > QUIET and self._left:
            return f"the store is taking in what is left: {self._left} {'run' if self._left == 1 else 'runs'} to go"
        return ""


def _serve(root: Path, uri: str | None, pipe: Connection, parent: int) -> None:
    """Run the writer at one end of a pipe: the order to stop comes in, progress and at last whether the store lags go out."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    clock, guard, stopped = StoreClock(), threading.Lock(), threading.Event()
    clock.watch()
    follower = JournalFollower(root, uri, clock)

    def send(message: object) -> None:
        with guard:
            pipe.send(message)

    # A thread of its own: the replays may be waiting for a store that hangs.
    threading.Thread(target=_supervise, args=(follower, pipe, send, stopped, parent), daemon=True).start()
    lagging = run_writer(follower, stopped.wait)
    with contextlib.suppress(OSError):
        send(lagging)
    # A store that hangs holds threads of its client, which nobody waits for.
    os._exit(EXIT_LAGGING if lagging else 0)


def _supervise(follower: JournalFollower, pipe: Connection, send: Callable[[object], None], stopped: threading.Event, parent: int) -> None:
    """Wait for the order to stop, then tell the parent how the last replay goes, and end a process that a store keeps waiting."""
    try:
        while not pipe.poll(POLL):
            if _is_gone(parent):
                raise EOFError
        pipe.recv()
    except (EOFError, OSError):
        pass  # the parent is gone
    stopped.set()
    start = time.monotonic()
    while True:
        now = time.monotonic()
        waiting = min(follower.clock.waiting(), now - start)
        try:
            send((waiting, follower.left))
            if waiting > PATIENCE:
                send(True)
        except OSError:  # the parent is gone
            if now > start + ORPHANED:
                os._exit(EXIT_LAGGING)
        if waiting > PATIENCE:
            os._exit(EXIT_LAGGING)
        time.sleep(POLL / 2)


def _is_gone(pid: int) -> bool:
    """Whether there is no such process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def main(arguments: list[str] | None = None) -> None:
    """Run the writer as a program; its exit code is 0 where everything is in the store, and `EXIT_LAGGING` where the store lags.

    Args:
        arguments: The command line; None: that of the process.
    """
    parser = argparse.ArgumentParser(prog="bakeoff.training.writer", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("root", type=Path)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--pipe", type=int, required=True)
    options = parser.parse_args(arguments)
    _serve(options.root, os.environ.get(URI_VARIABLE) or None, Connection(options.pipe), options.parent)


if __name__ == "__main__":
    main()
