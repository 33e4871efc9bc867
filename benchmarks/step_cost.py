"""What a step of a bakeoff run costs over a bare PyTorch loop of the same net, batch, optimizer and number of threads, in one process.

A run is trained by `bakeoff.training.run_training.train_from_dir` from its folder: input pipeline, curves, validation and checkpoints included; its
seconds are those that result.json holds. The bare loop makes the same steps on batches that lie ready in memory. Both take turns.

    python benchmarks/step_cost.py [--json] [--models alexnet vgg11] [--width 0.25] [--steps 120] [--repeats 5] [--threads 1]
"""  # noqa: E501

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from typing import Any

import torch

import bakeoff
from bakeoff import builders
from bakeoff.config.schema import RunConfig
from bakeoff.training.run_lifecycle import create_run_dir
from bakeoff.training.run_training import train_from_dir


def whole(run: RunConfig) -> float:
    """Seconds a step of a run from its folder, everything between the first step and the end of the fit included."""
    result = train_from_dir(create_run_dir(run).path)
    if result.status != "finished":
        raise RuntimeError(f"the run is {result.status}: {result.reason}")
    return result.seconds / result.steps


def bare(run: RunConfig, *, steps: int) -> float:
    """Seconds a step of the plain loop: zero_grad, forward, loss, backward, step."""
    net, loss = builders.make_model(run), builders.make_loss(run)
    if run.trainer.channels_last:
        net.to(memory_format=torch.channels_last)
    optimizer = builders.make_optimizer(run, net)
    data = builders.set_up_data(run)
    batches = list(data.train_dataloader())
    net.train()
    began = time.perf_counter()
    for step in range(steps):
        images, targets = batches[step % len(batches)]
        optimizer.zero_grad(set_to_none=True)
        loss(net(images), targets).backward()
        optimizer.step()
    return (time.perf_counter() - began) / steps


def measure(model: str, *, width: float, steps: int, repeats: int, threads: int, overrides: list[str]) -> dict[str, Any]:
    """Milliseconds a step of both (medians over `repeats` turns, after one that warms up), and the median of the turns' ratios.

    On a busy machine the ratio of the fastest turns is the steadier figure.
    """
    with tempfile.TemporaryDirectory() as folder:
        site = [f"tracking.folder={folder}/runs", f"tracking.uri=sqlite:///{folder}/mlflow.db", f"trainer.threads={threads}"]
        steady = [f"model={model}", f"model.width={width}", f"trainer.max_steps={steps}", "trainer.max_epochs=1000", "data=digits"]
        run = bakeoff.compose([*steady, *site, "trainer.accelerator=cpu", *overrides])
        torch.set_num_threads(threads)
        pairs = []
        for turn in range(repeats + 1):
            # Who goes first changes from turn to turn: a machine that grows busier favours neither.
            if turn % 2:
                ours, plain = whole(run), bare(run, steps=steps)
            else:
                plain, ours = bare(run, steps=steps), whole(run)
            pairs.append((ours, plain))
        del pairs[0]
    return {
        "model": model,
        "bakeoff_ms": round(1000 * statistics.median(a for a, _ in pairs), 2),
        "bare_ms": round(1000 * statistics.median(b for _, b in pairs), 2),
        "ratio": round(statistics.median(a / b for a, b in pairs), 3),
        "ratio_of_fastest": round(min(a for a, _ in pairs) / min(b for _, b in pairs), 3),
        "ratios": [round(a / b, 3) for a, b in pairs],
        "batch": run.data.batch_size,
        "width": width,
        "steps": steps,
        "threads": threads,
        "torch": torch.__version__,
    }


def main() -> None:
    """Print a table, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--models", nargs="+", default=["alexnet", "vgg11"])
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="more of the run's recipe, e.g. data.batch_size=128")
    arguments = parser.parse_intermixed_args()
    found = [
        measure(
            model,
            width=arguments.width,
            steps=arguments.steps,
            repeats=arguments.repeats,
            threads=arguments.threads,
            overrides=arguments.overrides,
        )
        for model in arguments.models
    ]
    if arguments.json:
        print(json.dumps({"step_cost": found}))
        return
    for row in found:
        low, high = min(row["ratios"]), max(row["ratios"])
        print(
            f"{row['model']:<10} width {row['width']}, batch {row['batch']}: bakeoff {row['bakeoff_ms']} ms, bare loop {row['bare_ms']} ms "
            f"a step, ratio {row['ratio']} [{low}, {high}], of the fastest {row['ratio_of_fastest']}"
        )


if __name__ == "__main__":
    main()
