"""Starting a run folder as a process tree of its own, and ending that tree whole.

A process is forked from a server that has imported torch, Lightning and mlflow once. It watches its parent and takes its own tree down
when the parent dies, so that a killed worker, or a killed command, leaves nothing behind that trains on.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bakeoff.errors import BusyError
from bakeoff.runs.run_dir import RunDir

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext
    from multiprocessing.process import BaseProcess

# scikit-learn is what reading the digits waits for.
PRELOAD_MODULES = ("bakeoff.training.preload_modules", "sklearn.datasets")
TRAIN_FUNCTION = "bakeoff.training.run_training:train_from_dir"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
STDERR = 2
RUN_MARK = "BAKEOFF_RUN_FOLDER"
"""Environment variable that every process of a run's tree carries, so that strays can be told from others' processes."""
LEFTOVERS = ("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
PREFIXES = ("SLURM_", "TORCHELASTIC_", "GROUP_", "ROLE_", "PL_GLOBAL_SEED", "PL_SEED_WORKERS")


def forkserver_context(*, threads: int, preload: tuple[str, ...] = PRELOAD_MODULES) -> ForkServerContext:
    """A fork server that imports `preload` in the background, with `threads` CPU threads a process; start it early.

    One server serves the whole process: a second call gives the same server with the first one's threads.
    """
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(list(preload))
    from multiprocessing import forkserver

    # The server keeps the environment that it was born with: OpenMP reads its number of threads when torch is loaded.
    with environment({**dict.fromkeys(THREADS, str(threads)), RUN_MARK: None, **dict.fromkeys(leftovers())}):
        forkserver.ensure_running()
    return made


def start_child(folder: Path, *, context: ForkServerContext, trial: str = TRAIN_FUNCTION) -> BaseProcess:
    """Start the run of a folder as a process tree of its own; join the process, then read the folder's result."""
    process = context.Process(target=child_main, args=(str(folder), trial), name=folder.name)
    process.start()
    return process


def child_main(folder: str, trial: str = TRAIN_FUNCTION) -> None:
    """The whole life of a run's own process: a session, a log, a watch on the parent, and the training."""
    os.setsid()
    os.environ[RUN_MARK] = folder
    for name in leftovers():
        os.environ.pop(name, None)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    log = os.open(RunDir(Path(folder)).log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.close(log)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=watch_parent, args=(parent.sentinel,), daemon=True).start()
    if trial == TRAIN_FUNCTION and parallel(Path(folder)):
        sys.exit(run_torchrun(Path(folder), devices=devices_of(Path(folder)), stream=None))
    module, _, name = trial.partition(":")
    getattr(importlib.import_module(module), name)(Path(folder))


def watch_parent(sentinel: int) -> None:
    """Take the process's own tree down when its parent is gone."""
    wait([sentinel])
    kill_process_tree(os.getpid(), itself=False)
    os.killpg(os.getpid(), signal.SIGKILL)


def run_distributed(folder: Path, *, progress: bool = False) -> int:
    """Train a run of several devices from the shell, its messages on this standard error; gives torchrun's exit code.

    Ctrl-C ends all ranks and is raised on; the folder's result, not the code, says how the run went.
    """
    return run_torchrun(folder, devices=devices_of(folder), stream=STDERR, progress=progress)


def run_torchrun(folder: Path, *, devices: int, stream: int | None, progress: bool = False) -> int:
    """torchrun with one process a device in a session of its own, which is ended whole whatever happens."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={devices}"]
    command += ["-m", "bakeoff.training.torchrun_main", str(folder), *(["--progress"] if progress else [])]
    gone = set(leftovers())
    env = {name: value for name, value in os.environ.items() if name not in gone} | {RUN_MARK: str(folder)}
    # torchrun itself sets one thread a rank where nobody says otherwise.
    threads = threads_of(folder)
    if threads is not None:
        env.update(dict.fromkeys(THREADS, str(threads)))
    process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
            process.wait(10.0)
        raise
    finally:
        kill_process_tree(process.pid)
        process.wait()
        kill_orphans(folder)


def kill_process_tree(pid: int, *, itself: bool = True) -> None:
    """SIGKILL to a process, its group and all its descendants; torchrun's ranks are in sessions of their own, so a group is not enough."""
    import psutil

    try:
        top = psutil.Process(pid)
        family = top.children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    if itself:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def kill_orphans(folder: Path) -> None:
    """SIGKILL to every process of an earlier tree of this run that is left, which its mark in the environment gives away."""
    import psutil

    for process in psutil.process_iter(["pid"]):
        try:
            if process.pid != os.getpid() and process.environ().get(RUN_MARK) == str(folder):
                process.kill()
        except psutil.Error:
            continue


def wait_until_free(folder: RunDir, *, seconds: float = 10.0) -> None:
    """Wait until nobody trains in the folder, ending what an earlier worker of this sweep left there; `BusyError` if that fails."""
    patience = time.monotonic() + seconds
    while folder.busy():
        if time.monotonic() > patience - seconds / 2:
            kill_orphans(folder.path)
        if time.monotonic() > patience:
            raise BusyError(f"{folder.path}: another process is training this run")
        time.sleep(0.05)


def leftovers() -> list[str]:
    """Variables of this environment that would make a child believe that it is a rank of something."""
    return [name for name in os.environ if name in LEFTOVERS or name.startswith(PREFIXES)]


def parallel(folder: Path) -> bool:
    """Whether the run of a folder needs torchrun."""
    return devices_of(folder) > 1 or trainer_of(folder).get("strategy") == "ddp"


def devices_of(folder: Path) -> int:
    """How many devices the run of a folder wants."""
    return int(trainer_of(folder).get("devices") or 1)


def threads_of(folder: Path) -> int | None:
    """How many CPU threads each process of the run of a folder is pinned to."""
    value = trainer_of(folder).get("threads")
    return None if value is None else int(value)


def trainer_of(folder: Path) -> dict[str, Any]:
    """The trainer's node of a frozen config."""
    import yaml

    tree = yaml.safe_load(RunDir(folder).config.read_text(encoding="utf-8"))
    node = tree.get("trainer") if isinstance(tree, dict) else None
    return node if isinstance(node, dict) else {}


@contextlib.contextmanager
def environment(changes: Mapping[str, str | None]) -> Iterator[None]:
    """Environment variables set, or taken away by None, for as long as the block lasts."""
    before = {name: os.environ.get(name) for name in changes}
    try:
        put(changes)
        yield
    finally:
        put(before)


def put(variables: Mapping[str, str | None]) -> None:
    """Set environment variables, or take them away by None."""
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def last_log_line(folder: RunDir) -> str:
    """The last line that a run's process printed, for the reason of a run that ended without a result."""
    try:
        lines = folder.log.read_text(encoding="utf-8", errors="replace").split("\n")
    except FileNotFoundError:
        return ""
    said = [line.strip() for line in lines if line.strip()]
    return json.dumps(said[-1][:200]) if said else ""
