"""A worker: leases a point, trains it in a child process, hands its result to the queue, and leases the next."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bakeoff.config.schema import RunConfig
from bakeoff.config.targets import check_names_and_ranges
from bakeoff.errors import BakeoffError, ConfigError, MachineError
from bakeoff.machine import fault_of, full_disk
from bakeoff.run_files.journal import Journal, read_journal
from bakeoff.run_files.provenance import remember_provenance
from bakeoff.run_files.run_dir import RunDir
from bakeoff.sweep import leases, step_watch
from bakeoff.sweep.candidates import ends
from bakeoff.sweep.metric_tail import MetricTail
from bakeoff.sweep.plan import Plan
from bakeoff.sweep.step_watch import StepWatch
from bakeoff.sweep.trials import FAULTS, FINAL, TrialLease, drop_checkpoints, folder_of, name_of, restore_files
from bakeoff.training import processes

if TYPE_CHECKING:
    from bakeoff.sweep.trial_queue import TrialQueue

PRELOAD = (*processes.PRELOAD_MODULES, "bakeoff.sweep.worker", "bakeoff.sweep.trial_queue", "bakeoff.training.cost_probe")
"""What a sweep's fork server imports once."""
ATTEMPTS = {"deaths": 3, "hangs": 2}
"""How often a point's process may crash, or make no step for too long, before the point counts as failed."""
IDLE = 0.5
POLL = 0.2
"""Seconds between two reads of the journal of a run that a pruner may stop."""


@dataclass(frozen=True)
class WorkerSpec:
    """What one worker needs to know."""

    plan: Plan
    root: Path
    uri: str
    threads: int
    devices: tuple[str, ...] | None
    trial: str = processes.TRAIN_FUNCTION

    @property
    def folder(self) -> Path:
        """The sweep's folder."""
        return self.root / self.plan.title


class StopError(Exception):
    """The command says stop, or is gone."""


def serve(worker_spec: WorkerSpec, wire: Connection) -> None:
    """Run trials in a worker process until none is left, or until the command sends a message or closes the pipe.

    Args:
        worker_spec: The plan, folders and devices of this worker.
        wire: Gets `{"name", "status", "value", "reason", "seconds"}` for every decided point, `{"paused", "kind"}` where the machine is
            in the way, and `{"error"}` where it cannot go on otherwise.
    """
    # Ctrl-C is for the command, which then says stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if worker_spec.devices is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(worker_spec.devices)
    from bakeoff.sweep.trial_queue import TrialQueue
    from bakeoff.tracking.client import pass_on_uri

    pass_on_uri(worker_spec.uri)
    for planned_arm in worker_spec.plan.planned_arms:  # trials are forked from this process, and find in its memory what it has read
        check_names_and_ranges(planned_arm.run)
    remember_provenance()
    try:
        queue, owner = TrialQueue(worker_spec.plan, folder=worker_spec.folder), leases.Owner.here()
        while not wire.poll():
            lease = queue.lease(owner)
            if lease is not None:
                wire.send(attempt(worker_spec, queue, lease, wire))
            elif queue.over() or queue.waiting() or wire.poll(IDLE):
                return
    except (StopError, BrokenPipeError):
        return
    except Exception as error:
        kind = error.kind if isinstance(error, MachineError) else fault_of(error)
        if kind is None and not isinstance(error, BakeoffError):
            raise
        place = f"{full_disk(worker_spec.folder)}: " if kind == "disk" and not isinstance(error, MachineError) else ""
        with contextlib.suppress(BrokenPipeError):
            wire.send({"error": str(error)} if kind is None else {"paused": f"{place}{error}", "kind": kind})


def attempt(worker_spec: WorkerSpec, queue: TrialQueue, lease: TrialLease, wire: Connection) -> dict[str, Any]:
    """Train one point and hand its result to the queue.

    Args:
        worker_spec: The plan, folders and devices of this worker.
        queue: Where the lease is from.
        lease: The point to train.
        wire: The pipe to the command; any message on it means stop.

    Returns:
        Name, status, value, reason and seconds of the run.

    Raises:
        StopError: The command said stop; the point has been requeued.
        MachineError: The disk is full; the next command takes up the point.
    """
    plan = worker_spec.plan
    folder = folder_of(plan, lease, root=worker_spec.root, threads=worker_spec.threads, uri=worker_spec.uri)
    result = final(folder)
    gone = restore_files(folder, plan, lease, threads=worker_spec.threads, uri=worker_spec.uri) if result is None else []
    if gone:
        reason = f"{' and '.join(gone)} of the interrupted run was gone"
        wire.send({"name": name_of(plan, lease), "status": "restored from the plan", "reason": reason})
    if result is None:
        processes.wait_until_free(folder)
        ended = train(worker_spec, queue, lease, folder, wire)
        result = final(folder)
        if result is None and isinstance(ended, Pruned):
            result = pruned(folder, ended)
        if result is None and ended == "stopped":
            close(folder, "KILLED", "the sweep was stopped; run the same command to resume it")
            queue.requeue(lease)
            raise StopError
        if result is None:
            count, reason = cause_of(folder, ended)
            times = getattr(lease, count) + 1
            # A fault of the machine is never an outcome of the point: after some attempts it waits for the next command.
            if times < ATTEMPTS.get(count, times + 1):
                queue.requeue(lease, **{count: times}, reason=f"{name_of(plan, lease)}: {reason}")
                waits = count == "faults" and times >= FAULTS
                return {"name": name_of(plan, lease), "status": "waits" if waits else "requeued", "reason": reason}
            result = failed(folder, f"{reason}, in each of {times} attempts")
    accepted = queue.tell(lease, result)
    if accepted and lease.stage == "tune" and result["status"] != "failed":
        drop_checkpoints(folder)
    return {
        "name": name_of(plan, lease),
        "status": str(result["status"]) if accepted else "ignored: another worker has the trial",
        "reason": str(result.get("reason") or ""),
        "value": result.get("metrics", {}).get(plan.spec.metric.name),
        "seconds": result.get("seconds"),
        "params": lease.params,
    }


def cause_of(folder: RunDir, ended: Pruned | Hung | int | str) -> tuple[str, str]:
    """What is counted, `deaths`, `faults` or `hangs`, and why, where a run ended without a result.

    Raises:
        MachineError: The disk is full.
    """
    if isinstance(ended, Hung):
        reason = f"no step for {ended.seconds:.0f} s"
        close(folder, "KILLED", reason)
        return "hangs", reason
    assert isinstance(ended, int)
    death = processes.find_death(folder, ended)
    if death.kind == "disk":
        raise MachineError(death.reason, kind="disk")
    return "deaths" if death.kind == "crash" else "faults", death.reason


@dataclass(frozen=True)
class Hung:
    """A run that made no step for too many seconds, and was killed."""

    seconds: float


@dataclass(frozen=True)
class Pruned:
    """Where the plan's pruner has stopped a run."""

    epoch: int
    epochs: int
    metric: str
    value: float


def train(
    worker_spec: WorkerSpec, queue: TrialQueue, lease: TrialLease, folder: RunDir, wire: Connection
) -> Pruned | Hung | int | Literal["stopped"]:
    """One child process to its exit code, or to where it is pruned, hangs, or is `stopped` by the command or with the lease."""
    metric = worker_spec.plan.spec.metric.name
    watch = MetricTail(folder.journal, metric=metric) if worker_spec.plan.spec.prune is not None and lease.stage == "tune" else None
    process = multiprocessing.get_context("fork").Process(target=processes.child_main, args=(str(folder.path), worker_spec.trial))
    process.start()
    renewed, steps = time.monotonic(), StepWatch(folder, worker_spec.plan.planned_arms[lease.arm_index].run)
    try:
        while True:
            ready = wait([process.sentinel, wire], timeout=step_watch.POLL if watch is None else POLL)
            if process.sentinel in ready:
                process.join()
                return process.exitcode or 0
            if wire in ready:
                return "stopped"
            if time.monotonic() - renewed >= leases.SECONDS / 3:
                renewed = time.monotonic()
                if not queue.renew(lease):
                    return "stopped"
            silence = steps.overdue()
            if silence is not None:
                return Hung(silence)
            for epoch, value, epochs in watch.news() if watch is not None else ():
                if queue.should_prune(lease, epoch=epoch, value=value, epochs=epochs):
                    return Pruned(epoch, epochs, metric, value)
    finally:
        assert process.pid is not None
        processes.kill_process_tree(process.pid)
        process.join()
        process.close()


def pruned(folder: RunDir, at: Pruned) -> Mapping[str, Any]:
    """The result of a run that was stopped early: its value there, which is never compared with those of whole runs."""
    reason = f"pruned after epoch {at.epoch} of {at.epochs}, at {at.metric} {at.value:.4g}"
    job = folder.read_job()
    times = [(line["kind"], line["ts"]) for line in read_journal(folder.journal) if line["kind"] in ("start", "metrics")]
    # Over all of its processes, without the time between two of them.
    seconds = sum(after - before for (_, before), (kind, after) in itertools.pairwise(times) if kind != "start") / 1000
    result = {"id": job.id, "name": job.name, "status": "pruned", "reason": reason, "metrics": {at.metric: at.value}, "best": {}}
    with Journal(folder.journal) as journal:
        journal.start(job)
        journal.tags({"pruned": "true", "diverged": "false", "reason": reason})
        journal.metrics({"seconds": seconds}, step=0)
        journal.end("FINISHED", reason=reason)
    folder.write_result({**result, "seconds": seconds})
    return result | {"seconds": seconds}


def final(folder: RunDir) -> Mapping[str, Any] | None:
    """The result of a folder where it decides the point."""
    result = folder.read_result()
    return result if result is not None and result["status"] in FINAL else None


def failed(folder: RunDir, reason: str) -> Mapping[str, Any]:
    """A result for a run that could not write one."""
    job = folder.read_job()
    result = {"id": job.id, "name": job.name, "status": "failed", "reason": reason, "metrics": {}, "best": {}}
    close(folder, "FAILED", reason)
    folder.write_result(result)
    return result


def close(folder: RunDir, status: Any, reason: str) -> None:
    """Write the end of a run into its journal on behalf of a process that is gone."""
    with Journal(folder.journal) as journal:
        journal.start(folder.read_job())
        journal.end(status, reason=reason)


def answer(target: Callable[..., None], *arguments: Any) -> None:
    """Call a function that sends its answer to the command, and end without a word where the command is gone."""
    with contextlib.suppress(BrokenPipeError):
        target(*arguments)


def validate_arms(plan: Plan, wire: Connection) -> None:
    """Validate every planned arm and its data, at the ends of its spaces too.

    Args:
        plan: The plan whose arms are built.
        wire: Gets the first complaint, or [(parameters, steps, test images) of each planned arm].
    """
    from bakeoff import builders
    from bakeoff.training.cost_probe import count_parameters, count_steps

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    data: dict[str, Any] = {}
    facts: list[tuple[int, int, int]] = []
    try:
        for planned_arm in plan.planned_arms:
            try:
                key = repr(planned_arm.run.data)
                data[key] = builders.validate_run(planned_arm.run, data=data.get(key))
                for name, space in planned_arm.spaces.items():
                    for end in ends(space):
                        builders.validate_components(planned_arm.run.replace(**{name: end}))
                steps = count_steps(planned_arm.run, steps_per_epoch=data[key].steps_per_epoch)
                facts.append((count_parameters(planned_arm.run), steps, data[key].n_test))
            except BakeoffError as error:
                wire.send(f"{error} [arm {planned_arm.title}]" if isinstance(error, ConfigError) else str(error))
                return
        wire.send(facts)
    finally:
        wire.close()


def probe(runs: Sequence[RunConfig], wire: Connection) -> None:
    """Train a few real steps of each run in this process.

    Args:
        runs: The runs to time.
        wire: Gets [(seconds a step, seconds a run)], or the first complaint.
    """
    from bakeoff.training.cost_probe import probe_main

    probe_main(runs, wire)
