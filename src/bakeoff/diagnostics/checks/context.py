"""What a check found, and the bench that all checks work on."""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bakeoff import builders
from bakeoff.config.schema import RunConfig
from bakeoff.data.datamodule import ImageDataModule
from bakeoff.diagnostics.layer_trace import Layer, trace_layers

State = Literal["ok", "look", "wrong", "told"]
PROBE = 256


@dataclass(frozen=True)
class CheckResult:
    """One line of the table. `look` is worth a look, `wrong` makes the exit code 1, `told` has nothing to be held against.

    figures: numbers for the store, by name. series: curves for the page and the pictures, name -> x -> y.
    """

    name: str
    state: State
    found: str
    expected: str = ""
    advice: str = ""
    figures: dict[str, float] = field(default_factory=dict)
    series: dict[str, dict[float, float]] = field(default_factory=dict)


class CheckContext:
    """A run that is not to be trained: its data as the net gets them but not augmented, and fresh copies of its net on its device."""

    def __init__(self, run: RunConfig) -> None:
        plain = {"data.augment": {}, "trainer.accumulate": 1, "trainer.max_steps": None, "trainer.channels_last": False}
        self.run = run
        self.data: ImageDataModule = builders.make_data(run.replace(**plain))
        self.data.setup("fit")
        gpu = run.trainer.accelerator != "cpu" and torch.cuda.is_available()
        self.device = torch.device("cuda" if gpu else "cpu")
        self.loss: nn.Module = builders.make_loss(run)
        classes = run.data.num_classes
        self.guessing = float(self.loss(torch.zeros(classes, classes), torch.arange(classes)))
        self._net = builders.make_model(run)

    def net(self) -> nn.Module:
        """A copy of the net as its first step finds it."""
        return copy.deepcopy(self._net).to(self.device)

    @cached_property
    def images(self) -> Tensor:
        """float32 [n, C, S, S], n at most 256: the first training images in the run's order."""
        return self._batch[0]

    @property
    def labels(self) -> Tensor:
        """int64 [n]."""
        return self._batch[1]

    @cached_property
    def _batch(self) -> tuple[Tensor, Tensor]:
        loader = self.data.train_dataloader()
        batches = list(itertools.islice(loader, max(1, PROBE // loader.micro)))
        images, labels = (torch.cat(parts)[:PROBE].to(self.device) for parts in zip(*batches, strict=True))
        return images, labels

    def layers(self, net: nn.Module) -> list[Layer]:
        """The net's layers, see `dissect`."""
        return trace_layers(net, self.images[:2], activation=type(builders.make_activation(self.run)()))


def plain(findings: list[CheckResult]) -> list[dict[str, Any]]:
    """For JSON."""
    keys = ("name", "state", "found", "expected", "advice", "figures")
    return [{key: getattr(finding, key) for key in keys} for finding in findings]
