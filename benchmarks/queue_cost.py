"""What a sweep's queue costs a trial: claiming it, telling its result, and counting for the display, at few and at many trials.

    python benchmarks/queue_cost.py [--arms 20] [--at 100 10000] [--repeats 50] [--json]

Nothing is trained: each trial gets a made-up score. Medians and worst values are in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from bakeoff.sweep.leases import Owner
from bakeoff.sweep.plan import make_plan
from bakeoff.sweep.trial_queue import TrialQueue

SWEEP = """\
question: What does a queue cost?
factors: {{trainer.max_epochs: {epochs}}}
metric: {{name: val/accuracy, goal: maximize}}
tune: {{optimizer.lr: space}}
budget: {{trials: {trials}}}
confirm: {{seeds: 0}}
fixed: {{data: digits, optimizer: adam, trainer.accelerator: cpu}}
"""


def measure(queue: TrialQueue, *, at: list[int], repeats: int) -> list[dict[str, float]]:
    """Claim and tell trials one after another; return the costs right after each number of trials in `at`."""
    owner, rows, done = Owner.here(), [], 0
    for number in at:
        times: dict[str, list[float]] = {"claim": [], "tell": [], "claim_and_tell": [], "count": []}
        while done < number + repeats:
            start = time.perf_counter()
            lease = queue.lease(owner)
            assert lease is not None
            claimed = time.perf_counter()
            result = {"status": "finished", "metrics": {"val/accuracy": done * 0.618 % 1}, "seconds": 1.0}
            assert queue.tell(lease, result)
            told = time.perf_counter()
            done += 1
            if done > number:
                queue.arms_progress()
                counted = time.perf_counter()
                durations = (claimed - start, told - claimed, told - start, counted - told)
                for name, duration in zip(times, durations, strict=True):
                    times[name].append(1000 * duration)
        row = {f"{name}_ms": round(statistics.median(values), 2) for name, values in times.items()}
        rows.append({"trials": number, **row, "worst_claim_and_tell_ms": round(max(times["claim_and_tell"]), 2)})
    return rows


def main() -> int:
    """Measure and print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", type=int, default=20)
    parser.add_argument("--at", type=int, nargs="+", default=[100, 10_000])
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.chdir(home)
        Path("sweeps").mkdir()
        trials = -(-(max(args.at) + args.repeats) // args.arms)
        Path("sweeps/queue_cost.yaml").write_text(SWEEP.format(epochs=list(range(1, args.arms + 1)), trials=trials))
        plan = make_plan("queue_cost")
        folder = Path("runs") / plan.title
        folder.mkdir(parents=True)
        rows = measure(TrialQueue(plan, folder=folder), at=args.at, repeats=args.repeats)
        os.chdir("/")
    ratio = round(rows[-1]["claim_and_tell_ms"] / rows[0]["claim_and_tell_ms"], 2)
    if args.json:
        print(json.dumps({"arms": args.arms, "repeats": args.repeats, "rows": rows, "ratio": ratio, "load": round(os.getloadavg()[0], 1)}))
        return 0
    print("".join(f"{name:>24}" for name in rows[0]))
    for row in rows:
        print("".join(f"{value:>24}" for value in row.values()))
    print(f"{ratio} times as much at {rows[-1]['trials']} trials as at {rows[0]['trials']}; load of the machine: {os.getloadavg()[0]:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
