"""What a process that died left unsaid in a run's journal, written by whoever comes next: a run's result decides how it ended."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from bakeoff.errors import FolderError
from bakeoff.run_files.file_locks import hold_lock
from bakeoff.run_files.journal import Journal, Status, is_well_formed, parse_line, read_journal
from bakeoff.run_files.run_dir import RunDir

TAIL = 4096
DIED = "its process was killed"


def log_outcome(journal: Journal, result: Mapping[str, Any]) -> None:
    """Log what result.json says about how a run went.

    Args:
        journal: The run's journal.
        result: The content of result.json.
    """
    status, reason = result["status"], result.get("reason")
    pruned = {"pruned": "true"} if status == "pruned" else {}
    journal.tags({**pruned, "diverged": str(status == "diverged").lower(), **({"reason": reason} if reason else {})})
    # One number a run: MLflow's chart page draws a metric that knows no step but 0 as bars, and names without a group come last.
    best = {f"best_{name.replace('/', '_')}": float(value) for name, value in result.get("best", {}).items()}
    journal.metrics({**best, "seconds": result.get("seconds", 0.0)}, step=0)


def settle_run(run_dir: RunDir) -> bool:
    """Write the end of a run whose process is gone: what its result says, or KILLED where there is none and it can be resumed.

    Args:
        run_dir: The run's folder. One that is being trained, and one whose journal has its end, cost a few reads and stay as they are.

    Returns:
        Whether something was written.

    Raises:
        FolderError: The result is damaged, or the folder cannot be written.
    """
    from filelock import Timeout

    if not run_dir.journal.exists() or _is_settled(run_dir):
        return False
    try:
        with hold_lock(run_dir.lock, timeout=0):
            if _is_settled(run_dir):
                return False
            result, died = run_dir.read_result(), run_dir.journal.stat().st_mtime_ns // 1_000_000
            with Journal(run_dir.journal) as journal:
                if result is None:
                    journal.end("KILLED", reason=DIED, ts=died)
                    return True
                if not journal.resumed:
                    journal.start(run_dir.read_job())
                if result["status"] != "failed":
                    log_outcome(journal, result)
                journal.end(_end_of(result), reason=str(result.get("reason") or ""), ts=died)
                return True
    except Timeout:
        return False


def _end_of(result: Mapping[str, Any]) -> Status:
    return "FAILED" if result["status"] == "failed" else "FINISHED"


def _is_settled(run_dir: RunDir) -> bool:
    """Whether the journal's last word is an end, and the one that the result asks for; a journal without a line has nothing to settle."""
    last = _last_line(run_dir)
    if last is None or last["kind"] != "end":
        ends = [line for line in read_journal(run_dir.journal) if line["kind"] in ("start", "end")]
        if last is None and not ends:
            return not run_dir.result.exists()
        last = ends[-1] if ends else {"kind": "start"}
    if last["kind"] != "end":
        return False
    result = run_dir.read_result()
    return result is None or last["status"] == _end_of(result)


def _last_line(run_dir: RunDir) -> dict[str, Any] | None:
    """The journal's last line; None where it is torn, malformed or long."""
    try:
        with open(run_dir.journal, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
            lines = file.read().splitlines()
    except OSError as error:
        raise FolderError(f"{run_dir.journal}: the journal cannot be read: {error.strerror}") from error
    line = parse_line(lines[-1]) if lines else None
    return line if line is not None and is_well_formed(line) else None
