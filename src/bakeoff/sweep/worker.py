"""A worker: asks for a point, trains it in a child process of its own, tells what the result file says, and asks again."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bakeoff.errors import BakeoffError, ConfigError
from bakeoff.sweep import lease
from bakeoff.sweep.jobs import FINAL, Claim, folder_of, name_of
from bakeoff.sweep.plan import Plan
from bakeoff.tracking.folders import RunFolder
from bakeoff.tracking.journal import Journal
from bakeoff.training import launch

if TYPE_CHECKING:
    from bakeoff.sweep.study import Board

PRELOAD = (*launch.PRELOAD, "bakeoff.sweep.worker", "bakeoff.sweep.study")
"""What a sweep's fork server imports once."""
DEATHS = 3
"""How often a point's process may end without a result before the point counts as failed."""
IDLE = 0.5


@dataclass(frozen=True)
class Post:
    """What one worker needs to know."""

    plan: Plan
    root: Path
    uri: str
    threads: int
    devices: tuple[str, ...] | None
    trial: str = launch.TRIAL

    @property
    def folder(self) -> Path:
        """The sweep's folder."""
        return self.root / self.plan.title


class StopError(Exception):
    """The command says stop, or is gone."""


def serve(post: Post, wire: Connection) -> None:
    """The life of a worker process: jobs until there are none, or until a word comes over the wire or it closes.

    Sends `{"name", "status", "value", "reason", "seconds"}` for every point that is decided, and `{"error"}` where it cannot go on.
    """
    # Ctrl-C is for the command, which then says stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if post.devices is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(post.devices)
    from bakeoff.sweep.study import Board

    try:
        board, owner = Board(post.plan, folder=post.folder), lease.Owner.here()
        while not wire.poll():
            claim = board.claim(owner)
            if claim is not None:
                wire.send(attempt(post, board, claim, wire))
            elif board.over() or wire.poll(IDLE):
                return
    except (StopError, BrokenPipeError):
        return
    except BakeoffError as error:
        wire.send({"error": str(error)})


def attempt(post: Post, board: Board, claim: Claim, wire: Connection) -> dict[str, Any]:
    """Train one point, tell the board, and say how it went. `StopError`, with the point put back, when it is to stop."""
    plan = post.plan
    folder = folder_of(plan, claim, root=post.root, threads=post.threads, uri=post.uri)
    result = final(folder)
    if result is None:
        launch.vacate(folder)
        stopped = train(post, board, claim, folder, wire)
        result = final(folder)
        if result is None and stopped:
            close(folder, "KILLED", "the sweep was stopped; the same line goes on with it")
            board.put_back(claim, died=False)
            raise StopError
        if result is None and claim.deaths + 1 < DEATHS:
            board.put_back(claim, died=True)
            return {"name": name_of(plan.cells[claim.cell], claim), "status": "put back", "reason": launch.last_words(folder)}
        if result is None:
            result = failed(folder, f"its process ended {DEATHS} times without a result: {launch.last_words(folder)}")
    told = board.tell(claim, result)
    return {
        "name": name_of(plan.cells[claim.cell], claim),
        "status": str(result["status"]) if told else "not heard",
        "reason": str(result.get("reason") or ""),
        "value": result.get("metrics", {}).get(plan.sheet.metric),
        "seconds": result.get("seconds"),
        "params": claim.params,
    }


def train(post: Post, board: Board, claim: Claim, folder: RunFolder, wire: Connection) -> bool:
    """One child process to its end; True where it was ended because the command says stop, or because the claim is another's now."""
    process = multiprocessing.get_context("fork").Process(target=launch.attend, args=(str(folder.path), post.trial))
    process.start()
    try:
        while True:
            ready = wait([process.sentinel, wire], timeout=lease.SECONDS / 3)
            if process.sentinel in ready:
                return False
            if wire in ready or not board.renew(claim):
                return True
    finally:
        assert process.pid is not None
        launch.end_tree(process.pid)
        process.join()
        process.close()


def final(folder: RunFolder) -> Mapping[str, Any] | None:
    """The result of a folder where it decides the point."""
    result = folder.read_result()
    return result if result is not None and result["status"] in FINAL else None


def failed(folder: RunFolder, reason: str) -> Mapping[str, Any]:
    """A result for a run that could not write one."""
    job = folder.read_job()
    result = {"id": job.id, "name": job.name, "status": "failed", "reason": reason, "metrics": {}, "best": {}}
    close(folder, "FAILED", reason)
    folder.write_result(result)
    return result


def close(folder: RunFolder, status: Any, reason: str) -> None:
    """The end of a run in its journal, said by another than the run itself."""
    with Journal(folder.journal) as journal:
        journal.start(folder.read_job())
        journal.end(status, reason=reason)


def examine(plan: Plan, wire: Connection, ready: Sequence[int]) -> None:
    """The whole door for every cell, at the ends of its spaces too, and the data of the cells in `ready`.

    Sends the first complaint, or ''.
    """
    from bakeoff import build
    from bakeoff.sweep.plan import ends
    from bakeoff.training.single import ready as check

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        for index, cell in enumerate(plan.cells):
            try:
                (check if index in ready else build.check)(cell.run)
                for key, space in cell.spaces.items():
                    for end in ends(space):
                        build.check(cell.run.replace(**{key: end}))
            except BakeoffError as error:
                wire.send(f"{error} [arm {cell.title}]" if isinstance(error, ConfigError) else str(error))
                return
        wire.send("")
    finally:
        wire.close()
