"""A planned sweep from its first trial to its report: workers, writer, summary run, and what is shown meanwhile."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bakeoff.errors import BakeoffError, FolderError, MachineError, PlanError, StoreError, redact
from bakeoff.machine import fault_of, full_disk
from bakeoff.run_files.run_dir import RunDir
from bakeoff.sweep import interim, leases, worker
from bakeoff.sweep.arm_progress import ArmProgress
from bakeoff.sweep.plan import Plan
from bakeoff.sweep.progress import SweepProgress
from bakeoff.sweep.resources import Resources
from bakeoff.sweep.sweep_dir import Summary, siblings
from bakeoff.sweep.trials import FAULTS
from bakeoff.tracking.client import check_usable, default_uri
from bakeoff.training import processes
from bakeoff.training.writer import Writer

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext
    from multiprocessing.process import BaseProcess

    from bakeoff.report import Report

LOCK = "sweep.lock"
FORK_SERVER_GONE = 255
"""What multiprocessing gives for the exit code of a process whose fork server is gone."""
CLOSING = 1.5
"""Seconds that workers, and then the writer, get when the sweep is stopped."""
LOSSES = 5
"""Workers that may be lost in a row, with no run decided between them, before the sweep gives up."""


@dataclass(frozen=True)
class SweepOutcome:
    """A sweep that has come to its end. `report` is None where the store could not give one; `problem` says why.

    `lagging`: the results are there, but not all in the store.
    """

    plan: Plan
    arms_progress: list[ArmProgress]
    report: Report | None
    uri: str
    problem: str = ""
    lagging: bool = False


def validate_arms(plan: Plan, *, context: ForkServerContext) -> Plan:
    """Validate all planned arms and their data in a process of the fork server.

    Args:
        plan: The plan to validate.
        context: The fork server.

    Returns:
        The plan with the sizes of its nets and of its test sets.

    Raises:
        PlanError: The first complaint, or the margin is smaller than one test image.
        FairnessError: The nets are too far apart in size.
    """
    message = from_child(context, worker.validate_arms, plan, label="the check of the arms")
    if isinstance(message, str):
        raise PlanError(message)
    return plan.examined(message)


def from_child(context: ForkServerContext, target: Callable[..., None], *arguments: Any, label: str) -> Any:
    """Return what `target` sends from a process of the fork server.

    Args:
        context: The fork server.
        target: Called with `arguments` and, last, the pipe to send over.
        arguments: What `target` gets.
        label: What the process does, as an error message calls it.

    Raises:
        PlanError: The process ended without sending anything.
        MachineError: It was killed.
    """
    receiver, sender = context.Pipe(duplex=False)
    process = processes.start_process(context, worker.answer, target, *arguments, sender, daemon=True)
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        process.join()
        if process.exitcode in (-signal.SIGKILL, -signal.SIGTERM, FORK_SERVER_GONE):
            raise MachineError(f"{label} was killed; the same line goes on", kind="killed") from None
        raise PlanError(f"{label} ended with exit code {process.exitcode}, without an answer") from None


def run_sweep(plan: Plan, *, context: ForkServerContext, resources: Resources, trial: str = processes.TRAIN_FUNCTION) -> SweepOutcome:
    """Run what is left of a sweep and report on it; `KeyboardInterrupt` leaves it resumable.

    Args:
        plan: The validated plan.
        context: The fork server that starts workers and writer.
        resources: Workers, and the threads and devices of each.
        trial: The function that trains a run folder, as `module:name`.

    Raises:
        BusyError: Another process runs this sweep.
        FolderError: The sweep's folder cannot be made.
        MachineError: The machine is in the way; nothing is counted as failed, and the same command goes on.
    """
    try:
        return run_rest(plan, context=context, resources=resources, trial=trial)
    except Exception as error:
        kind = error.kind if isinstance(error, MachineError) else fault_of(error)
        if kind is None:
            raise
        place = f"{full_disk(Path(plan.site.tracking.folder))}: " if kind == "disk" and not isinstance(error, MachineError) else ""
        message = f"paused, and nothing is counted as failed: {place}{str(error)[:300]}; once the machine is well, {plan.command} goes on"
        raise MachineError(message, kind=kind) from error


def run_rest(plan: Plan, *, context: ForkServerContext, resources: Resources, trial: str) -> SweepOutcome:
    """Run what is left of a sweep as `run_sweep` says, which names the faults of the machine."""
    root, uri = Path(plan.site.tracking.folder), plan.site.tracking.uri or default_uri(Path.cwd())
    check_usable(uri)
    notes = siblings(plan, root=root)
    folder = root / plan.title
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FolderError(f"tracking.folder={root}: cannot make a folder there: {error.strerror}") from None
    with leases.exclusive_lock(folder / LOCK, name=f"sweep {plan.title}"):
        for job in folder.glob("[!.]*/job.json"):
            RunDir(job.parent).readdress(uri)
        summary = Summary(plan, root=root, uri=uri)
        writer = Writer(root, uri=uri)
        try:
            with SweepProgress(plan, workers=resources.workers) as display:
                for note in [*notes, *([plan.margin_warning] if plan.margin_warning is not None else [])]:
                    display.say(note)
                extent = interim.reached(plan, folder=folder)
                runs = plan.runs_at(seeds=extent.seeds, studies=extent.studies)
                display.say(
                    f"{plan.title}: {runs} runs, {resources.workers} workers, {resources.threads} threads each; store {redact(uri)}"
                )
                arms_progress = work(plan, resources=resources, root=root, uri=uri, context=context, trial=trial, display=display)
                for note in audits(arms_progress):
                    display.say(note)
        except BaseException as error:
            stopped = isinstance(error, KeyboardInterrupt)
            with contextlib.suppress(FolderError):  # a full disk takes no summary either
                reason = "stopped; run the same command to resume it" if stopped else str(error)
                summary.end("KILLED" if stopped or isinstance(error, MachineError) else "FAILED", reason=reason)
            writer.close(CLOSING)
            raise
        summary.record_counts(arms_progress, seeds=extent.seeds, studies=extent.studies)
        return close(plan, summary, writer, arms_progress, uri=uri)


def audits(arms_progress: Sequence[ArmProgress]) -> list[str]:
    """One line for each arm and block whose pruned trials were audited."""
    return [
        f"{progress.arm} in {progress.block}: {progress.pruned} trials pruned; "
        f"{progress.wrong} of {progress.audited} run to their end would have been chosen"
        for progress in arms_progress
        if progress.audited
    ]


def close(plan: Plan, summary: Summary, writer: Writer, arms_progress: list[ArmProgress], *, uri: str) -> SweepOutcome:
    """Bring the store up to date, report from it, and put the report into the summary run."""
    from bakeoff.tracking.replay import is_behind, replay_run

    lagging = writer.close()
    try:
        # Nets are exported after everything else, and the report needs none of them.
        jobs = summary.folder.path.parent.glob("[!.]*/job.json") if lagging else ()
        behind = [job for job in jobs if is_behind(RunDir(job.parent), uri=uri, models=False)]
        if behind:
            raise StoreError(f"MLflow is still catching up on {len(behind)} of the sweep's runs")
        # The report counts runs as they are in the store, so the summary must be there before it, and is closed after it.
        replay_run(summary.folder, uri=uri)
        from bakeoff.report import build_report
        from bakeoff.tracking.store import analyze_database

        report = build_report(plan.name, uri=uri, out=Path("reports") / plan.title, sweep_hash=plan.hash)
        summary.attach(report.out)
        summary.end("FINISHED")
        replay_run(summary.folder, uri=uri)
        analyze_database(uri)
        return SweepOutcome(plan, arms_progress, report, uri)
    except BakeoffError as error:
        summary.end("FINISHED", reason=str(error))
        return SweepOutcome(plan, arms_progress, None, uri, problem=str(error), lagging=isinstance(error, StoreError))


def work(
    plan: Plan, *, resources: Resources, root: Path, uri: str, context: ForkServerContext, trial: str, display: SweepProgress
) -> list[ArmProgress]:
    """Run workers until every point is decided, and replace those that die."""
    from bakeoff.sweep.trial_queue import TrialQueue

    queue = TrialQueue(plan, folder=root / plan.title)
    arms_progress = queue.arms_progress()
    display.update(arms_progress)
    queue.retry_waiting()
    if queue.over():
        return arms_progress
    team = Team(plan, resources=resources, root=root, uri=uri, context=context, trial=trial)
    with team.running():
        while team.live:
            for message in team.listen():
                if "error" in message:
                    raise BakeoffError(message["error"])
                if "paused" in message:
                    raise MachineError(message["paused"], kind=message["kind"])
                arms_progress = queue.arms_progress()
                display.event(message, arms_progress)
            team.replace_lost(over=queue.over)
    waiting = queue.waiting()
    if waiting:
        more = f" and {len(waiting) - 1} more" if len(waiting) > 1 else ""
        raise MachineError(f"the machine stopped {waiting[0]}{more}, {FAULTS} times each", kind="killed")
    return queue.arms_progress()


class Team:
    """The worker processes of a sweep, by their number."""

    def __init__(self, plan: Plan, *, resources: Resources, root: Path, uri: str, context: ForkServerContext, trial: str) -> None:
        """Describe the workers; none is started yet."""
        self.context, self.losses = context, 0
        self.silent: set[int] = set()
        self.live: dict[int, tuple[BaseProcess, Connection]] = {}
        self.worker_specs = [
            worker.WorkerSpec(
                plan=plan,
                root=root,
                uri=uri,
                threads=resources.threads,
                devices=resources.gpus[index] if resources.gpus else None,
                trial=trial,
            )
            for index in range(resources.workers)
        ]

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """All workers, which are gone when the block ends however it ends."""
        try:
            for index in range(len(self.worker_specs)):
                self.start(index)
            yield
        finally:
            self.stop()

    def start(self, index: int) -> None:
        """Start one worker."""
        command_end, worker_end = self.context.Pipe()
        process = processes.start_process(self.context, worker.serve, self.worker_specs[index], worker_end, name=f"worker-{index}")
        worker_end.close()
        self.live[index] = (process, command_end)

    def listen(self, *, seconds: float = 1.0) -> list[Mapping[str, Any]]:
        """Return the messages that workers have sent, waiting for the first up to `seconds`."""
        messages: list[Mapping[str, Any]] = []
        wires = {wire: index for index, (_, wire) in self.live.items() if index not in self.silent}
        for ready in wait(list(wires), timeout=seconds):
            if isinstance(ready, Connection):
                try:
                    messages.append(ready.recv())
                    self.losses = 0
                except (EOFError, ConnectionResetError):
                    self.silent.add(wires[ready])
        return messages

    def replace_lost(self, *, over: Callable[[], bool]) -> None:
        """Forget workers that have finished, and start others for those that died; `over` says whether every point is decided."""
        for index, (process, wire) in list(self.live.items()):
            # Its last messages arrive before its end: the pipe closes with the process.
            if index not in self.silent:
                continue
            process.join()
            wire.close()
            del self.live[index]
            self.silent.discard(index)
            if process.exitcode == 0 or over():
                continue
            self.losses += 1
            if self.losses > LOSSES:
                raise BakeoffError(f"{self.losses} workers died in a row, the last with exit code {process.exitcode}")
            self.start(index)

    def stop(self) -> None:
        """Ask all workers to stop, wait a little, then kill them; a killed worker's trial ends itself."""
        for _, wire in self.live.values():
            with contextlib.suppress(OSError):  # the worker has ended already
                wire.send("stop")
        for process, wire in self.live.values():
            process.join(CLOSING)
            if process.is_alive():
                process.kill()
                process.join()
            wire.close()
        self.live.clear()
        self.silent.clear()
