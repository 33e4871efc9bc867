"""Start-up of light command lines against the imports that they leave out: medians, in turns, and ratios.

python benchmarks/startup.py [--json] [--repeats 5]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HEAVY = "import torch, pytorch_lightning, mlflow"
LINES = {
    "bakeoff --help": ("--help", 0),
    "bakeoff list": ("list", 0),
    "bakeoff train --cfg job": ("train --cfg job", 0),
    "bakeoff train optimizer=adamm": ("train optimizer=adamm", 2),
}
START = "import sys; from bakeoff.commands.main import main; sys.exit(main())"
"""What the installed script does."""


def timed(command: list[str], *, code: int, folder: Path) -> float:
    """Seconds of one process; `RuntimeError` where it does not end with `code`."""
    began = time.perf_counter()
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if ended.returncode != code:
        raise RuntimeError(f"{command}: exit code {ended.returncode}, not {code}: {ended.stderr[-500:]}")
    return seconds


def measure(*, repeats: int) -> dict[str, Any]:
    """Medians over `repeats` rounds; each round times every line once, after one round that only warms the disk's cache."""
    commands = {name: ([sys.executable, "-c", START, *line.split()], code) for name, (line, code) in LINES.items()}
    commands[f'python -c "{HEAVY}"'] = ([sys.executable, "-c", HEAVY], 0)
    commands['python -c ""'] = ([sys.executable, "-c", ""], 0)
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(repeats + 1):
            for name, (command, code) in commands.items():
                took = timed(command, code=code, folder=Path(folder))
                if turn:
                    seconds[name].append(took)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    heavy = medians[f'python -c "{HEAVY}"']
    return {
        "seconds": {name: round(value, 3) for name, value in medians.items()},
        "spread": {name: [round(min(values), 3), round(max(values), 3)] for name, values in seconds.items()},
        "share_of_imports": {name: round(medians[name] / heavy, 4) for name in LINES},
        "repeats": repeats,
        "python": sys.version.split()[0],
        "cores": os.cpu_count(),
    }


def main() -> None:
    """Print a table, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    result = measure(repeats=arguments.repeats)
    if arguments.json:
        print(json.dumps(result))
        return
    width = max(len(name) for name in result["seconds"])
    for name, value in result["seconds"].items():
        low, high = result["spread"][name]
        share = result["share_of_imports"].get(name)
        print(f"{name:<{width}} {value:>7.3f} s  [{low:.3f}, {high:.3f}]{'' if share is None else f'  {share:>6.1%} of the imports'}")


if __name__ == "__main__":
    main()
