"""Start-up of command lines against the imports of the libraries: medians, in turns, and ratios taken turn by turn.

A run of one step is timed to its end, and to its first step, whose time its journal holds.

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
LIBRARIES = "import torch, pytorch_lightning"
TRAIN = "train trainer.max_steps=1 trainer.progress=false"
WHOLE, FIRST_STEP = "bakeoff train, one step", "bakeoff train, to its first step"
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


def timed_training(*, folder: Path) -> tuple[float, float]:
    """Seconds of a run of one step: of the whole command, and to its first step."""
    start = time.time()
    seconds = timed([sys.executable, "-c", START, *TRAIN.split()], code=0, folder=folder)
    journal = max(folder.glob("runs/*/*/journal.jsonl"), key=lambda path: path.stat().st_mtime)
    lines = map(json.loads, journal.read_text().splitlines())
    return seconds, next(line["ts"] for line in lines if line["kind"] == "metrics") / 1000 - start


def measure(*, repeats: int) -> dict[str, Any]:
    """Medians over `repeats` rounds; each round times every line once, after one round that only warms the disk's cache."""
    commands = {name: ([sys.executable, "-c", START, *line.split()], code) for name, (line, code) in LINES.items()}
    for script in (HEAVY, LIBRARIES, ""):
        commands[f'python -c "{script}"'] = ([sys.executable, "-c", script], 0)
    seconds: dict[str, list[float]] = {name: [] for name in (*commands, WHOLE, FIRST_STEP)}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(repeats + 1):
            took = {name: timed(command, code=code, folder=Path(folder)) for name, (command, code) in commands.items()}
            took[WHOLE], took[FIRST_STEP] = timed_training(folder=Path(folder))
            for name, value in took.items() if turn else ():
                seconds[name].append(value)
    bases = dict.fromkeys(LINES, HEAVY) | {WHOLE: LIBRARIES, FIRST_STEP: LIBRARIES}
    ratios = {name: [a / b for a, b in zip(seconds[name], seconds[f'python -c "{base}"'], strict=True)] for name, base in bases.items()}
    return {
        "seconds": {name: round(statistics.median(values), 3) for name, values in seconds.items()},
        "spread": {name: [round(min(values), 3), round(max(values), 3)] for name, values in seconds.items()},
        "over": bases,
        "ratio": {name: round(statistics.median(values), 4) for name, values in ratios.items()},
        "ratio_spread": {name: [round(min(values), 4), round(max(values), 4)] for name, values in ratios.items()},
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
        ratio = ""
        if name in result["ratio"]:
            least, most = result["ratio_spread"][name]
            ratio = f"  {result['ratio'][name]:.4f} [{least:.4f}, {most:.4f}] of {result['over'][name]}"
        print(f"{name:<{width}} {value:>7.3f} s  [{low:.3f}, {high:.3f}]{ratio}")


if __name__ == "__main__":
    main()
