"""What diagnostics cost: the CPU seconds that a run spends in its diagnostics, over the seconds of that same run.

The callback's hooks are timed where they are called, in seconds of the one thread that trains, so that both figures come from one run
and a busy machine changes neither; the page at the end counts too. As a second figure whole runs with and without diagnostics take turns.

    python benchmarks/diagnostics.py [--json] [--level light] [--repeats 3] [--turns] [key=value ...]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import bakeoff
from bakeoff.config.schema import RunConfig
from bakeoff.diagnostics.callback import DiagnosticsCallback
from bakeoff.training.run_lifecycle import create_run_dir
from bakeoff.training.run_training import train_from_dir

TIMED = ("__init__", "on_fit_start", "on_train_start", "on_train_batch_start", "on_before_optimizer_step", "on_train_batch_end")
TIMED += ("on_train_epoch_end", "on_train_end", "on_fit_end")


def timed(spent: list[float], depth: list[int], function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, its seconds added to `spent`; what it calls of its own kind counts once."""

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        depth[0] += 1
        began = time.thread_time()
        try:
            return function(*args, **kwargs)
        finally:
            depth[0] -= 1
            if not depth[0]:
                spent[0] += time.thread_time() - began

    return wrapped


def share(run: RunConfig) -> tuple[float, float, int]:
    """(CPU seconds in the diagnostics, CPU seconds of the whole run from its folder to its result, images of the probe)."""
    spent, depth = [0.0], [0]
    kept = {name: getattr(DiagnosticsCallback, name) for name in TIMED}
    sizes: list[int] = []
    try:
        for name, function in kept.items():
            setattr(DiagnosticsCallback, name, timed(spent, depth, function))
        on_fit_start = DiagnosticsCallback.on_fit_start

        def recording(self: DiagnosticsCallback, *args: Any, **kwargs: Any) -> None:
            on_fit_start(self, *args, **kwargs)
            sizes.append(len(self.probe.images))

        DiagnosticsCallback.on_fit_start = recording  # type: ignore[method-assign]
        folder = create_run_dir(run).path
        began = time.thread_time()
        result = train_from_dir(folder)
        whole = time.thread_time() - began
    finally:
        for name, function in kept.items():
            setattr(DiagnosticsCallback, name, function)
    if result.status != "finished":
        raise RuntimeError(f"the run is {result.status}: {result.reason}")
    return spent[0], whole, sizes[0]


def fit(run: RunConfig) -> float:
    """Seconds of a run's fit."""
    return train_from_dir(create_run_dir(run).path).seconds


def main() -> None:
    """Print the shares, and their median."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--level", default="light", choices=("light", "full"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--turns", action="store_true", help="also whole runs with and without, in turns")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory() as place:
        site = [f"tracking.folder={place}/runs", f"tracking.uri=sqlite:///{place}/mlflow.db", "trainer.threads=1", "trainer.progress=false"]
        run = bakeoff.compose([*site, *args.overrides, f"diagnostics={args.level}"])
        share(run.replace(**{"trainer.max_steps": 20}))
        found = [share(run) for _ in range(args.repeats)]
        pairs = [(fit(run), fit(run.replace(diagnostics="none"))) for _ in range(args.repeats)] if args.turns else []
    figures = {
        "level": args.level,
        "run": run.title,
        "probe_images": found[0][2],
        "seconds": [round(whole, 3) for _, whole, _ in found],
        "shares": [round(spent / whole, 4) for spent, whole, _ in found],
        "share": round(statistics.median(spent / whole for spent, whole, _ in found), 4),
        "ratios_in_turns": [round(a / b, 3) for a, b in pairs],
    }
    print(json.dumps(figures) if args.json else "\n".join(f"{name:<16} {value}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
