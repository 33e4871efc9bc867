"""Record how accuracy on digits depends on the learning rate: the data of `operating_characteristics.py designs`.

    python benchmarks/record_response.py > benchmarks/data/digits_response.csv

Four optimizers, 16 learning rates over three decades, 8 seeds with a validation split of their own, 5 epochs of alexnet_mini: 512 runs in a
bare loop, about 25 minutes on one core.
"""

from __future__ import annotations

import csv
import math
import sys

import torch

import bakeoff
from bakeoff import builders

SPACES = {"sgd": (1e-3, 1.0), "momentum": (1e-3, 1.0), "rmsprop": (1e-5, 1e-2), "adam": (1e-5, 1e-2)}
STEPS, SEEDS, EPOCHS = 16, 8, 5


def train(optimizer_name: str, lr: float, seed: int) -> tuple[float, float, int]:
    """(validation accuracy, test accuracy, whether it diverged) of one run."""
    words = ["data=digits", "model=alexnet_mini", f"optimizer={optimizer_name}", f"optimizer.lr={lr:.6g}", f"seed={seed}"]
    run = bakeoff.compose([*words, f"data.split_seed={seed}", f"trainer.max_epochs={EPOCHS}"])
    data = builders.make_data(run)
    data.setup("fit")
    net = builders.make_model(run)
    optimizer = builders.make_optimizer(run, net)
    steps = data.total_steps(EPOCHS)
    scheduler = builders.make_scheduler(run, optimizer, total_steps=steps, steps_per_epoch=data.steps_per_epoch)
    loss_function = builders.make_loss(run)
    torch.manual_seed(seed)
    net.train()
    for _ in range(EPOCHS):
        for images, targets in data.train_dataloader():
            optimizer.zero_grad()
            loss = loss_function(net(images), targets)
            if not math.isfinite(loss.item()):
                return 0.0, 0.0, 1
            loss.backward()
            optimizer.step()
            scheduler.step()
    net.eval()
    data.setup("test")
    with torch.no_grad():
        validation, test = (accuracy(net, loader) for loader in (data.val_dataloader(), data.test_dataloader()))
    return validation, test, 0


def accuracy(net: torch.nn.Module, loader: object) -> float:
    """The share of a loader's images that the net classifies correctly."""
    batches = [(net(batch[0]).argmax(1) == batch[1]) for batch in loader]  # type: ignore[attr-defined]
    return float(torch.cat(batches).float().mean())


def main() -> int:
    """Train every run, and write one row for each."""
    torch.set_num_threads(1)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["optimizer", "step", "lr", "seed", "validation_accuracy", "test_accuracy", "diverged"])
    for seed in range(1, SEEDS + 1):
        for step in range(STEPS):
            for name, (low, high) in SPACES.items():
                lr = low * (high / low) ** (step / (STEPS - 1))
                validation, test, diverged = train(name, lr, seed)
                writer.writerow([name, step, f"{lr:.6g}", seed, f"{validation:.6f}", f"{test:.6f}", diverged])
                sys.stdout.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
