"""What a step of a bakeoff run costs over a bare PyTorch loop that validates and saves as often, in one process and in turns.

Both train the same net with the same batches, optimizer and number of threads. The bare loop has its batches ready in memory, runs the
validation set through the net after every epoch, and writes the net and the optimizer with torch.save. A run is trained by
`bakeoff.training.run_training.train_from_dir` from its folder; its fit is timed. The rows between the two say
where the rest goes: the loop with batches from the input pipeline, and the run without measurements of its layers.

    python benchmarks/step_cost.py [--json] [--models alexnet vgg11] [--width 0.25] [--steps 120] [--repeats 5] [--threads 1] [key=value ...]
"""  # noqa: E501

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytorch_lightning as pl
import torch

import bakeoff
from bakeoff import builders
from bakeoff.config.schema import RunConfig
from bakeoff.training.run_lifecycle import create_run_dir
from bakeoff.training.run_training import train_from_dir

BARE, PIPELINE, PLAIN, WHOLE = "bare loop", "bare loop, input pipeline", "run, diagnostics=none", "run, everything on"


class Seconds(NamedTuple):
    """Seconds a step: of the clock, and of this process's CPU time, which a busy machine stretches less."""

    wall: float
    cpu: float


class Stopwatch:
    """Times a `with` block."""

    def __enter__(self) -> Stopwatch:
        self.start = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = Seconds(time.perf_counter() - self.start[0], time.process_time() - self.start[1])

    def per(self, steps: int) -> Seconds:
        """Return the seconds of each of `steps` steps."""
        return Seconds(self.seconds.wall / steps, self.seconds.cpu / steps)


def train_run(run: RunConfig) -> Seconds:
    """Train a run from its folder, and time its fit: steps, validations and checkpoints, as the bare loop has them."""
    watch, fit = Stopwatch(), pl.Trainer.fit

    def timed_fit(*args: Any, **kwargs: Any) -> None:
        with watch:
            fit(*args, **kwargs)

    with mock.patch.object(pl.Trainer, "fit", timed_fit):
        result = train_from_dir(create_run_dir(run, kind="reproduction").path)  # which exports no net
    if result.status != "finished":
        raise RuntimeError(f"the run is {result.status}: {result.reason}")
    return watch.per(result.steps)


def train_bare(run: RunConfig, *, steps: int, pipeline: bool) -> Seconds:
    """Time the plain loop, its validations and checkpoints included.

    Args:
        run: The run whose net, loss, optimizer and data are used.
        steps: How many steps.
        pipeline: Take the batches from the run's input pipeline; False: they lie ready in memory.
    """
    net, loss = builders.make_model(run), builders.make_loss(run)
    if run.trainer.channels_last:
        net.to(memory_format=torch.channels_last)
    optimizer = builders.make_optimizer(run, net)
    data = builders.set_up_data(run)
    loader, val_loader, path = data.train_dataloader(), data.val_dataloader(), Path(run.tracking.folder, "bare.pt")
    batches, val_batches = list(loader), list(val_loader)
    path.parent.mkdir(parents=True, exist_ok=True)
    step, watch = 0, Stopwatch()
    with watch:
        while step < steps:
            net.train()
            for images, targets in loader if pipeline else batches:
                optimizer.zero_grad(set_to_none=True)
                loss(net(images), targets).backward()
                optimizer.step()
                step += 1
                if step == steps:
                    break
            net.eval()
            with torch.inference_mode():
                sum(float(loss(net(images), targets)) for images, targets in val_batches)
            with path.open("wb") as file:
                torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict()}, file)
                os.fsync(file.fileno())
    return watch.per(step)


def measure(model: str, *, width: float, steps: int, repeats: int, threads: int, overrides: list[str]) -> dict[str, Any]:
    """Milliseconds a step (medians over `repeats` turns, after one that warms up), and the ratios to the bare loop, turn by turn.

    On a busy machine the ratio of the CPU times is the steadier figure.
    """
    with tempfile.TemporaryDirectory() as folder:
        site = [f"tracking.folder={folder}/runs", f"tracking.uri=sqlite:///{folder}/mlflow.db", f"trainer.threads={threads}"]
        steady = [f"model={model}", f"model.width={width}", f"trainer.max_steps={steps}", "trainer.max_epochs=1000", "data=digits"]
        run = bakeoff.compose([*steady, *site, "trainer.accelerator=cpu", *overrides])
        torch.set_num_threads(threads)
        variants: dict[str, Callable[[], Seconds]] = {
            BARE: lambda: train_bare(run, steps=steps, pipeline=False),
            PIPELINE: lambda: train_bare(run, steps=steps, pipeline=True),
            PLAIN: lambda: train_run(run.replace(diagnostics="none")),
            WHOLE: lambda: train_run(run),
        }
        seconds: dict[str, list[Seconds]] = {name: [] for name in variants}
        for turn in range(repeats + 1):
            # Who goes first changes from turn to turn: a machine that grows busier favours neither.
            for name in list(variants) if turn % 2 else reversed(list(variants)):
                took = variants[name]()
                if turn:
                    seconds[name].append(took)
    rows = {}
    for name, values in seconds.items():
        wall, cpu = ([value[i] / base[i] for value, base in zip(values, seconds[BARE], strict=True)] for i in range(2))
        rows[name] = {
            "ms": round(1000 * statistics.median(value.wall for value in values), 2),
            "cpu_ms": round(1000 * statistics.median(value.cpu for value in values), 2),
            "ratio": round(statistics.median(wall), 3),
            "spread": [round(min(wall), 3), round(max(wall), 3)],
            "cpu_ratio": round(statistics.median(cpu), 3),
            "cpu_spread": [round(min(cpu), 3), round(max(cpu), 3)],
        }
    return {
        "model": model,
        "rows": rows,
        "batch": run.data.batch_size,
        "width": width,
        "steps": steps,
        "repeats": repeats,
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
    rows = [
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
        print(json.dumps({"step_cost": rows}))
        return
    for row in rows:
        print(f"{row['model']}, width {row['width']}, batch {row['batch']}, {row['threads']} threads, n = {row['repeats']}")
        for name, figures in row["rows"].items():
            wall, cpu = ("{:.3f} [{:.3f}, {:.3f}]".format(figures[f"{kind}ratio"], *figures[f"{kind}spread"]) for kind in ("", "cpu_"))
            print(f"  {name:<26} {figures['ms']:>8.2f} ms  {wall}   CPU {figures['cpu_ms']:>8.2f} ms  {cpu}")


if __name__ == "__main__":
    main()
