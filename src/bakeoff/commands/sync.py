"""`bakeoff sync`: brings the store up to date with the journals of the runs."""

from __future__ import annotations

import json
import shlex
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from bakeoff.commands.arguments import named_folder, parse_arguments
from bakeoff.errors import FolderError, StoreError, echo

EVERY = 3.0
"""Seconds between two words about progress."""


def main(argv: list[str]) -> int:
    """Replay every journal that the store lags behind.

    The exit code is 1 where something could not be brought over, and `EXIT_LAGGING` where the store does not answer.
    """
    args, composed = parse_arguments("sync", __doc__, argv)
    site = composed.run.tracking
    from bakeoff.tracking.client import check_usable, default_uri
    from bakeoff.tracking.moved_store import repair_artifact_addresses
    from bakeoff.tracking.replay import ReplayProgress
    from bakeoff.training.writer import EXIT_LAGGING, sync_runs

    root = named_folder(site.folder, args.overrides)
    uri = site.uri or default_uri(Path.cwd())
    check_usable(uri)
    elsewhere = readdress_runs(root, uri=uri, is_named=site.uri is not None)
    moved = repair_artifact_addresses(uri)
    if moved:
        echo(f"bakeoff: the store was moved from {moved}; it finds its artifacts beside its file again", err=True)
    lagging: list[str] = []
    done: list[ReplayProgress] = []
    try:
        done = sync_runs(root, uri=uri, report=progress_report())
    except StoreError as error:
        lagging.append(str(error))
    problems = [*lagging, *(problem for progress in done for problem in progress.problems)]
    for named, count in elsewhere.items():
        line = f"{count} runs name the store {named}; bakeoff sync {shlex.quote(f'tracking.uri={named}')}"
        echo(f"bakeoff: {line}", err=True)
    if args.json:
        print(json.dumps({"runs": [progress.id for progress in done], "problems": problems}))
    elif not lagging:
        echo(f"{len(done)} runs of {root} brought up to date" if done else f"the store has everything of {root}")
    for problem in problems:
        echo(f"bakeoff: {problem}", err=True)
    return EXIT_LAGGING if lagging else int(bool(problems))


def readdress_runs(root: Path, *, uri: str, is_named: bool) -> Counter[str]:
    """Bring runs that name another store here, and return how many are left to which other stores.

    Args:
        root: The folder of all runs.
        uri: The store.
        is_named: Whether the user has named it: then every run is brought here, else those of a store that was moved here.
    """
    from bakeoff.run_files.run_dir import iter_run_dirs
    from bakeoff.tracking.moved_store import is_moved
    from bakeoff.tracking.replay import foreign_store

    elsewhere: Counter[str] = Counter()
    for folder in iter_run_dirs(root):
        try:
            named = foreign_store(folder, uri=uri)
            if named is not None and (is_named or is_moved(named, uri)):
                folder.readdress(uri)
                continue
        except FolderError:
            continue  # its replay says so
        if named is not None:
            elsewhere[named] += 1
    return elsewhere


def progress_report() -> Callable[[int, int], None]:
    """Return a function that says from time to time how many runs of how many are done."""
    said = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal said
        if time.monotonic() > said + EVERY and done < total:
            said = time.monotonic()
            echo(f"bakeoff: {done} of {total} runs brought up to date", err=True)

    return report
