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
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bakeoff.errors import BusyError, MachineError, echo, signal_of
from bakeoff.machine import SAFE_PATH, FaultKind, fault_of, full_disk
from bakeoff.run_files.journal import read_journal
from bakeoff.run_files.run_dir import RunDir

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext
    from multiprocessing.process import BaseProcess

PRELOAD_MODULES = ("bakeoff.training.postponed_torchmetrics", "bakeoff.training.preload_modules")
"""What the fork server imports, in this order."""
TRAIN_FUNCTION = "bakeoff.training.run_training:train_from_dir"
"""`module:function` that a child calls with the path of its run directory."""
RUN_DIR_VARIABLE = "BAKEOFF_RUN_FOLDER"
"""Environment variable that every process of a run's tree carries, so that orphans can be told from others' processes."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
RANK_VARIABLES = ("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
RANK_PREFIXES = ("SLURM_", "TORCHELASTIC_", "GROUP_", "ROLE_", "PL_GLOBAL_SEED", "PL_SEED_WORKERS")
STDOUT, STDERR = 1, 2
FAULT_CODES: dict[str, int] = {"disk": 74, "memory": 71, "device": 69, "peer": 76}
"""Exit codes of a training process that a fault of the machine has ended; they are those of sysexits.h that come closest."""
FAULT_WORDS = {"memory": "out of memory", "device": "a device was lost", "peer": "another rank was lost"}
SIGNAL_BASE = 128
START_ATTEMPTS = 3
CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE)


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

        config = yaml.load(run_dir.read_config(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        trainer = config.get("trainer") if isinstance(config, dict) else None
        trainer = trainer if isinstance(trainer, dict) else {}
        devices, threads = int(trainer.get("devices") or 1), trainer.get("threads")
        return cls(devices, None if threads is None else int(threads), devices > 1 or trainer.get("strategy") == "ddp")


def forkserver_context(*, threads: int, preload: tuple[str, ...] = PRELOAD_MODULES) -> ForkServerContext:
    """Start a fork server that imports modules in the background; start it early.

    One server serves the whole process: a second call gives the same server with the first one's threads. Where it is killed, the next
    process that is started starts it again, in the same environment.

    Args:
        threads: CPU threads of each process.
        preload: The modules to import.
    """
    from multiprocessing import forkserver

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    # The server keeps the environment that it was born with: OpenMP reads its number of threads when torch is loaded.
    unset = dict.fromkeys([RUN_DIR_VARIABLE, *rank_variables()])
    changes = {**dict.fromkeys(THREAD_VARIABLES, str(threads)), **unset, **SAFE_PATH}
    server = forkserver._forkserver  # there is no public way to say how it is started again
    if "ensure_running" not in vars(server):

        def ensure_running() -> None:
            with environment(changes):
                type(server).ensure_running(server)

        server.ensure_running = ensure_running  # type: ignore[method-assign]
    server.ensure_running()
    return context


def start_process(
    context: ForkServerContext, target: Callable[..., None], *arguments: Any, name: str | None = None, daemon: bool | None = None
) -> BaseProcess:
    """Start a process by the fork server, which is started again where it has been killed in the meantime.

    Args:
        context: The fork server of `forkserver_context`.
        target: Called with `arguments` in the process.
        arguments: What `target` gets.
        name: The name of the process.
        daemon: Whether the process ends with this one.

    Raises:
        MachineError: The fork server is killed again and again.
    """
    for _ in range(START_ATTEMPTS):
        process = context.Process(target=target, args=arguments, name=name, daemon=daemon)
        try:
            process.start()
            return process
        except (EOFError, ConnectionError):  # it took the order, and was killed before the process was there
            time.sleep(0.1)
    raise MachineError(f"the fork server was killed {START_ATTEMPTS} times in a row", kind="killed")


def start_child(run_dir: Path, *, context: ForkServerContext) -> BaseProcess:
    """Start the training of a run directory in a process tree of its own; join the process, then read the directory's result."""
    return start_process(context, child_main, str(run_dir), name=run_dir.name)


def stop_child(process: BaseProcess, *, seconds: float = 10.0) -> None:
    """Stop a child's training as Ctrl-C does, and kill its process tree where that takes too long."""
    assert process.pid is not None
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGINT)
    process.join(seconds)
    kill_process_tree(process.pid)
    process.join()


def child_main(run_dir: str, train_function: str = TRAIN_FUNCTION) -> None:
    """Run the main function of a child: a session and a log of its own, a watch on the parent, and the training.

    Args:
        run_dir: The run directory.
        train_function: `module:function`, called with the path of the run directory.
    """
    os.setsid()
    os.environ[RUN_DIR_VARIABLE] = run_mark(Path(run_dir))
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
    with exit_on_stop():
        getattr(importlib.import_module(module), function)(Path(run_dir))


@contextlib.contextmanager
def exit_on_stop() -> Iterator[None]:
    """Exit with the code of the fault or the signal that ends the block, which `find_death` reads."""
    try:
        yield
    except MachineError as error:
        with contextlib.suppress(OSError):  # a full disk takes no log either
            echo(error, err=True)
        sys.exit(FAULT_CODES[error.kind])
    except KeyboardInterrupt as stop:
        sys.exit(SIGNAL_BASE + signal_of(stop))


@dataclass(frozen=True)
class Death:
    """How a training process ended that left no result.

    Attributes:
        kind: The fault of the machine that ended it, or `crash` where it may have been its own.
        reason: What is known of it, in one line.
    """

    kind: FaultKind | Literal["crash"]
    reason: str


def find_death(run_dir: RunDir, exit_code: int | None) -> Death:
    """Say how a run's process ended that left no result.

    Args:
        run_dir: The run directory.
        exit_code: Of the process, or of a rank where there are several; negative for a signal, as is 128 + its number.
    """
    ends = [line["reason"] for line in read_journal(run_dir.journal) if line["kind"] == "end"]
    last_words = (ends[-1] if ends else "") or last_log_line(run_dir)
    for kind, code in FAULT_CODES.items():
        if exit_code == code:
            place = full_disk(run_dir.path) if kind == "disk" else FAULT_WORDS[kind]
            return Death(kind, f"{place}: {last_words}".removesuffix(": "))  # type: ignore[arg-type]  # the keys are kinds
    if is_disk_full(run_dir):
        return Death("disk", full_disk(run_dir.path))
    number = -(exit_code or 0) if (exit_code or 0) < 0 else max(0, (exit_code or 0) - SIGNAL_BASE)
    if number in set(signal.Signals):
        name = signal.Signals(number).name
        hint = " (out of memory?)" if number == signal.SIGKILL else ""
        kind = "crash" if number in CRASHES else "killed"
        return Death(kind, f"its process ended by {name}{hint} {last_log_line(run_dir)}".strip())  # type: ignore[arg-type]
    return Death("crash", f"its process ended with exit code {exit_code} and without a result {last_log_line(run_dir)}".strip())


def is_disk_full(run_dir: RunDir) -> bool:
    """Return whether a run directory takes no more files of the size of its checkpoint."""
    checkpoint, probe = run_dir.checkpoints / "last.ckpt", run_dir.path / ".disk-probe"
    try:
        probe.write_bytes(bytes(max(1 << 20, checkpoint.stat().st_size if checkpoint.exists() else 0)))
    except OSError as error:
        return fault_of(error) == "disk"
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
    return False


def watch_parent(sentinel: int) -> None:
    """Wait until the parent is gone, and then kill this process and its tree."""
    wait([sentinel])
    kill_process_tree(os.getpid(), include_root=False)
    os.killpg(os.getpid(), signal.SIGKILL)


def run_distributed(run_dir: Path, *, progress: bool = False) -> int:
    """Train a run on several devices from the shell, with its messages on standard error.

    Ctrl-C kills all ranks and is raised again: torchrun itself would end them with a page of its own.

    Args:
        run_dir: The run directory.
        progress: Show a progress bar.

    Returns:
        The exit code; how the run went is said by the directory's result alone.
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
        The exit code of a rank that ended for a reason of its own, else that of the first one to fail.
    """
    module = ["-m", "bakeoff.training.torchrun_main"]
    command = [sys.executable, *module, "--launch", "--standalone", f"--nproc-per-node={settings.devices}"]
    command += [*module, str(run_dir), *(["--progress"] if progress else [])]
    unset = set(rank_variables())
    env = {name: value for name, value in os.environ.items() if name not in unset} | {RUN_DIR_VARIABLE: run_mark(run_dir)} | SAFE_PATH
    # torchrun itself sets one thread a rank where nobody says otherwise.
    if settings.threads is not None:
        env.update(dict.fromkeys(THREAD_VARIABLES, str(settings.threads)))
    launcher, ranks = socket.socketpair()
    with ranks:
        process = subprocess.Popen(command, env=env, stdin=ranks.fileno(), stdout=output, stderr=output, start_new_session=True)
    try:
        code = process.wait()
        launcher.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            codes = set(launcher.recv(settings.devices))
            # A rank that lost another one has less to say than that one's end.
            code = min(codes - {FAULT_CODES["peer"]} or {code})
        return code
    finally:
        kill_process_tree(process.pid)
        process.wait()
        launcher.close()
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


def run_mark(run_dir: Path) -> str:
    """Return what tells the processes of a run from those of all others: its absolute folder, the host and its boot."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"{socket.gethostname()}:{boot.read_text().strip() if boot.exists() else ''}:{run_dir.resolve()}"


def kill_orphans(run_dir: Path) -> None:
    """Send SIGKILL to every process that an earlier process tree of this run has left."""
    import psutil

    mark = run_mark(run_dir)
    for process in psutil.process_iter(["pid"]):
        try:
            if process.pid != os.getpid() and process.environ().get(RUN_DIR_VARIABLE) == mark:
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
    texts = [line.strip() for line in read_log(run_dir).split("\n") if line.strip()]
    return json.dumps(texts[-1][:200]) if texts else ""


def read_log(run_dir: RunDir) -> str:
    """Return what a run's processes have printed; '' where there is no log."""
    try:
        return run_dir.log.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""


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
