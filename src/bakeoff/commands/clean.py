"""`bakeoff clean [--keep best] [--dry-run]`: removes the checkpoints of runs that have come to their end.

A run that is at work, was stopped or has failed keeps its own, to go on from. The store keeps the trained nets that were exported to it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bakeoff.commands.arguments import named_folder, parse_arguments
from bakeoff.errors import FolderError, echo

if TYPE_CHECKING:
    from bakeoff.run_files.run_dir import RunDir

ENDED = ("finished", "diverged", "pruned")


def main(argv: list[str]) -> int:
    """Print what is removed, a run a line, and remove it."""
    args, composed = parse_arguments("clean", __doc__, argv, add_flags=add_flags, keys=("tracking.folder",))
    from bakeoff.run_files.run_dir import iter_run_dirs
    from bakeoff.tracking.replay import is_behind

    root = named_folder(composed.run.tracking.folder, args.overrides)
    rows, behind, problems = list[dict[str, Any]](), 0, list[str]()
    for folder in iter_run_dirs(root):
        try:
            result = folder.read_result()
            files = removable(folder, result, keep=args.keep)
            if files and is_behind(folder):
                behind += 1
                continue
        except FolderError as error:
            problems.append(str(error))
            continue
        if result is None or not files:
            continue
        size = sum(path.stat().st_size for path in files)
        names = [path.name for path in files]
        rows.append({"run": result["id"], "status": result["status"], "name": result["name"], "files": names, "bytes": size})
        if not args.dry_run:
            for path in files:
                path.unlink()
    print_removed(rows, root, behind=behind, problems=problems, args=args)
    return int(bool(problems))


def print_removed(rows: list[dict[str, Any]], root: Path, *, behind: int, problems: list[str], args: argparse.Namespace) -> None:
    """Print what was removed, or would be, and what was not."""
    total = sum(row["bytes"] for row in rows)
    if args.json:
        print(json.dumps({"removed": not args.dry_run, "bytes": total, "runs": rows, "behind": behind, "problems": problems}))
    else:
        for row in rows:
            echo(f"{row['run']}  {row['status']:<8}  {row['bytes'] / 1e6:8,.1f} MB  {row['name']}: {', '.join(row['files'])}")
        echo(f"{'would remove' if args.dry_run else 'removed'} {total / 1e6:,.1f} MB of checkpoints of {len(rows)} runs of {root}")
    if behind:
        echo(f"bakeoff: {behind} runs keep theirs, since MLflow does not have them yet; run bakeoff sync first", err=True)
    for problem in problems:
        echo(f"bakeoff: {problem}", err=True)


def removable(folder: RunDir, result: dict[str, Any] | None, *, keep: str | None) -> list[Path]:
    """Return the checkpoints of a run that has come to its end, but the one to keep; what a link names is not the run's own."""
    if result is None or result["status"] not in ENDED or folder.busy() or folder.checkpoints.is_symlink():
        return []
    return [path for path in sorted(folder.checkpoints.glob("*.ckpt")) if path.stem != keep]


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add what to keep, and whether to remove anything."""
    parser.add_argument("--keep", choices=("best", "last"), help="keep this checkpoint of each run, for its weights")
    parser.add_argument("--dry-run", action="store_true", help="print what would be removed, and remove nothing")
