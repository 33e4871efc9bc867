"""The result of a check, and the context that all checks share."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bakeoff import builders
from bakeoff.components.losses import chance_loss
from bakeoff.config.schema import RunConfig
from bakeoff.data.datamodule import ImageDataModule
from bakeoff.diagnostics.layer_trace import TracedLayer, trace_layers
from bakeoff.diagnostics.probe import Probe

State = Literal["ok", "look", "wrong", "info"]
MAX_IMAGES = 256


@dataclass(frozen=True)
class CheckResult:
    """The result of a check.

    Attributes:
        name: The check.
        state: `look` needs attention, `wrong` makes the exit code 1, `info` has no reference.
        observed: The observation.
        expected: The reference.
        advice: What to do.
        figures: Metrics of the check's run, by name.
        series: Curves for the page and the pictures, name -> x -> y.
    """

    name: str
    state: State
    observed: str
    expected: str = ""
    advice: str = ""
    figures: dict[str, float] = field(default_factory=dict)
    series: dict[str, dict[float, float]] = field(default_factory=dict)


class CheckContext:
    """A run to check: its data as the net receives them but not augmented, and new copies of its net on its device."""

    def __init__(self, run: RunConfig) -> None:
        """Build the run's data, loss and net."""
        unaugmented = {"data.augment": {}, "trainer.accumulate": 1, "trainer.max_steps": None, "trainer.channels_last": False}
        self.run = run
        self.data: ImageDataModule = builders.set_up_data(run.replace(**unaugmented))
        gpu = run.trainer.accelerator != "cpu" and torch.cuda.is_available()
        self.device = torch.device("cuda" if gpu else "cpu")
        self.loss: nn.Module = builders.make_loss(run)
        classes = run.data.num_classes
        self.chance_loss = chance_loss(self.loss, classes=classes)
        self._net = builders.make_model(run)

    def new_net(self) -> nn.Module:
        """Return a copy of the initialized net on the device."""
        return copy.deepcopy(self._net).to(self.device)

    def new_optimizer(self, net: nn.Module, run: RunConfig | None = None) -> torch.optim.Optimizer:
        """Return the optimizer of the run (or of `run`) for `net`, in training mode."""
        optimizer = builders.make_optimizer(run or self.run, net)
        if callable(getattr(optimizer, "train", None)):
            optimizer.train()  # type: ignore[attr-defined]  # schedule-free optimizers have a mode
        return optimizer

    @cached_property
    def probe(self) -> Probe:
        """The first training images in the run's order, at most 256, on the device."""
        loader = self.data.train_dataloader()
        batches = list(itertools.islice(loader, max(1, MAX_IMAGES // loader.micro)))
        images, labels = (torch.cat(parts)[:MAX_IMAGES].to(self.device) for parts in zip(*batches, strict=True))
        return Probe(images, labels)

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the run's training batches, epoch after epoch, on the device."""
        loader = self.data.train_dataloader()
        while True:
            for images, labels in loader:
                yield images.to(self.device), labels.to(self.device)

    def layers(self, net: nn.Module) -> list[TracedLayer]:
        """Return the net's layers; see `trace_layers`."""
        return trace_layers(net, self.probe.images[:2], activation=type(builders.make_activation(self.run)()))


def to_json(results: Sequence[CheckResult]) -> list[dict[str, Any]]:
    """Return the results as plain dictionaries, without their curves."""
    return [
        {
            "name": result.name,
            "state": result.state,
            "found": result.observed,
            "expected": result.expected,
            "advice": result.advice,
            "figures": result.figures,
        }
        for result in results
    ]
