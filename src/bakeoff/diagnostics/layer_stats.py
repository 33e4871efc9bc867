"""Statistics of each layer's outputs, gradients and updates at one step, and the file that keeps them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bakeoff.diagnostics.layer_trace import TracedLayer, output_hooks, side_effect_free
from bakeoff.run_files.json_text import parse_json

MAX_SAMPLED = 1_000_000
"""The update of a larger weight tensor is measured on about this many elements."""
BINS = 40

STATS = {
    "activation_mean": "mean of the outputs",
    "activation_std": "standard deviation of the outputs",
    "dead": "share of units that are zero on all probe images",
    "saturated": "share of outputs at the flat ends of sigmoid or tanh",
    "gradient_norm": "norm of the loss's gradient with respect to the weights, before clipping",
    "gradient_share": "norm of the gradient times norm of the weights, divided by the chance loss",
    "update_ratio": "norm of the update divided by the norm of the weights",
    "weight_norm": "norm of the weights",
}
"""Statistic of a layer -> its definition."""
LOGGED_STATS = ("activation_std", "dead", "saturated", "gradient_norm", "update_ratio")
"""Statistics that are metrics of the run; the page shows all statistics."""

METRIC_GROUP = "layers"
"""First part of the metrics' names: `layers/activation_std/02_conv2`."""
LEGACY_METRIC_GROUP = "within"
"""The former `METRIC_GROUP` in older journals and stores; a resumed run keeps the group of its journal."""

StatsByLayer = dict[str, dict[str, float]]
"""Layer -> statistic -> value."""
Histogram = list[Any]
"""[least, greatest, counts in `BINS` bins between them]."""


@dataclass
class LayerStats:
    """Statistics by layer and name at a step, counted in updates; `extras` holds the measurements of `diagnostics=full`."""

    step: int
    layers: StatsByLayer = field(default_factory=dict)
    extras: dict[str, Any] = field(default_factory=dict)

    def by_layer(self, stat: str) -> dict[str, float]:
        """Return a statistic by layer, without missing and non-finite values."""
        return {name: stats[stat] for name, stats in self.layers.items() if stat in stats and math.isfinite(stats[stat])}

    def metrics(self, *, group: str = METRIC_GROUP) -> dict[str, float]:
        """Return the finite metrics of the run: `<group>/<statistic>/<layer>` -> value."""
        metrics = {f"{group}/{stat}/{name}": value for stat in LOGGED_STATS for name, value in self.by_layer(stat).items()}
        if math.isfinite(self.extras.get("sharpness", math.nan)):
            metrics[f"{group}/sharpness"] = self.extras["sharpness"]
        return metrics

    def update(self, stats: StatsByLayer) -> None:
        """Add statistics of the same step."""
        for name, values in stats.items():
            self.layers.setdefault(name, {}).update(values)


def activation_stats(
    net: nn.Module, layers: list[TracedLayer], images: Tensor, *, histograms: bool = False
) -> tuple[StatsByLayer, dict[str, Histogram]]:
    """Measure every layer's outputs on images `(n, C, H, W)`, without changing the net.

    A unit is a channel of a convolution or an output of a fully connected layer. It is dead if it is zero on all images and at all
    positions (half of the *outputs* of a healthy ReLU layer are zero). Source: X. Glorot, Y. Bengio (2010), sections 3 and 4, for
    saturation and standard deviations by depth.

    Returns:
        The statistics, and layer -> histogram, empty without `histograms`.
    """
    keys: list[tuple[str, str]] = []
    values: list[Tensor] = []
    output_histograms: dict[str, Histogram] = {}

    def measure(layer: TracedLayer, outputs: Tensor) -> None:
        floats = outputs.float()
        # A mean and a norm are much faster than torch.std_mean on channels_last images.
        mean = floats.mean()
        std = torch.linalg.vector_norm(floats - mean) / math.sqrt(floats.numel())
        keys.extend([(layer.name, "activation_mean"), (layer.name, "activation_std")])
        values.extend([mean, std])
        if layer.one_sided:
            positions = [0, *range(2, outputs.ndim)]
            keys.append((layer.name, "dead"))
            values.append((floats.abs().sum(dim=positions) == 0).float().mean())
        if layer.limits is not None:
            low, high = layer.limits
            keys.append((layer.name, "saturated"))
            values.append(((outputs < low) | (outputs > high)).float().mean())
        if histograms:
            output_histograms[layer.name] = histogram(floats)

    with side_effect_free(net), output_hooks(layers, measure):
        net.forward(images)
    stats: StatsByLayer = {layer.name: {} for layer in layers}
    for (name, stat), value in zip(keys, torch.stack(values).tolist(), strict=True):
        stats[name][stat] = value
    return stats, output_histograms


def histogram(values: Tensor) -> Histogram:
    """Return the histogram of the finite elements of `values`."""
    flat = values.detach().float().flatten()
    flat = flat[flat.isfinite()].cpu()
    if not flat.numel():
        return [0.0, 0.0, [0] * BINS]
    low, high = float(flat.min()), float(flat.max())
    return [low, high, [int(count) for count in torch.histc(flat, BINS, min=low, max=high).tolist()]]


def gradient_stats(layers: Sequence[TracedLayer], *, chance_loss: float) -> StatsByLayer:
    """Measure the current gradients of the layers that have one, and the norms of their weights.

    `gradient_share` is |g| |w| / chance_loss: the change of the loss, to first order and as a share of the chance loss, when the weights
    move along the gradient by their own norm. It does not change if a layer's scale is moved to the next layer.
    """
    tensors = {layer.name: (layer.weight.grad, layer.weight.detach()) for layer in layers if layer.weight.grad is not None}
    if not tensors:
        return {}
    with torch.no_grad():
        gradients, weights = (torch._foreach_norm(list(part)) for part in zip(*tensors.values(), strict=True))
        norms = torch.stack([*gradients, *weights]).double().tolist()
    return {
        name: {"gradient_norm": gradient, "weight_norm": weight, "gradient_share": gradient * weight / chance_loss}
        for name, gradient, weight in zip(tensors, norms, norms[len(tensors) :], strict=False)
    }


def sample_weights(layer: TracedLayer) -> Tensor:
    """Return a copy of a layer's weights, or of at least a million evenly spaced ones."""
    flat = layer.weight.detach().flatten()
    return flat[:: max(1, flat.numel() // MAX_SAMPLED)].clone()


def update_stats(layers: Sequence[TracedLayer], before: Sequence[Tensor]) -> StatsByLayer:
    """Measure update_ratio = |w_after - w_before| / |w_before| by layer, unless w_before (from `sample_weights`) is zero."""
    with torch.no_grad():
        updates = torch._foreach_norm(torch._foreach_sub([sample_weights(layer) for layer in layers], list(before)))
        sizes = torch._foreach_norm(list(before))
        norms = torch.stack([*updates, *sizes]).double().tolist()
    pairs = zip(layers, norms, norms[len(layers) :], strict=False)
    return {layer.name: {"update_ratio": update / size} for layer, update, size in pairs if size > 0}


def append_layer_stats(path: Path, stats: LayerStats) -> None:
    """Append a JSON line to a run's file of layer statistics, whose folder is created if missing."""
    path.parent.mkdir(exist_ok=True)
    tree = asdict(stats)
    tree["more"] = tree.pop("extras")
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(tree, separators=(",", ":")) + "\n")


def load_layer_stats(path: Path, *, last_step: int) -> list[LayerStats]:
    """Return the layer statistics in a run's file up to `last_step`, by ascending step and without repeated steps.

    A missing file has no statistics; an incomplete or damaged line is skipped.
    """
    by_step: dict[int, LayerStats] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            tree = parse_json(line)
            if tree["step"] <= last_step:
                by_step.setdefault(tree["step"], LayerStats(tree["step"], tree["layers"], tree["more"]))
        except (ValueError, TypeError, LookupError):
            continue
    return [by_step[step] for step in sorted(by_step)]
