"""A signal in a deep net of equal layers before training, for pairs of an initializer and an activation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from bakeoff import builders, seeds
from bakeoff.components.initializers import GAIN_COLUMNS, gain_row
from bakeoff.config import compose
from bakeoff.config.schema import RunConfig
from bakeoff.errors import BakeoffError, ChoiceError
from bakeoff.illustrations.gallery import Request
from bakeoff.illustrations.illustration import DataTable, Illustration, marked_line_trace, titled_figure
from bakeoff.illustrations.slot_choices import check_drawable
from bakeoff.rendering.matplotlib_backend import line_style
from bakeoff.rendering.page import Plot
from bakeoff.rendering.palette import BLUE, LINE, SOFT, style
from bakeoff.rendering.plotly_backend import Spec, base_layout, rounded

BINS = 60
DEFAULT_PAIRS = [
    (activation, initializer, overrides)
    for activation in ("tanh", "relu")
    for initializer, overrides in (
        ("normal", ("initializer.std=0.01",)),
        ("xavier_normal", ("initializer.gain=1",)),
        ("he_normal", ()),
    )
]
"""Drawn if the request names no pair: the papers' small normal weights, and the two rules published later."""
TITLE = "Activations by depth, before training"


@dataclass(frozen=True)
class LayerSignal:
    """A layer's activations: standard deviation, the share that is exactly 0, and the histogram (counts between edges) of the others."""

    std: float
    zeros: float
    counts: np.ndarray
    edges: np.ndarray

    def outline(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the histogram as steps: x, and heights up to 0.9."""
        heights = np.repeat(self.counts, 2) / max(1, self.counts.max()) * 0.9
        return np.repeat(self.edges, 2)[1:-1], heights


SignalsByPair = dict[str, list[LayerSignal]]
"""Title of the pair -> its layers."""


def propagate_signal(run: RunConfig, *, layers: int, units: int, samples: int, seed: int) -> list[Tensor]:
    """Propagate standard normal inputs through `layers` hidden linear layers with the run's initializer and activation.

    A layer of scores follows them, since some initializers treat the last layer of a net separately. An initializer that needs images
    receives other inputs of the same distribution. `seed` determines inputs and weights.

    Returns:
        The activations `(samples, units)` of each layer.

    Raises:
        ChoiceError: The initializer copies the layers of a trained net.
    """
    initializer = builders.make_initializer(run)
    if initializer.needs_source:
        raise ChoiceError(f"initializer: {type(initializer).__name__} copies a trained net's layers, which do not fit this net")
    activation = builders.make_activation(run)
    expansion = int(getattr(activation(), "expansion", 1))
    # torch draws default weights from the global generator, whose state is restored; the initializer overwrites them.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        hidden = [nn.Sequential(nn.Linear(units, units * expansion), activation()) for _ in range(layers)]
        net = nn.Sequential(*hidden, nn.Linear(units, 10)).eval()
    images = torch.randn(samples, units, generator=seeds.make_generator(seed, "probe", 1))
    arguments = {"images": images} if initializer.needs_images else {}
    builders.initialize(run, initializer, net, generator=seeds.make_generator(seed, "init"), **arguments)
    activations = []
    with torch.no_grad():
        signal = torch.randn(samples, units, generator=seeds.make_generator(seed, "probe"))
        for layer in hidden:
            signal = layer(signal)
            activations.append(signal)
    return activations


def summarize_signal(activations: list[Tensor]) -> list[LayerSignal]:
    """Summarize the activations of each layer, with histograms over the common range from the 0.1 % to the 99.9 % quantile."""
    pooled = torch.cat([layer.flatten() for layer in activations]).double().numpy()
    finite = pooled[np.isfinite(pooled)]
    low, high = np.quantile(finite, [0.001, 0.999]) if finite.size else (0.0, 0.0)
    if high - low < 1e-12:
        low, high = low - 0.5, high + 0.5
    signals = []
    for layer in activations:
        values = layer.flatten().double().numpy()
        counts, edges = np.histogram(values[(values != 0) & np.isfinite(values)], bins=BINS, range=(float(low), float(high)))
        signals.append(LayerSignal(float(values.std()), float((values == 0).mean()), counts, edges))
    return signals


def compose_pairs(request: Request) -> dict[str, RunConfig]:
    """Return title -> run for each pair of an activation and an initializer."""
    pairs: list[tuple[str, str, tuple[str, ...]]] = list(DEFAULT_PAIRS)
    if request.choices or request.overrides:
        activations = request.choices_of("activation", ("relu",))
        initializers = request.choices_of("initializer", ("he_normal",))
        pairs = [(activation, initializer, request.overrides) for activation in activations for initializer in initializers]
    runs = {}
    with compose.hydra_session(request.config_dir):
        for activation, initializer, overrides in pairs:
            title = " ".join((f"{activation}, {initializer}", *(override.split(".", 1)[1] for override in overrides)))
            choices = [f"activation={activation}", f"initializer={initializer}"]
            runs[title] = compose.compose_in_session([*choices, *overrides]).run
    return runs


def draw(request: Request) -> Illustration:
    """Draw a panel of histograms for each pair, with layer 1 at the top, and all standard deviations by depth."""
    options, runs = request.options, compose_pairs(request)
    signals: SignalsByPair = {}
    skipped: dict[str, str] = {}
    for title, run in runs.items():
        try:
            signals[title] = summarize_signal(propagate_signal(run, **options))
        except BakeoffError as error:
            if len(runs) == 1:
                raise
            skipped[title] = str(error)
    check_drawable(request, signals, skipped)
    size = f"{options['layers']} layers of {options['units']} units, {options['samples']} standard normal inputs"
    plots = [Plot("stds", std_spec(signals), "Standard deviation by depth", wide=True)]
    plots += [Plot(str(i), ridge_spec(layers), title) for i, (title, layers) in enumerate(signals.items())]
    head = ("pair", *(f"layer {i + 1}" for i in range(options["layers"])))
    rows = [[title, *(f"{layer.std:.3g}" for layer in layers)] for title, layers in signals.items()]
    table = DataTable("Standard deviation of the activations", head, rows, "initializers.csv")
    notes = [
        f"{size}: linear layers, each followed by the activation, with weights from the initializer and no training. Layer 1 is on top.",
        "If a signal keeps its spread from layer to layer, gradients do so as well; if it shrinks or grows by a factor per layer, it "
        "vanishes or explodes. Exact zeros (half of the outputs of ReLU) are omitted from the histograms and stated in percent.",
        "auto is the critical gain, at which gradients keep their size (chi = 1), where there is one, else the gain of the second moment, "
        "at which the mean square of a signal stays and that of a gradient changes by chi in every layer.",
    ]
    activations = {runs[title].choices["activation"]: runs[title] for title in signals}
    gains = [(name, *gain_row(builders.make_activation(run)())) for name, run in activations.items()]
    gain_table = DataTable("What gain: auto can mean", ("activation", *GAIN_COLUMNS), gains, "gains.csv")
    return Illustration(TITLE, notes, draw_figure(signals, size), plots, [table, gain_table], skipped)


def draw_figure(signals: SignalsByPair, size: str) -> Figure:
    """Draw the figure for PNG and SVG; `size` describes the net and its inputs."""
    depth = len(next(iter(signals.values())))
    columns = min(3, len(signals))
    rows = math.ceil(len(signals) / columns)
    height = max(1.9, 0.26 * depth)
    note = f"{size}; each histogram has its own scale and omits zeros"
    figure = titled_figure(max(7.0, 3.6 * columns), rows * height + 3.2, title=TITLE, note=note)
    grid = figure.add_gridspec(rows + 1, columns, height_ratios=[*([height] * rows), 2.3])
    for i, (title, layers) in enumerate(signals.items()):
        draw_ridges(figure.add_subplot(grid[divmod(i, columns)]), title, layers)
    axes = figure.add_subplot(grid[rows, :])
    axes.set(title="standard deviation by depth", yscale="log", xlabel="layer")
    axes.grid(True)
    for i, (title, layers) in enumerate(signals.items()):
        stds = [layer.std if layer.std > 0 else math.nan for layer in layers]
        dash = line_style(style(i).dash)
        axes.plot(range(1, depth + 1), stds, color=style(i).colour, linestyle=dash, marker="o", markersize=3.5, label=title)
    axes.set_xticks(range(1, depth + 1) if depth <= 20 else range(1, depth + 1, depth // 10))
    axes.legend(loc="lower left")
    return figure


def draw_ridges(axes: Axes, title: str, layers: list[LayerSignal]) -> None:
    """Draw the histograms of all layers, layer 1 on top."""
    axes.set_title(title, fontsize=9)
    for depth, layer in enumerate(layers):
        x, heights = layer.outline()
        baseline = -float(depth)
        axes.fill_between(x, baseline, baseline + heights, color=BLUE, alpha=0.75, linewidth=0, zorder=depth + 2)
        axes.plot([layer.edges[0], layer.edges[-1]], [baseline, baseline], color=LINE, linewidth=0.6, zorder=depth + 1)
        zeros = f", {layer.zeros:.0%} zero" if layer.zeros > 0.005 else ""
        text = f"std {layer.std:.2g}{zeros}"
        axes.text(1.01, baseline + 0.1, text, transform=axes.get_yaxis_transform(), fontsize=6.8, color=SOFT)
    stride = max(1, len(layers) // 10)
    axes.set_yticks([-float(i) for i in range(0, len(layers), stride)], [str(i + 1) for i in range(0, len(layers), stride)])
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)


def ridge_spec(layers: list[LayerSignal]) -> Spec:
    """Return the interactive plot of one pair."""
    fill = {"fill": "toself", "fillcolor": "rgba(0,114,178,0.7)", "line": {"width": 0.5, "color": BLUE}}
    hover = {"hoveron": "fills", "hoverinfo": "name", "hoverlabel": {"namelength": -1}}
    traces = []
    for depth, layer in enumerate(layers):
        x, heights = layer.outline()
        name = f"layer {depth + 1}: std {layer.std:.3g}, {layer.zeros:.1%} zero"
        points = {"x": rounded([x[0], *x, x[-1]]), "y": rounded([-depth, *(heights - depth), -depth])}
        traces.append({"type": "scatter", "mode": "lines", "name": name, **points, **fill, **hover})
    stride = max(1, len(layers) // 10)
    layout = base_layout(height=max(200, 28 * len(layers) + 70), x="activation", y="layer")
    layout["yaxis"] |= {"showgrid": False, "zeroline": False}
    layout["yaxis"] |= {
        "tickvals": [-i for i in range(0, len(layers), stride)],
        "ticktext": [str(i + 1) for i in range(0, len(layers), stride)],
    }
    return {"data": traces, "layout": layout}


def std_spec(signals: SignalsByPair) -> Spec:
    """Return the interactive plot of all standard deviations."""
    traces = [
        marked_line_trace(title, [layer.std or None for layer in layers], style(i), hover="layer %{x}: %{y:.3g}")
        for i, (title, layers) in enumerate(signals.items())
    ]
    layout = base_layout(height=420, x="layer", y="standard deviation", legend=True)
    layout["yaxis"] |= {"type": "log", "exponentformat": "power"}
    return {"data": traces, "layout": layout}
