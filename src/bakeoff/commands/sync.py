"""`bakeoff sync`: brings the store up to date with the journals of the runs."""

from __future__ import annotations

import json
import shlex
import time
from collections import Counter
from pathlib import Path

from bakeoff.commands.arguments import parse_arguments
from bakeoff.errors import echo

EVERY = 3.0
"""Seconds between two words about progress."""


def main(argv: list[str]) -> int:
    """Replay every journal that the store lags behind; exit code 1 where something could not be brought over."""
    args, composed = parse_arguments("sync", __doc__, argv)
    site = composed.run.tracking
    from bakeoff.run_files.run_dir import iter_run_dirs
    from bakeoff.tracking.client import default_uri
    from bakeoff.tracking.moved_store import is_moved, repair_artifact_addresses
    from bakeoff.tracking.replay import foreign_store
    from bakeoff.training.writer import sync_runs

    root = Path(site.folder)
    uri = site.uri or default_uri(Path.cwd())
    elsewhere: Counter[str] = Counter()
    for folder in iter_run_dirs(root):
        named = foreign_store(folder, uri=uri)
        if named is not None and (site.uri is not None or is_moved(named, uri)):
            folder.readdress(uri)
        elif named is not None:
            elsewhere[named] += 1
    moved = repair_artifact_addresses(uri)
    if moved:
        echo(f"bakeoff: the store was moved from {moved}; it finds its artifacts beside its file again", err=True)
    told = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal told
        if time.monotonic() > told + EVERY and done < total:
            told = time.monotonic()
            echo(f"bakeoff: {done} of {total} runs brought up to date", err=True)

    done = sync_runs(root, uri=uri, report=report)
    problems = [problem for progress in done for problem in progress.problems]
    for named, count in elsewhere.items():
        line = f"{count} runs name the store {named}; bakeoff sync {shlex.quote(f'tracking.uri={named}')}"
        echo(f"bakeoff: {line}", err=True)
    if args.json:
        print(json.dumps({"runs": [progress.id for progress in done], "problems": problems}))
    else:
        echo(f"{len(done)} runs of {root} brought up to date" if done else f"the store has everything of {root}")
    for problem in problems:
        echo(f"bakeoff: {problem}", err=True)
    return 1 if problems else 0
