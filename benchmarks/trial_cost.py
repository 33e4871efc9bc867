"""What a sweep's trial costs beyond its training: forked from the warm server against a fresh process each, in one run.

    python benchmarks/trial_cost.py [--trials 10] [--fresh 2] [--json]

A trial's fixed cost is its wall time less the seconds that Trainer.fit took: asking for the point, the run folder, the process, the data,
the checkpoints, the journal, telling the result. The store's writer runs beside it, as it does in a sweep.
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
from itertools import pairwise
from pathlib import Path

from bakeoff.run_files.run_dir import RunDir, iter_run_dirs
from bakeoff.sweep import runner
from bakeoff.sweep.plan import Plan, make_plan
from bakeoff.sweep.progress import SweepProgress
from bakeoff.sweep.resources import Resources
from bakeoff.sweep.trials import TrialLease, folder_of
from bakeoff.sweep.worker import PRELOAD
from bakeoff.tracking.client import default_uri
from bakeoff.training import processes
from bakeoff.training.writer import Writer

SHEET = """\
question: What does a trial cost?
factors: {{optimizer: [adam]}}
metric: {{name: val/accuracy, goal: maximize}}
tune: {{optimizer.lr: space}}
budget: {{trials: {trials}}}
confirm: {{seeds: 0}}
fixed: {{data: digits, data.subset: 400, data.batch_size: 32, model.width: 0.125, trainer.max_epochs: 1, trainer.accelerator: cpu}}
"""
FRESH = "import sys; from pathlib import Path; from bakeoff.training.run_training import train_from_dir; train_from_dir(Path(sys.argv[1]))"


def warm(made: Plan) -> list[float]:
    """Seconds beyond training of every trial but the first, which waits for the server's imports."""
    context, root, uri = processes.forkserver_context(threads=1, preload=PRELOAD), Path("runs"), default_uri(Path.cwd())
    (root / made.title).mkdir(parents=True)
    with Writer(root), SweepProgress(made, workers=1) as display:
        runner.work(
            made, resources=Resources(1, 1, None), root=root, uri=uri, context=context, trial=processes.TRAIN_FUNCTION, display=display
        )
    ends = sorted((folder.result.stat().st_mtime, seconds(folder)) for folder in iter_run_dirs(root))
    return [end - before - fit for (before, _), (end, fit) in pairwise(ends)]


def fresh(made: Plan, number: int) -> list[float]:
    """The same for runs in a new interpreter each."""
    costs = []
    for seed in range(number):
        lease = TrialLease("tune", 0, seed, made.planned_arms[0].points[0], 7000 + seed, 1, 0)
        folder = folder_of(made, lease, root=Path("fresh"), threads=1, uri=default_uri(Path.cwd()))
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", FRESH, str(folder.path)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        costs.append(time.perf_counter() - began - seconds(folder))
    return costs


def seconds(folder: RunDir) -> float:
    """How long a run's training took."""
    result = folder.read_result()
    assert result is not None and result["status"] == "finished", result
    return float(result["seconds"])


def main() -> int:
    """Measure both and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--fresh", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.chdir(home)
        Path("sweeps").mkdir()
        Path("sweeps/trial_cost.yaml").write_text(SHEET.format(trials=args.trials))
        made = make_plan("trial_cost")
        one, other = warm(made), fresh(made, args.fresh)
        os.chdir("/")
    told = {
        "warm_median_s": round(statistics.median(one), 3),
        "warm_worst_s": round(max(one), 3),
        "fresh_median_s": round(statistics.median(other), 3),
        "ratio": round(statistics.median(other) / statistics.median(one), 1),
        "trials": len(one),
        "fresh_runs": len(other),
        "load": round(os.getloadavg()[0], 1),
    }
    if args.json:
        print(json.dumps(told))
    else:
        print(f"beyond its training, a trial costs {told['warm_median_s']} s (worst {told['warm_worst_s']} s, n = {told['trials']})")
        print(f"a fresh process for each costs {told['fresh_median_s']} s (n = {told['fresh_runs']}): {told['ratio']} times as much")
        print(f"load of the machine: {told['load']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
