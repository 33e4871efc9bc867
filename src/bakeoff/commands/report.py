"""`bakeoff report NAME ...`: builds a sweep's report again from the tracking store alone.

Several names compare sweeps, and --query takes any runs of the store; neither was planned, so both are reported as exploratory.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from bakeoff.commands.arguments import parse_arguments


def main(argv: list[str]) -> int:
    """Print the verdict and the table, and say where the page is."""
    args, composed = parse_arguments(
        "report", __doc__, argv, add_flags=add_flags, names_help="sweeps: quickstart, or quickstart-1a2b3c4d for one plan of it"
    )
    site = composed.run.tracking
    from bakeoff.errors import ConfigError, echo
    from bakeoff.report import build_report, export_figure, render_terminal
    from bakeoff.tracking.store import default_uri
    from bakeoff.training.writer import catch_up

    if bool(args.names) == (args.query is not None):
        raise ConfigError("bakeoff report: give the name of a sweep, several names, or --query FILTER")
    if args.hash is not None and len(args.names) != 1:
        raise ConfigError(f"--hash={args.hash}: is for one sweep; of several, write each as NAME-HASH")
    uri = site.uri or default_uri(Path.cwd())
    catch_up(Path(site.folder), uri=uri)
    if args.figure is not None:
        paths = [
            str(path)
            for path in export_figure(args.names, figure=args.figure, uri=uri, out=args.out, sweep_hash=args.hash, query=args.query)
        ]
        if args.json:
            print(json.dumps({"files": paths}))
        else:
            echo("\n".join(paths))
        return 0
    report = build_report(args.names, uri=uri, out=args.out, sweep_hash=args.hash, query=args.query, replace=args.replace)
    if args.json:
        print(json.dumps(report.plain(), allow_nan=False))
    else:
        echo(render_terminal(report))
    return 0


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say which runs, and where the report goes."""
    parser.add_argument("--query", metavar="FILTER", help="any runs, by an MLflow filter: \"params.model = 'vgg16'\"")
    parser.add_argument("--figure", metavar="NAME", help="one figure alone, as PNG, SVG and CSV; its command is below it on the page")
    parser.add_argument("--out", type=Path, help="folder of the report (default: reports/<name>-<hash>)")
    parser.add_argument("--replace", action="store_true", help="overwrite a report that covers more runs than the store has now")
    parser.add_argument("--hash", help="which plan, if there are several of that name (default: the newest)")
