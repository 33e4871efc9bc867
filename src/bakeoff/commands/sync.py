"""`bakeoff sync`: brings the store up to date with the journals of the runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from bakeoff.commands.arguments import parse_arguments


def main(argv: list[str]) -> int:
    """Replay every journal that the store lags behind; exit code 1 where something could not be brought over."""
    args, composed = parse_arguments("sync", __doc__, argv)
    site = composed.run.tracking
    from bakeoff.training.writer import sync_runs

    root = Path(site.folder)
    done = sync_runs(root, uri=site.uri)
    problems = [problem for progress in done for problem in progress.problems]
    if args.json:
        print(json.dumps({"runs": [progress.id for progress in done], "problems": problems}))
    else:
        print(f"{len(done)} runs of {root} brought up to date" if done else f"the store has everything of {root}")
    for problem in problems:
        print(f"bakeoff: {problem}", file=sys.stderr)
    return 1 if problems else 0
