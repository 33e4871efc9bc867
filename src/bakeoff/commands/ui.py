"""`bakeoff ui`: the MLflow page on this machine alone, on the same store."""

from __future__ import annotations

import argparse
from pathlib import Path

from bakeoff.commands.arguments import parse_arguments
from bakeoff.errors import ConfigError


def main(argv: list[str]) -> int:
    """Serve until Ctrl-C."""
    args, composed = parse_arguments("ui", __doc__, argv, add_flags=add_flags)
    if not 1 <= args.port <= 65535:
        raise ConfigError(f"--port={args.port}: must be at least 1 and at most 65535")
    from bakeoff.tracking.store import default_uri
    from bakeoff.tracking.ui import open_ui
    from bakeoff.training.writer import catch_up

    uri = composed.run.tracking.uri or default_uri(Path.cwd())
    catch_up(Path(composed.run.tracking.folder), uri=uri)
    open_ui(uri, host=args.host, port=args.port)
    return 0


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say where to listen."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; only this machine by default")
    parser.add_argument("--port", type=int, default=5000)
