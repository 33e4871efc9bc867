"""What is read off a net at one step: figures of each layer's outputs, gradients and updates."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bakeoff.diagnostics.layer_trace import Layer, listening, side_effect_free

SHARE = 0.008
"""Of all the arithmetic of a run, what the forward passes of the probe may take."""
PASSES = 3
"""What training on an image costs in forward passes: one of three alike."""
LEAST, MOST = 16, 256
SAMPLE = 1_000_000
"""Of a larger weight tensor, about so many elements stand for all when its update is measured."""
BINS = 40

STATS = {
    "activation_mean": "mean of the outputs",
    "activation_std": "standard deviation of the outputs",
    "dead": "share of units that give zero on the whole probe",
    "saturated": "share of outputs at the flat ends of sigmoid or tanh",
    "gradient_norm": "norm of the loss's gradient in the weights, before clipping",
    "gradient_share": "norm of gradient times norm of weights, over the loss of guessing",
    "update_ratio": "norm of the step over norm of the weights",
    "weight_norm": "norm of the weights",
}
"""Figure of a layer -> what it is."""
LOGGED = ("activation_std", "dead", "saturated", "gradient_norm", "update_ratio")
"""Figures that become metrics of the run; the page shows them all."""

GROUP = "within"
"""First part of the names in the store: behind train and val, as its charts stand in the order of the alphabet."""
Figures = dict[str, dict[str, float]]


@dataclass
class Reading:
    """Figures by layer and name at one step, which is the number of updates behind the net; `more` holds what only `full` measures."""

    step: int
    layers: Figures = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)

    def of(self, stat: str) -> dict[str, float]:
        """One figure of every layer that has it and where it is finite."""
        return {name: found[stat] for name, found in self.layers.items() if stat in found and math.isfinite(found[stat])}

    def metrics(self) -> dict[str, float]:
        """Names and values for the store: `within/activation_std/02_conv2`; what is not finite stays out."""
        return {f"{GROUP}/{stat}/{name}": value for stat in LOGGED for name, value in self.of(stat).items()}


def steps(total: int) -> Iterator[int]:
    """0, 1, 2, 4, 8, ... and the last: the steps at which a run of `total` steps is read."""
    step = 0
    while step < total:
        yield step
        step = max(1, 2 * step)
    yield total


def probe_size(total: int, *, batch: int, micro: int) -> int:
    """Images of the probe, a function of the planned run alone, so that a resumed one looks at the same.

    So many that the readings of all `steps` cost SHARE of the training's arithmetic, 16 to 256; at most four micro-batches.
    """
    afford = SHARE * PASSES * total * batch / len(list(steps(total)))
    return max(2, min(4 * micro, MOST, max(LEAST, int(afford))))


def read_activations(net: nn.Module, layers: list[Layer], images: Tensor, *, histograms: bool = False) -> tuple[Figures, dict[str, Any]]:
    """Figures of every layer's outputs on `images` [n, C, H, W], and, where asked for, their histograms (layer -> low, high, counts).

    A unit is a channel of a convolution or an output of a fully connected layer; it is dead where it is zero on all images and at all
    places (half of the *outputs* of a healthy ReLU layer are zero). Source: X. Glorot, Y. Bengio (2010), sections 3 and 4, for
    saturation and standard deviations by depth.
    """
    order: list[tuple[str, str]] = []
    values: list[Tensor] = []
    drawn: dict[str, Any] = {}

    def heard(layer: Layer, outputs: Tensor) -> None:
        wide = outputs.float()
        # A mean and a norm are many times as fast as torch.std_mean on images in channels_last.
        mean = wide.mean()
        std = torch.linalg.vector_norm(wide - mean) / math.sqrt(wide.numel())
        order.extend([(layer.name, "activation_mean"), (layer.name, "activation_std")])
        values.extend([mean, std])
        if layer.one_sided:
            places = [0, *range(2, outputs.ndim)]
            order.append((layer.name, "dead"))
            values.append((wide.abs().sum(dim=places) == 0).float().mean())
        if layer.limits is not None:
            low, high = layer.limits
            order.append((layer.name, "saturated"))
            values.append(((outputs < low) | (outputs > high)).float().mean())
        if histograms:
            drawn[layer.name] = histogram(wide)

    with side_effect_free(net), listening(layers, heard):
        net.forward(images)
    figures: Figures = {layer.name: {} for layer in layers}
    for (name, stat), value in zip(order, torch.stack(values).tolist(), strict=True):
        figures[name][stat] = value
    return figures, drawn


def histogram(values: Tensor) -> list[Any]:
    """[least, greatest, counts in 40 bins between them] of the finite ones of `values`."""
    flat = values.detach().float().flatten()
    flat = flat[flat.isfinite()].cpu()
    if not flat.numel():
        return [0.0, 0.0, [0] * BINS]
    low, high = float(flat.min()), float(flat.max())
    return [low, high, [int(count) for count in torch.histc(flat, BINS, min=low, max=high).tolist()]]


def read_gradients(layers: Sequence[Layer], *, guessing: float) -> Figures:
    """Figures of the gradients that lie in the layers' weights at this moment, and the weights' norms.

    `gradient_share` is |g| |w| / guessing: the share of the loss of guessing by which the loss changes, to first order, when the weights
    move along the gradient by their own size. It is the same however a layer and the one behind it share their scale.
    """
    own = {layer.name: (layer.weight.grad, layer.weight.detach()) for layer in layers if layer.weight.grad is not None}
    if not own:
        return {}
    with torch.no_grad():
        gradients, weights = (torch._foreach_norm(list(part)) for part in zip(*own.values(), strict=True))
        found = torch.stack([*gradients, *weights]).double().tolist()
    figures: Figures = {}
    for name, g, w in zip(own, found, found[len(own) :], strict=False):
        figures[name] = {"gradient_norm": g, "weight_norm": w, "gradient_share": g * w / guessing}
    return figures


def sampled(layer: Layer) -> Tensor:
    """A copy of a layer's weights, or of evenly spread ones of them."""
    flat = layer.weight.detach().flatten()
    return flat[:: max(1, flat.numel() // SAMPLE)].clone()


def read_updates(layers: Sequence[Layer], before: Sequence[Tensor]) -> Figures:
    """update_ratio = |w_after - w_before| / |w_before| of every layer that had weights other than zero; `before` is of `sampled`."""
    with torch.no_grad():
        moved = torch._foreach_norm(torch._foreach_sub([sampled(layer) for layer in layers], list(before)))
        sizes = torch._foreach_norm(list(before))
        found = torch.stack([*moved, *sizes]).double().tolist()
    pairs = zip(layers, found, found[len(layers) :], strict=False)
    return {layer.name: {"update_ratio": moved / size} for layer, moved, size in pairs if size > 0}


def merge(reading: Reading, figures: Figures) -> None:
    """Add figures to a reading."""
    for name, found in figures.items():
        reading.layers.setdefault(name, {}).update(found)


def append(path: Path, reading: Reading) -> None:
    """One line more in a run's file of readings."""
    path.parent.mkdir(exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(reading), separators=(",", ":")) + "\n")


def load(path: Path, *, until: int) -> list[Reading]:
    """The readings of a run's file up to a step, each step once; a line that a kill has torn is left out."""
    found: dict[int, Reading] = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                reading = Reading(**json.loads(line))
            except ValueError:
                continue
            if reading.step <= until:
                found.setdefault(reading.step, reading)
    return [found[step] for step in sorted(found)]
