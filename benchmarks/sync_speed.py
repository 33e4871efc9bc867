"""How many runs a second `bakeoff sync` brings into an SQLite store, and how much memory that takes, over MLflow's own client.

Each run has as many lines as one of the quickstart sweep: params, tags, a dataset, an artifact, and the points of its metrics.

python benchmarks/sync_speed.py --runs 500
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from writer_cost import CLIENT, child_usage

from bakeoff.run_files.journal import Journal
from bakeoff.run_files.run_dir import RunDir, RunManifest, new_run_id
from bakeoff.tracking.client import default_uri


def write_run(root: Path, *, points: int) -> RunDir:
    """Write the folder of a finished run, and return it."""
    job = RunManifest(id=new_run_id(), name="adam-p00", experiment="speed", kind="trial", tags={"sweep": "speed", "arm": "adam"})
    folder = RunDir.create(root, config_text="seed: 1\n", job=job)
    with Journal(folder.journal) as journal:
        journal.start(job)
        journal.artifact("config.yaml")
        journal.params({f"group.key{i}": i for i in range(80)})
        journal.tags({f"tag{i}": "value" for i in range(25)})
        journal.dataset("digits", digest="f" * 36, source="scikit-learn", context="training", profile={"train": 1200})
        for step in range(points // 4):
            journal.metrics({"train/loss": 1 / (step + 1), "train/accuracy": 0.5, "lr": 0.1, "grad_norm": 1.0}, step=step)
        journal.tags({"diverged": "false"})
        journal.metrics({"best_val_loss": 0.5, "seconds": 2.0}, step=0)
        journal.end("FINISHED")
    return folder


def main() -> int:
    """Write the runs, sync them, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--points", type=int, default=200)
    args = parser.parse_args()
    command = [sys.executable, "-c", "import sys; from bakeoff.commands.main import main; sys.exit(main())", "sync", "--json"]
    with tempfile.TemporaryDirectory() as place:
        root, uri = Path(place) / "runs", default_uri(Path(place))
        # The store is made beforehand: MLflow's migrations take seconds.
        write_run(root, points=4)
        fresh_seconds, *_ = child_usage(command, cwd=place)
        folders = [write_run(root, points=args.points) for _ in range(args.runs)]
        seconds, cpu, memory, printed = child_usage(command, cwd=place)
        assert len(json.loads(printed)["runs"]) == args.runs
        by_client = folders[: max(1, args.runs // 25)]
        chosen = ",".join(str(folder.path) for folder in by_client)
        client_seconds, _, client_memory, _ = child_usage([sys.executable, "-c", CLIENT, chosen, uri, "1000"])
    figures = {
        "runs/s": args.runs / seconds,
        "CPU, s": cpu,
        "memory, MB": memory,
        "MLflow's client, runs/s": len(by_client) / client_seconds,
        "MLflow's client, memory, MB": client_memory,
        "runs/s over MLflow's client": args.runs / seconds / (len(by_client) / client_seconds),
        "one run and a fresh store, s": fresh_seconds,
    }
    print(f"{args.runs} runs of {args.points} points")
    for name, value in figures.items():
        print(f"{name:<36} {value:>10,.2f}")
    print(json.dumps({"figures": {name: round(value, 3) for name, value in figures.items()}, "load": round(os.getloadavg()[0], 2)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
