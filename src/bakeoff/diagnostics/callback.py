"""The callback that measures the layers of a run during training and diagnoses faults, without changing a bit of the run."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, cast

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from bakeoff import builders
from bakeoff.config.schema import RunConfig
from bakeoff.data.datamodule import ImageDataModule
from bakeoff.diagnostics import layer_stats
from bakeoff.diagnostics.diagnostics_page import run_page
from bakeoff.diagnostics.layer_stats import LayerStats
from bakeoff.diagnostics.layer_trace import TracedLayer, trace_layers
from bakeoff.diagnostics.probe import Probe, make_probe, measured_steps
from bakeoff.diagnostics.rules import Diagnosis, RunHistory, diagnose
from bakeoff.diagnostics.tolerate_failure import FailureTolerance
from bakeoff.errors import echo
from bakeoff.rendering.page import Block
from bakeoff.run_files.journal import Journal, read_journal

FOLDER, STATS_FILE = "diagnostics", "readings.jsonl"
DIAGNOSIS_TAG, SKIPPED_TAG = "diagnosis.", "diagnostics.left_out."


class DiagnosedModule(Protocol):
    """The attributes of a run's LightningModule that the callback reads; `net` is not wrapped by a strategy."""

    net: nn.Module
    loss: nn.Module
    step: int
    total_steps: int
    chance_loss: float
    diverged: str | None

    def trained_weights(self) -> dict[str, Tensor]:
        """Return the weights that are evaluated and exported."""
        ...


def as_diagnosed(module: pl.LightningModule) -> DiagnosedModule:
    """Return the module with the type of `DiagnosedModule`."""
    return cast("DiagnosedModule", module)


def is_trained(module: DiagnosedModule) -> bool:
    """Return whether nothing is left to train."""
    return module.step >= module.total_steps or module.diverged is not None


def train_data(trainer: pl.Trainer) -> ImageDataModule:
    """Return the data of the fit."""
    return cast("ImageDataModule", trainer.datamodule)  # type: ignore[attr-defined]  # set by Lightning, but not declared


class DiagnosticsCallback(pl.Callback):
    """Measures a run's layers, writes the statistics to the journal and diagnoses them; only for rank 0.

    It takes part in no collective operation and draws no random number. Activations are those of the probe in training mode without
    dropout, before the step; gradients are those of the step's batch over all devices and micro-batches; updates are those of the step.
    """

    def __init__(self, run: RunConfig, journal: Journal, *, run_dir: Path, title: str, curves: Mapping[str, Mapping[int, float]]) -> None:
        """Prepare the diagnostics of a run; its logger keeps `curves` (metric -> step -> value) up to date."""
        self.run, self.journal, self.folder, self.title, self.curves = run, journal, run_dir / FOLDER, title, curves
        self.full = run.diagnostics == "full"
        self.diagnoses: dict[str, Diagnosis] = {}
        self.layers: list[TracedLayer] = []
        self.metric_group = layer_stats.METRIC_GROUP
        self.current: LayerStats | None = None  # the measurement under way
        self.weights_before: list[Tensor] = []
        self.gradients_seen = False
        self.failures = FailureTolerance(title, on_skip=lambda part, reason: journal.tags({SKIPPED_TAG + part.replace(" ", "_"): reason}))

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Load the probe, and restore the measurements of an earlier process of this run."""
        module = as_diagnosed(pl_module)
        self.probe = make_probe(train_data(trainer).train_dataloader(), total_steps=module.total_steps)
        self.history = RunHistory(
            chance_loss=module.chance_loss,
            classes=self.run.data.num_classes,
            total_steps=module.total_steps,
            probe_images=len(self.probe.images),
            divergence_limit=self.run.trainer.divergence,
            curves=self.curves,
        )
        self.due_steps = set(measured_steps(module.total_steps))
        self._restore(module.step, is_trained=is_trained(module))

    def _restore(self, step: int, *, is_trained: bool) -> None:
        """Restore the measurements and diagnoses of an earlier process of this run up to `step`."""
        file = self.folder / STATS_FILE
        # The measurement of `step` is repeated, with the same result: the checkpoint was written before its gradients. That of the trained
        # net is the last one.
        self.history.layer_stats = layer_stats.load_layer_stats(file, last_step=step if is_trained else step - 1)
        file.unlink(missing_ok=True)
        for stats in self.history.layer_stats:
            layer_stats.append_layer_stats(file, stats)
        for line in read_journal(self.journal.path) if step else ():
            if line["kind"] == "metrics" and any(name.startswith(f"{layer_stats.LEGACY_METRIC_GROUP}/") for name in line["values"]):
                self.metric_group = layer_stats.LEGACY_METRIC_GROUP
            if line["kind"] == "tags":
                for tag, text in line["values"].items():
                    if tag.startswith(DIAGNOSIS_TAG):
                        name = tag.removeprefix(DIAGNOSIS_TAG)
                        self.diagnoses[name] = Diagnosis(name, text, step)
                    elif tag.startswith(SKIPPED_TAG):
                        self.failures.restore({tag.removeprefix(SKIPPED_TAG).replace("_", " "): text})

    def _is_measured(self, step: int) -> bool:
        return any(stats.step == step for stats in self.history.layer_stats)

    @contextmanager
    def _probe_images(self, trainer: pl.Trainer) -> Iterator[Tensor]:
        """Yield the probe's images to a block that runs at the run's precision."""
        with trainer.precision_plugin.val_step_context():
            yield trainer.precision_plugin.convert_input(self.probe.images)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Trace the net's layers, now that it is on its device."""
        with self.failures.tolerate("layers"), self._probe_images(trainer) as images:
            activation = type(builders.make_activation(self.run)())
            self.layers = trace_layers(as_diagnosed(pl_module).net, images[:2], activation=activation)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        """Measure the activations if the step is due."""
        step = as_diagnosed(pl_module).step
        if self.current is None and step in self.due_steps and not self._is_measured(step):
            self._measure_net(trainer, as_diagnosed(pl_module))

    def _measure_net(self, trainer: pl.Trainer, module: DiagnosedModule) -> None:
        """Begin the measurement of a step with everything that does not need its gradient."""
        self.current = LayerStats(module.step)
        if not self.layers:
            return
        with self.failures.tolerate("activations"), self._probe_images(trainer) as images:
            stats, histograms = layer_stats.activation_stats(module.net, self.layers, images, histograms=self.full)
            self.current.update(stats)
            if self.full:
                self.current.extras["activations"] = histograms
        if self.full:
            self.current.extras["weights"] = {layer.name: layer_stats.histogram(layer.weight) for layer in self.layers}
            with self.failures.tolerate("sharpness"), self._probe_images(trainer) as images:
                from bakeoff.diagnostics.curvature import sharpness

                self.current.extras["sharpness"] = sharpness(module.net, module.loss, Probe(images, self.probe.labels), seed=self.run.seed)

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer) -> None:
        """Measure the gradients, complete, unscaled and not yet clipped, once per step, however often the optimizer evaluates them."""
        if self.current is not None and not self.gradients_seen:
            self.gradients_seen = True
            with self.failures.tolerate("gradients"):
                self.current.update(layer_stats.gradient_stats(self.layers, chance_loss=self.history.chance_loss))
            with self.failures.tolerate("updates"):
                self.weights_before = [layer_stats.sample_weights(layer) for layer in self.layers]

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Measure the update after the step, and finish the measurement."""
        if self.current is not None and self.gradients_seen and as_diagnosed(pl_module).step > self.current.step:
            with self.failures.tolerate("updates"):
                if self.weights_before:
                    self.current.update(layer_stats.update_stats(self.layers, self.weights_before))
            self.weights_before, self.gradients_seen = [], False
            self._log_measurement()
            self._diagnose(pl_module)

    def _log_measurement(self) -> None:
        """Write the finished measurement to the file and the journal."""
        assert self.current is not None
        layer_stats.append_layer_stats(self.folder / STATS_FILE, self.current)
        self.history.layer_stats.append(self.current)
        self.journal.metrics(self.current.metrics(group=self.metric_group), step=self.current.step)
        self.current = None

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Diagnose the run so far."""
        self._diagnose(pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure the trained net, without a gradient or update."""
        if not self._is_measured(as_diagnosed(pl_module).step):
            self._measure_net(trainer, as_diagnosed(pl_module))
            self._log_measurement()
        self._diagnose(pl_module)

    def _diagnose(self, pl_module: pl.LightningModule) -> None:
        """Log every new diagnosis as a tag and as a line on standard error."""
        self.history.diverged = as_diagnosed(pl_module).diverged
        diagnoses: list[Diagnosis] = []
        with self.failures.tolerate("diagnoses"):
            diagnoses = diagnose(self.history)
        for diagnosis in diagnoses:
            if diagnosis.name not in self.diagnoses:
                self.diagnoses[diagnosis.name] = diagnosis
                self.journal.tags({DIAGNOSIS_TAG + diagnosis.name: diagnosis.text})
                echo(f"{self.title}: {diagnosis.name}: {diagnosis.text}", err=True)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the page of the run's diagnostics and log it as an artifact."""
        module = as_diagnosed(pl_module)
        if is_trained(module) and not self._is_measured(module.step):
            # An earlier process was killed between its last checkpoint and this measurement, and nothing was left to train.
            self.on_train_start(trainer, pl_module)
            self.on_train_end(trainer, pl_module)
        if not self.history.layer_stats:
            return
        self.folder.mkdir(exist_ok=True)
        extra_sections: list[Block] = []
        if self.full:
            from bakeoff.diagnostics.post_training import examine_trained_net, sections_over_time

            with self.failures.tolerate("figures over time"):
                extra_sections += sections_over_time(self.history.layer_stats)
            with self.failures.tolerate("trained net"):
                net = copy.deepcopy(module.net).to(self.probe.images.device)
                net.load_state_dict(module.trained_weights())
                data, seed = train_data(trainer), self.run.seed
                sections, metrics = examine_trained_net(net.eval(), module.loss, data, self.probe, seed=seed, failures=self.failures)
                extra_sections.append(sections)
                # A single value per run: at step 0 the store draws it as a bar.
                self.journal.metrics({f"{self.metric_group}/{name}": value for name, value in metrics.items()}, step=0)
        page = run_page(self.title, self.history, list(self.diagnoses.values()), more=extra_sections, skipped=self.failures.skipped)
        (self.folder / "index.html").write_text(page, encoding="utf-8")
        for name in ("index.html", STATS_FILE):
            self.journal.artifact(f"{FOLDER}/{name}", artifact_path=FOLDER)
