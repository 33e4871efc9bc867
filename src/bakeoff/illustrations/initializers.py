"""What an initializer and an activation together do to a signal on its way through a deep net of equal layers, before any training."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn

from bakeoff import builders, seeds
from bakeoff.components.initializers import activation_gain
from bakeoff.config import compose
from bakeoff.config.schema import RunConfig
from bakeoff.config.targets import build_errors
from bakeoff.errors import BakeoffError, ChoiceError
from bakeoff.illustrations import paper
from bakeoff.illustrations.gallery import Request

BINS = 60
GRID = (("tanh", "relu"), (("normal", ("initializer.std=0.01",)), ("xavier_normal", ("initializer.gain=1",)), ("he_normal", ())))
"""Drawn where nothing is asked for: the papers' small normal weights, and the two rules that came after."""


@dataclass(frozen=True)
class Layer:
    """A layer's activations: standard deviation, the share that is exactly 0, and the histogram (counts between edges) of the others."""

    std: float
    zeros: float
    counts: np.ndarray
    edges: np.ndarray


def signal(run: RunConfig, *, layers: int, units: int, samples: int, seed: int) -> list[Tensor]:
    """The activations [samples, units] behind each of `layers` linear layers, for standard normal inputs; nothing is trained.

    A linear layer of scores stands behind them, since some initializers treat a net's last layer apart. One that wants images is given
    other inputs of the same kind. Errors: ChoiceError where the initializer copies the layers of a trained net: this net has none of them.
    """
    initializer = builders.make_initializer(run)
    if initializer.needs_source:
        raise ChoiceError(f"initializer: {type(initializer).__name__} copies a trained net's layers, which this net of equal layers lacks")
    activation = builders.make_activation(run)
    expansion = int(getattr(activation(), "expansion", 1))
    # torch draws first weights from the global generator, which is put back as it was; the initializer then writes its own.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        stack = [nn.Sequential(nn.Linear(units, units * expansion), activation()) for _ in range(layers)]
        net = nn.Sequential(*stack, nn.Linear(units, 10)).eval()
    other = torch.randn(samples, units, generator=seeds.make_generator(seed, "probe", 1))
    given = {"images": other} if initializer.needs_images else {}
    with build_errors("initializer", run.initializer):
        initializer(net, activation_gain=activation_gain(activation()), generator=seeds.make_generator(seed, "init"), **given)
    with torch.no_grad():
        flow = torch.randn(samples, units, generator=seeds.make_generator(seed, "probe"))
        seen = []
        for layer in stack:
            flow = layer(flow)
            seen.append(flow)
    return seen


def layers_of(seen: list[Tensor]) -> list[Layer]:
    """Histograms on one common axis: from the smallest to the largest activation, less the outermost thousandth at either end."""
    parts = torch.cat([flow.flatten() for flow in seen]).double().numpy()
    finite = parts[np.isfinite(parts)]
    low, high = np.quantile(finite, [0.001, 0.999]) if finite.size else (0.0, 0.0)
    if high - low < 1e-12:
        low, high = low - 0.5, high + 0.5
    found = []
    for flow in seen:
        values = flow.flatten().double().numpy()
        counts, edges = np.histogram(values[(values != 0) & np.isfinite(values)], bins=BINS, range=(float(low), float(high)))
        found.append(Layer(float(values.std()), float((values == 0).mean()), counts, edges))
    return found


def pairs(asked: Request) -> dict[str, RunConfig]:
    """Title -> the run that pairs an activation with an initializer."""
    wanted: list[tuple[str, str, tuple[str, ...]]] = []
    if asked.choices or asked.overrides:
        for activation in asked.named("activation", ("relu",)):
            wanted += [(activation, name, asked.overrides) for name in asked.named("initializer", ("he_normal",))]
    else:
        wanted = [(activation, name, more) for activation in GRID[0] for name, more in GRID[1]]
    with compose.hydra_session(asked.config_dir):
        return {
            " ".join((f"{activation}, {name}", *(word.split(".", 1)[1] for word in more))): compose.compose_in_session(
                [f"activation={activation}", f"initializer={name}", *more]
            ).run
            for activation, name, more in wanted
        }


def draw(asked: Request) -> paper.Drawn:
    """One panel of histograms a pair, layer by layer from the top, and all standard deviations by depth."""
    options = asked.options
    found: dict[str, list[Layer]] = {}
    skipped: dict[str, str] = {}
    runs = pairs(asked)
    for title, run in runs.items():
        try:
            found[title] = layers_of(signal(run, **options))
        except BakeoffError as error:
            if len(runs) == 1:
                raise
            skipped[title] = str(error)
    if not found:
        raise ChoiceError(f"show initializers: none can be drawn; {'; '.join(f'{title}: {why}' for title, why in skipped.items())}")
    columns = min(3, len(found))
    rows = math.ceil(len(found) / columns)
    deep = options["layers"]
    tall = max(1.9, 0.26 * deep)
    sheet = paper.sheet(max(7.0, 3.6 * columns), rows * tall + 3.2)
    size = f"{deep} layers of {options['units']} units, {options['samples']} standard normal inputs"
    paper.head(sheet, "Activations by depth, before training", f"{size}; each histogram to its own height, zeros told apart")
    grid = sheet.add_gridspec(rows + 1, columns, height_ratios=[*([tall] * rows), 2.3])
    for i, (title, layers) in enumerate(found.items()):
        ridges(sheet.add_subplot(grid[divmod(i, columns)]), title, layers)
    axes = sheet.add_subplot(grid[rows, :])
    axes.set_title("standard deviation by depth")
    axes.set_yscale("log")
    axes.grid(True)
    axes.set_xlabel("layer")
    strokes = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-.", "longdash": (0, (8, 3)), "longdashdot": (0, (8, 3, 1, 3))}
    for i, (title, layers) in enumerate(found.items()):
        colour, dash, _ = paper.look(i)
        shown = [layer.std if layer.std > 0 else math.nan for layer in layers]
        axes.plot(range(1, deep + 1), shown, color=colour, linestyle=strokes[dash], marker="o", markersize=3.5, label=title)
    axes.set_xticks(range(1, deep + 1) if deep <= 20 else range(1, deep + 1, deep // 10))
    axes.legend(loc="lower left")
    plots = [paper.Plot("Standard deviation by depth", lines(found), wide=True)]
    plots += [paper.Plot(title, ridge_spec(layers)) for title, layers in found.items()]
    head = ("pair", *(f"layer {i + 1}" for i in range(deep)))
    table = paper.Table(
        "Standard deviation of the activations", head, [[t, *(f"{x.std:.3g}" for x in xs)] for t, xs in found.items()], "initializers.csv"
    )
    notes = [
        f"{size}: linear layers with the activation behind each, weights from the initializer, no training. Layer 1 on top.",
        "A signal that keeps its spread from layer to layer lets gradients through as well; one that shrinks or grows by a factor a layer "
        "vanishes or explodes. Exact zeros (half of what ReLU gives) are left out of the histograms and told in percent.",
    ]
    return paper.Drawn("Activations by depth, before training", notes, sheet, plots, [table], skipped)


def ridges(axes: Axes, title: str, layers: list[Layer]) -> None:
    """Histograms one below the other, layer 1 on top."""
    axes.set_title(title, fontsize=9)
    for depth, layer in enumerate(layers):
        x, height = outline(layer)
        foot = -float(depth)
        axes.fill_between(x, foot, foot + height, color=paper.BLUE, alpha=0.75, linewidth=0, zorder=depth + 2)
        axes.plot([layer.edges[0], layer.edges[-1]], [foot, foot], color=paper.LINE, linewidth=0.6, zorder=depth + 1)
        zero = f", {layer.zeros:.0%} zero" if layer.zeros > 0.005 else ""
        axes.text(1.01, foot + 0.1, f"std {layer.std:.2g}{zero}", transform=axes.get_yaxis_transform(), fontsize=6.8, color=paper.SOFT)
    step = max(1, len(layers) // 10)
    axes.set_yticks([-float(i) for i in range(0, len(layers), step)], [str(i + 1) for i in range(0, len(layers), step)])
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)


def outline(layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    """A histogram as steps, (x, height up to 0.9)."""
    height = np.repeat(layer.counts, 2) / max(1, layer.counts.max()) * 0.9
    return np.repeat(layer.edges, 2)[1:-1], height


def ridge_spec(layers: list[Layer]) -> paper.Spec:
    """The interactive plot of one pair."""
    data = []
    for depth, layer in enumerate(layers):
        x, height = outline(layer)
        foot = -depth
        hint = f"layer {depth + 1}: std {layer.std:.3g}, {layer.zeros:.1%} zero"
        data.append(
            {
                "type": "scatter", "mode": "lines", "x": paper.numbers([x[0], *x, x[-1]]),
                "y": paper.numbers([foot, *(foot + height), foot]),
                "fill": "toself", "fillcolor": "rgba(0,114,178,0.7)", "line": {"width": 0.5, "color": paper.BLUE}, "name": hint,
                "hoveron": "fills", "hoverinfo": "name", "hoverlabel": {"namelength": -1},
            }
        )  # fmt: skip
    look = paper.layout(height=max(200, 28 * len(layers) + 70), x="activation", y="layer")
    step = max(1, len(layers) // 10)
    look["yaxis"] |= {"tickvals": [-i for i in range(0, len(layers), step)], "ticktext": [str(i + 1) for i in range(0, len(layers), step)]}
    look["yaxis"] |= {"showgrid": False, "zeroline": False}
    return {"data": data, "layout": look}


def lines(found: dict[str, list[Layer]]) -> paper.Spec:
    """The interactive plot of all standard deviations."""
    data = []
    for i, (title, layers) in enumerate(found.items()):
        colour, dash, marker = paper.look(i)
        data.append(
            {
                "type": "scatter", "mode": "lines+markers", "x": list(range(1, len(layers) + 1)), "name": title,
                "y": [value or None for value in paper.numbers(layer.std for layer in layers)], "line": {"color": colour, "dash": dash},
                "marker": {"symbol": marker, "size": 7}, "hovertemplate": "layer %{x}: %{y:.3g}",
            }
        )  # fmt: skip
    look = paper.layout(height=420, x="layer", y="standard deviation", legend=True)
    look["yaxis"] |= {"type": "log", "exponentformat": "power"}
    return {"data": data, "layout": look}
