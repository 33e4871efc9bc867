"""The watch over a run: reads its net at log-spaced steps on a fixed probe, names what is wrong, and never changes a bit of it."""

from __future__ import annotations

import copy
import itertools
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from bakeoff import builders
from bakeoff.config.schema import RunConfig
from bakeoff.data.datamodule import ImageDataModule
from bakeoff.data.epoch_sampler import EpochSampler
from bakeoff.diagnostics import layer_stats as read
from bakeoff.diagnostics.layer_stats import Reading
from bakeoff.diagnostics.layer_trace import Layer, trace_layers
from bakeoff.diagnostics.page import run_page
from bakeoff.diagnostics.rules import Diagnosis, History, diagnose
from bakeoff.diagnostics.tolerate_failure import Omissions
from bakeoff.runs.journal import Journal
from bakeoff.runs.journal import read_journal as lines_of

FOLDER = "diagnostics"
TAG, OMITTED = "diagnosis.", "diagnostics.left_out."
CURVES = ("train/loss", "train/epoch_loss", "train/epoch_accuracy", "val/loss", "val/accuracy")


class Trained(Protocol):
    """What the watch looks at in a run's LightningModule: the net itself, not what a strategy wraps round it."""

    net: nn.Module
    loss: nn.Module
    step: int
    diverged: str | None


def trained(module: pl.LightningModule) -> Trained:
    """The module as what it is."""
    return cast("Trained", module)


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known of a run before it trains: its steps in all, the loss of guessing, and the step where it begins or goes on."""

    title: str
    total: int
    guessing: float
    step: int


def probe(loader: EpochSampler, *, size: int) -> tuple[Tensor, Tensor]:
    """The first `size` training images of this rank's first epoch, (float32[n, C, S, S], int64[n]), wherever training is.

    They are the run's own, augmented as they are trained on; `loader` stays as it is.
    """
    fresh = copy.copy(loader)
    fresh.resume(epoch=-1, skip=0)
    fresh.set_epoch(0)
    batches = list(itertools.islice(fresh, math.ceil(size / fresh.micro)))
    images, labels = (torch.cat(parts)[:size] for parts in zip(*batches, strict=True))
    return images, labels


class DiagnosticsCallback(pl.Callback):
    """Reads a run's net and tells its journal. For one rank alone: it takes part in nothing collective, and draws nothing at random.

    `folder` is the run's. Activations are those of the probe in training mode without dropout, before
    the step; gradients are those of the step's own batch, all devices and micro-batches together; updates are the step's.
    """

    def __init__(self, run: RunConfig, journal: Journal, *, folder: Path, loader: EpochSampler, known: Known) -> None:
        self.run, self.journal, self.folder, self.title = run, journal, folder / FOLDER, known.title
        self.full = run.diagnostics == "full"
        size = read.probe_size(known.total, batch=loader.batch_size, micro=loader.micro)
        self.images, self.labels = probe(loader, size=size)
        self.history = History(
            guessing=known.guessing, classes=run.data.num_classes, total=known.total, probe=len(self.images), limit=run.trainer.divergence
        )  # fmt: skip
        self.due = set(read.steps(known.total))
        self.told: dict[str, Diagnosis] = {}
        self.layers: list[Layer] = []
        self.reading: Reading | None = None
        self.before: list[Tensor] = []
        self.stepping = False
        self.omissions = Omissions(known.title, said=lambda part, why: journal.tags({OMITTED + part.replace(" ", "_"): why}))
        self._remember(known.step)

    def _remember(self, step: int) -> None:
        """What an earlier process of this run has read and told up to here."""
        file = self.folder / "readings.jsonl"
        # The reading of this very step is made again, with the same figures: its gradients had not been seen when the state was kept.
        self.history.readings = read.load(file, until=step - 1)
        if file.exists():
            file.unlink()
        for reading in self.history.readings:
            read.append(file, reading)
        for line in lines_of(self.journal.path) if step else ():
            if line["kind"] == "metrics" and line["step"] <= step:
                self.heard({name: float(value) for name, value in line["values"].items()}, line["step"])
            if line["kind"] == "tags":
                named = {name.removeprefix(TAG): text for name, text in line["values"].items() if name.startswith(TAG)}
                self.told |= {name: Diagnosis(name, text, step) for name, text in named.items()}
                omitted = {name.removeprefix(OMITTED): why for name, why in line["values"].items() if name.startswith(OMITTED)}
                self.omissions.recall({part.replace("_", " "): why for part, why in omitted.items()})

    def heard(self, values: dict[str, float], step: int) -> None:
        """A point of the run's curves."""
        self.history.heard({name: value for name, value in values.items() if name in CURVES}, step)

    @property
    def done(self) -> set[int]:
        """Steps that have been read."""
        return {reading.step for reading in self.history.readings}

    @contextmanager
    def precisely(self, trainer: pl.Trainer) -> Iterator[Tensor]:
        """The probe's images, and a block in which the net computes at the run's precision."""
        with trainer.precision_plugin.val_step_context():
            yield trainer.precision_plugin.convert_input(self.images)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Takes the net apart, once it is on its device."""
        with self.omissions.sparing("layers"), self.precisely(trainer) as images:
            kind = type(builders.make_activation(self.run)())
            self.layers = trace_layers(trained(pl_module).net, images[:2], activation=kind)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        """Reads the activations where a step is due."""
        step = trained(pl_module).step
        if self.reading is None and step in self.due and step not in self.done:
            self.begin(trainer, pl_module, step)

    def begin(self, trainer: pl.Trainer, pl_module: pl.LightningModule, step: int) -> None:
        """Opens the reading of a step."""
        self.reading, sparing = Reading(step), self.omissions.sparing
        if not self.layers:
            return
        net, loss, seed = trained(pl_module).net, trained(pl_module).loss, self.run.seed
        with sparing("activations"), self.precisely(trainer) as images:
            figures, drawn = read.read_activations(net, self.layers, images, histograms=self.full)
            read.merge(self.reading, figures)
            if self.full:
                self.reading.more["activations"] = drawn
        if self.full:
            self.reading.more["weights"] = {layer.name: read.histogram(layer.weight) for layer in self.layers}
            with sparing("sharpness"), self.precisely(trainer) as images:
                from bakeoff.diagnostics.curvature import sharpness

                self.reading.more["sharpness"] = sharpness(net, loss, images, self.labels, seed=seed)

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer) -> None:
        """Reads the gradients, whole and unscaled here and not clipped yet, and keeps the weights; once a step, however often it asks."""
        if self.reading is not None and not self.stepping:
            self.stepping = True
            with self.omissions.sparing("gradients"):
                read.merge(self.reading, read.read_gradients(self.layers, guessing=self.history.guessing))
            with self.omissions.sparing("updates"):
                self.before = [read.sampled(layer) for layer in self.layers]

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Reads the update, once the step is made."""
        if self.reading is not None and self.stepping and trained(pl_module).step > self.reading.step:
            with self.omissions.sparing("updates"):
                if self.before:
                    read.merge(self.reading, read.read_updates(self.layers, self.before))
            self.before, self.stepping = [], False
            self.close()
            self.look(pl_module)

    def close(self) -> None:
        """Ends the reading: into the file and the journal."""
        assert self.reading is not None
        read.append(self.folder / "readings.jsonl", self.reading)
        self.history.readings.append(self.reading)
        extra = {f"{read.GROUP}/sharpness": self.reading.more["sharpness"]} if "sharpness" in self.reading.more else {}
        finite = {name: value for name, value in extra.items() if math.isfinite(value)}
        self.journal.metrics(self.reading.metrics() | finite, step=self.reading.step)
        self.reading = None

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Names what is wrong so far."""
        self.look(pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The last reading, which has no step behind it."""
        if trained(pl_module).step not in self.done:
            self.begin(trainer, pl_module, trained(pl_module).step)
            self.close()
        self.look(pl_module)

    def finish(self, net: nn.Module, weights: dict[str, Tensor], loss: nn.Module, data: ImageDataModule) -> None:
        """Writes the page of what was read, and hands it to the journal; `weights` are those of the trained `net`, which stays as it is."""
        if not self.history.readings:
            return
        self.folder.mkdir(exist_ok=True)
        examined, sparing = "", self.omissions.sparing
        if self.full:
            with sparing("figures over time"):
                from bakeoff.diagnostics.post_training import over_time

                examined += over_time(self.history.readings)
            with sparing("look at the trained net"):
                from bakeoff.diagnostics.post_training import examine

                shown, metrics = examine(self.run, net, weights, loss, data, self.images, self.labels, sparing=sparing)
                examined += shown
                # One number a run: at step 0 the store draws it as a bar.
                self.journal.metrics(metrics, step=0)
        page = run_page(self.title, self.history, list(self.told.values()), more=examined, left_out=self.omissions.reasons)
        (self.folder / "index.html").write_text(page, encoding="utf-8")
        self.journal.artifact(f"{FOLDER}/index.html", artifact_path=FOLDER)
        self.journal.artifact(f"{FOLDER}/readings.jsonl", artifact_path=FOLDER)

    def look(self, pl_module: pl.LightningModule) -> None:
        """Tells every diagnosis that was not told before, as a tag and one line."""
        self.history.diverged = trained(pl_module).diverged
        named: list[Diagnosis] = []
        with self.omissions.sparing("diagnoses"):
            named = diagnose(self.history)
        for found in named:
            if found.name not in self.told:
                self.told[found.name] = found
                self.journal.tags({TAG + found.name: found.text})
                print(f"{self.title}: {found.name}: {found.text}", file=sys.stderr, flush=True)
