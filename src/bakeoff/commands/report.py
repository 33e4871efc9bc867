"""`bakeoff report NAME`: builds a sweep's report again from the tracking store alone."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from bakeoff.commands.site import arguments


def main(argv: list[str]) -> int:
    """Print the verdict and the table, and say where the page is."""
    args, composed = arguments("report", __doc__, argv, more=flags)
    site = composed.run.tracking
    from bakeoff.report import build, show
    from bakeoff.report.wording import count
    from bakeoff.tracking.store import default_uri

    folder = Path(site.folder)
    report = build(args.name, uri=site.uri or default_uri(Path.cwd()), out=args.out, sweep_hash=args.hash)
    behind = lagging(folder / report.sweep.title)
    if behind:
        print(f"bakeoff: the store lags behind {count(behind, 'run')} of this sweep: bakeoff sync", file=sys.stderr)
    print(json.dumps(report.plain(), allow_nan=False) if args.json else show(report))
    return 0


def flags(parser: argparse.ArgumentParser) -> None:
    """The sweep, and where the report goes."""
    parser.add_argument("name", metavar="NAME", help="the sweep: quickstart, or quickstart-1a2b3c4d for one plan of it")
    parser.add_argument("--out", type=Path, help="folder of the report (default: reports/<name>-<hash>)")
    parser.add_argument("--hash", help="the plan, where there are several of that name (default: the newest)")


def lagging(experiment: Path) -> int:
    """How many runs of the experiment's folder the store does not have whole yet; 0 where the runs are not on this machine."""
    from bakeoff.tracking.folders import RunFolder
    from bakeoff.tracking.replay import lags

    return sum(lags(RunFolder(job.parent)) for job in experiment.glob("[!.]*/job.json"))
