"""How many runs a second `bakeoff sync` brings into a fresh SQLite store, and how much memory that takes.

Each run has as many lines as one of the quickstart sweep: params, tags, a dataset, an artifact, and the points of its metrics.

python benchmarks/sync_speed.py --runs 500
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bakeoff.run_files.journal import Journal
from bakeoff.run_files.run_dir import RunDir, RunManifest, new_run_id


def write_run(root: Path, *, points: int) -> None:
    """Write the folder of a finished run."""
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


def main() -> int:
    """Write the runs, sync them, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--points", type=int, default=200)
    args = parser.parse_args()
    command = [sys.executable, "-c", "import sys; from bakeoff.commands.main import main; sys.exit(main())", "sync", "--json"]
    with tempfile.TemporaryDirectory() as place:
        # The store is made beforehand: MLflow's migrations take seconds.
        write_run(Path(place) / "runs", points=4)
        start = time.perf_counter()
        subprocess.run(command, cwd=place, check=True, stdout=subprocess.DEVNULL)
        before = time.perf_counter() - start
        for _ in range(args.runs):
            write_run(Path(place) / "runs", points=args.points)
        start = time.perf_counter()
        done = subprocess.run(command, cwd=place, check=True, stdout=subprocess.PIPE)
        seconds = time.perf_counter() - start
        assert len(json.loads(done.stdout)["runs"]) == args.runs
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000
    print(f"{args.runs} runs of {args.points} points: {seconds:.1f} s, {args.runs / seconds:.1f} runs a second, {memory:.0f} MB at most")
    print(f"one run and a fresh store: {before:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
