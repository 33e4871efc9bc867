"""Training a run directory in a process tree of its own, and ending that tree as a whole.

A process is forked from a server that has imported torch, Lightning and mlflow once. It watches its parent and kills its own tree when the
parent dies, so that a killed worker, or a killed command, leaves nothing behind that trains on.
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
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING

from bakeoff.errors import BusyError
from bakeoff.machine import SAFE_PATH
from bakeoff.run_files.run_dir import RunDir

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext
    from multiprocessing.process import BaseProcess

PRELOAD_MODULES = ("bakeoff.training.preload_modules", "sklearn.datasets")
"""What the fork server imports; reading the digits waits for scikit-learn."""
TRAIN_FUNCTION = "bakeoff.training.run_training:train_from_dir"
"""`module:function` that a child calls with the path of its run directory."""
RUN_DIR_VARIABLE = "BAKEOFF_RUN_FOLDER"
"""Environment variable that every process of a run's tree carries, so that orphans can be told from others' processes."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
RANK_VARIABLES = ("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
RANK_PREFIXES = ("SLURM_", "TORCHELASTIC_", "GROUP_", "ROLE_", "PL_GLOBAL_SEED", "PL_SEED_WORKERS")
STDOUT, STDERR = 1, 2


@dataclass(frozen=True)
class LaunchSettings:
    """What the launch of a run has to know of its config.

    Attributes:
        devices: How many processes train it.
        threads: The CPU threads of each; None where the config leaves them open.
        is_distributed: Whether torchrun starts it.
    """

    devices: int
    threads: int | None
    is_distributed: bool

    @classmethod
    def read(cls, run_dir: RunDir) -> LaunchSettings:
        """Read the settings of a run directory, without the checks and imports of the whole config."""
        import yaml

        config = yaml.safe_load(run_dir.config.read_text(encoding="utf-8"))
        trainer = config.get("trainer") if isinstance(config, dict) else None
        trainer = trainer if isinstance(trainer, dict) else {}
        devices, threads = int(trainer.get("devices") or 1), trainer.get("threads")
        return cls(devices, None if threads is None else int(threads), devices > 1 or trainer.get("strategy") == "ddp")


def forkserver_context(*, threads: int, preload: tuple[str, ...] = PRELOAD_MODULES) -> ForkServerContext:
    """Start a fork server that imports modules in the background; start it early.

    One server serves the whole process: a second call gives the same server with the first one's threads.

    Args:
        threads: CPU threads of each process.
        preload: The modules to import.
    """
    from multiprocessing import forkserver

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    # The server keeps the environment that it was born with: OpenMP reads its number of threads when torch is loaded.
    unset = dict.fromkeys([RUN_DIR_VARIABLE, *rank_variables()])
    with environment({**dict.fromkeys(THREAD_VARIABLES, str(threads)), **unset, **SAFE_PATH}):
        forkserver.ensure_running()
    return context


def start_child(run_dir: Path, *, context: ForkServerContext) -> BaseProcess:
    """Start the training of a run directory in a process tree of its own; join the process, then read the directory's result."""
    process = context.Process(target=child_main, args=(str(run_dir),), name=run_dir.name)
    process.start()
    return process


def child_main(run_dir: str, train_function: str = TRAIN_FUNCTION) -> None:
    """Run the main function of a child: a session and a log of its own, a watch on the parent, and the training.

    Args:
        run_dir: The run directory.
        train_function: `module:function`, called with the path of the run directory.
    """
    os.setsid()
    os.environ[RUN_DIR_VARIABLE] = run_dir
    for name in rank_variables():
        os.environ.pop(name, None)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    log = os.open(RunDir(Path(run_dir)).log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for descriptor in (STDOUT, STDERR):
        os.dup2(log, descriptor)
    os.close(log)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=watch_parent, args=(parent.sentinel,), daemon=True).start()
    settings = LaunchSettings.read(RunDir(Path(run_dir)))
    if train_function == TRAIN_FUNCTION and settings.is_distributed:
        sys.exit(run_torchrun(Path(run_dir), settings, output=None))
    module, _, function = train_function.partition(":")
    getattr(importlib.import_module(module), function)(Path(run_dir))


def watch_parent(sentinel: int) -> None:
    """Wait until the parent is gone, and then kill this process and its tree."""
    wait([sentinel])
    kill_process_tree(os.getpid(), include_root=False)
    os.killpg(os.getpid(), signal.SIGKILL)


def run_distributed(run_dir: Path, *, progress: bool = False) -> int:
    """Train a run on several devices from the shell, with its messages on standard error.

    Ctrl-C ends all ranks and is raised again.

    Args:
        run_dir: The run directory.
        progress: Show a progress bar.

    Returns:
        The exit code of torchrun; how the run went is said by the directory's result alone.
    """
    return run_torchrun(run_dir, LaunchSettings.read(RunDir(run_dir)), output=STDERR, progress=progress)


def run_torchrun(run_dir: Path, settings: LaunchSettings, *, output: int | None, progress: bool = False) -> int:
    """Run one process a device by torchrun, in a session of its own that is killed as a whole in the end.

    Args:
        run_dir: The run directory.
        settings: Its devices and threads.
        output: The file descriptor that takes its output; None: this process's own.
        progress: Show a progress bar.

    Returns:
        The exit code.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={settings.devices}"]
    command += ["-m", "bakeoff.training.torchrun_main", str(run_dir), *(["--progress"] if progress else [])]
    unset = set(rank_variables())
    env = {name: value for name, value in os.environ.items() if name not in unset} | {RUN_DIR_VARIABLE: str(run_dir)} | SAFE_PATH
    # torchrun itself sets one thread a rank where nobody says otherwise.
    if settings.threads is not None:
        env.update(dict.fromkeys(THREAD_VARIABLES, str(settings.threads)))
    process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)
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
        kill_orphans(run_dir)


def kill_process_tree(pid: int, *, include_root: bool = True) -> None:
    """Send SIGKILL to a process, its group and all its descendants.

    The group alone is not enough: torchrun's ranks are in sessions of their own.

    Args:
        pid: The root of the tree, which leads its group.
        include_root: Kill the root and its group as well.
    """
    import psutil

    try:
        descendants = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        descendants = []
    if include_root:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for process in descendants:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def kill_orphans(run_dir: Path) -> None:
    """Send SIGKILL to every process that an earlier process tree of this run has left."""
    import psutil

    for process in psutil.process_iter(["pid"]):
        try:
            if process.pid != os.getpid() and process.environ().get(RUN_DIR_VARIABLE) == str(run_dir):
                process.kill()
        except psutil.Error:
            continue


def wait_until_free(run_dir: RunDir, *, seconds: float = 10.0) -> None:
    """Wait until no process trains in a run directory; after half the time, kill what an earlier process tree has left there.

    Args:
        run_dir: The run directory.
        seconds: How long to wait.

    Raises:
        BusyError: A process still trains there.
    """
    deadline = time.monotonic() + seconds
    while run_dir.busy():
        if time.monotonic() > deadline - seconds / 2:
            kill_orphans(run_dir.path)
        if time.monotonic() > deadline:
            raise BusyError(f"{run_dir.path}: another process is training this run")
        time.sleep(0.05)


def last_log_line(run_dir: RunDir) -> str:
    """Return the last line that a run's process printed, quoted, or nothing: the reason of a run that ended without a result."""
    try:
        lines = run_dir.log.read_text(encoding="utf-8", errors="replace").split("\n")
    except FileNotFoundError:
        return ""
    texts = [line.strip() for line in lines if line.strip()]
    return json.dumps(texts[-1][:200]) if texts else ""


def rank_variables() -> list[str]:
    """Return the variables of this environment that would make a child believe that it is a rank of something."""
    return [name for name in os.environ if name in RANK_VARIABLES or name.startswith(RANK_PREFIXES)]


@contextlib.contextmanager
def environment(changes: Mapping[str, str | None]) -> Iterator[None]:
    """Set environment variables, or unset them (None), for as long as the block lasts."""
    before = {name: os.environ.get(name) for name in changes}
    try:
        update_environment(changes)
        yield
    finally:
        update_environment(before)


def update_environment(variables: Mapping[str, str | None]) -> None:
    """Set environment variables, or unset them (None)."""
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
