"""A filter that slides over an input, position by position, and the layers of AlexNet and VGG with their receptive fields."""

from __future__ import annotations

import textwrap
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from torch import Tensor
from torch.nn import functional

from bakeoff import seeds
from bakeoff.config.schema import RunConfig
from bakeoff.errors import ChoiceError, ConfigError
from bakeoff.illustrations.gallery import Request
from bakeoff.illustrations.illustration import EDGE_GREY, PALE_BLUE, DataTable, Illustration, marked_line_trace, titled_figure
from bakeoff.illustrations.receptive_fields import LayerGeometry, layer_geometries, output_side
from bakeoff.illustrations.slot_choices import build_choices
from bakeoff.rendering.matplotlib_backend import line_style
from bakeoff.rendering.page import Plot
from bakeoff.rendering.palette import BLUE, INK, ORANGE, SOFT, style
from bakeoff.rendering.plotly_backend import Spec, base_layout, player

PAPER_OVERRIDES = ("data=imagenet", "model.head=imagenet")
"""The nets as published, which are drawn if the request names neither data nor arguments of a net."""
PAPER_SIZES = (224, 227)
MAX_PRINTED = 3  # nets whose tables of layers the terminal prints
PADDING_GREY = "#e6e8ec"
TITLE = "Convolution: the receptive field of an output"


class SlidingFilter:
    """An input, a filter and their convolution by torch; the numbers are small, whole and always the same."""

    def __init__(self, *, input: int, kernel: int, stride: int, pad: int) -> None:
        """Compute the convolution; `input` and `kernel` are sides in pixels. ConfigError: the filter is larger than the padded input."""
        if kernel > input + 2 * pad:
            raise ConfigError(f"kernel={kernel}: must be at most input + 2 pad = {input + 2 * pad}")
        generator = seeds.make_generator(0, "probe")
        image = torch.randint(0, 3, (input, input), generator=generator).double()
        self.filter = torch.randint(-1, 2, (kernel, kernel), generator=generator).double()
        self.image = functional.pad(image, (pad, pad, pad, pad))
        self.output = functional.conv2d(image[None, None], self.filter[None, None], stride=stride, padding=pad)[0, 0]
        self.pad, self.stride, self.kernel = pad, stride, kernel
        side, unseen = output_side(input, kernel=kernel, stride=stride, pad=pad)
        assert self.output.shape == (side, side), "the formula of the output's side"
        remainder = f" (rounded down; the last {unseen} rows and columns are not used)" if unseen else ""
        self.arithmetic = f"({input} - {kernel} + 2 x {pad}) / {stride} + 1 = {side}{remainder}"

    def corner(self, position: int) -> tuple[int, int]:
        """Return row and column of the filter's corner in the padded input for an output position, numbered row by row."""
        row, column = divmod(position, self.output.shape[1])
        return row * self.stride, column * self.stride

    def describe_sum(self, position: int) -> str:
        """Return the sum of one output position as text."""
        row, column = self.corner(position)
        pixels = self.image[row : row + self.kernel, column : column + self.kernel]
        total = float((pixels * self.filter).sum())
        if self.kernel > 3:
            return f"sum of {self.kernel}x{self.kernel} products = {total:g}"
        factors = zip(pixels.flatten().tolist(), self.filter.flatten().tolist(), strict=True)
        return f"{' + '.join(f'{a:g}x({b:g})' if b < 0 else f'{a:g}x{b:g}' for a, b in factors)} = {total:g}"


Nets = dict[str, tuple[str, list[LayerGeometry]]]
"""Net -> (shape of its input, its layers)."""


def draw(request: Request) -> Illustration:
    """Draw the sliding filter and the receptive fields of the nets, with tables of their layers."""
    sliding = SlidingFilter(**request.options)
    nets, skipped = build_nets(request)
    notes = [
        f"Output side: (input - kernel + 2 pad) / stride + 1 = {sliding.arithmetic}. Each output is the sum of the products of the filter "
        "and the pixels under it; the filter is the same at every position.",
        "Receptive field: the side in pixels of the part of the image that affects an output of a layer, including padding. Stride: the "
        "distance in pixels of the image between neighbouring outputs. Both are computed from the layers of the net.",
    ]
    plots = [
        Plot("filter", sliding_spec(sliding), "A filter slides over an input", wide=True),
        Plot("fields", fields_spec(nets), "Receptive field by layer", wide=True),
    ]
    return Illustration(TITLE, notes, draw_figure(sliding, nets), plots, layer_tables(nets), skipped)


def build_nets(request: Request) -> tuple[Nets, dict[str, str]]:
    """Return the nets of a request, and net -> why it was left out."""
    data = tuple(f"data={name}" for name in request.choices.get("data", ()))
    activation = tuple(f"activation={name}" for name in request.choices.get("activation", ()))
    if len(data) > 1 or len(activation) > 1:
        raise ConfigError("show convolution: data and activation take a single choice; only model takes several")
    as_in_paper = "data" not in request.choices and not request.overrides

    def build(run: RunConfig) -> tuple[str, list[LayerGeometry]]:
        if not as_in_paper:
            return shape_and_layers(run)
        # The AlexNet of 2012 needs 227 pixels, all other nets 224.
        small, large = (run.replace(**{"data.size": size, "model": {**run.model, "size": size}}) for size in PAPER_SIZES)
        try:
            return shape_and_layers(small)
        except ChoiceError:
            return shape_and_layers(large)

    return build_choices(request, "model", build, base=(*(PAPER_OVERRIDES if as_in_paper else ()), *data, *activation))


def shape_and_layers(run: RunConfig) -> tuple[str, list[LayerGeometry]]:
    """Return the shape of a run's input as text, and its net's layers."""
    return f"{run.data.channels}x{run.data.size}x{run.data.size}", layer_geometries(run)


def spatial_layers(layers: list[LayerGeometry]) -> list[LayerGeometry]:
    """Return the convolutions and poolings."""
    return [layer for layer in layers if layer.field is not None and layer.name.startswith(("conv", "pool"))]


def group_alike(nets: Nets) -> dict[str, list[LayerGeometry]]:
    """Return names -> convolutions and poolings; nets with the same receptive fields in all layers share an entry."""
    groups: dict[tuple[int | None, ...], list[str]] = {}
    for name, (_, layers) in nets.items():
        groups.setdefault(tuple(layer.field for layer in spatial_layers(layers)), []).append(name)
    return {", ".join(names): spatial_layers(nets[names[0]][1]) for names in groups.values()}


def draw_figure(sliding: SlidingFilter, nets: Nets) -> Figure:
    """Draw the filter at its second position above the receptive fields."""
    note = f"output side: (input - kernel + 2 pad) / stride + 1 = {sliding.arithmetic}"
    figure = titled_figure(9.0, 7.4, title=TITLE, note=note)
    rows = figure.add_gridspec(2, 1, height_ratios=[1, 1.05])
    draw_sliding(figure.add_subplot(rows[0]), sliding)
    axes = figure.add_subplot(rows[1])
    axes.set(title="receptive field by layer, in pixels", xlabel="convolution or pooling number")
    axes.grid(True)
    for i, (names, layers) in enumerate(group_alike(nets).items()):
        fields = [layer.field or 0 for layer in layers]
        label, dash = textwrap.fill(names, 48), line_style(style(i).dash)
        axes.plot(range(1, len(fields) + 1), fields, color=style(i).colour, linestyle=dash, marker="o", markersize=3, label=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="upper left", fontsize=8)
    return figure


def draw_sliding(axes: Axes, sliding: SlidingFilter) -> None:
    """Draw input, filter and output, with the filter at its second position."""
    axes.set_axis_off()
    axes.set_aspect("equal")
    position = min(1, sliding.output.numel() - 1)
    row, column = sliding.corner(position)
    side, kernel, out = sliding.image.shape[0], sliding.kernel, sliding.output.shape[0]
    filter_x, output_x = side + 1.2, side + kernel + 2.4
    draw_numbers(axes, sliding.image, 0, pad=sliding.pad)
    draw_numbers(axes, sliding.filter, filter_x, colour=PALE_BLUE)
    draw_numbers(axes, sliding.output, output_x, last=position)
    axes.add_patch(Rectangle((column, row), kernel, kernel, facecolor=(0, 0.45, 0.7, 0.16), edgecolor=BLUE, linewidth=2.4))
    output_row, output_column = divmod(position, out)
    axes.add_patch(Rectangle((output_x + output_column, output_row), 1, 1, fill=False, edgecolor=ORANGE, linewidth=2.4))
    for x, name in ((0.0, "input" + (" with pad" if sliding.pad else "")), (filter_x, "filter"), (output_x, "output")):
        axes.text(x, -0.25, name, fontsize=10, color=SOFT, va="bottom")
    axes.text(0, side + 0.35, sliding.describe_sum(position), fontsize=9, va="top")
    axes.set(xlim=(-0.2, output_x + max(out, 1) + 0.2), ylim=(side + 1.1, -0.9))


def draw_numbers(axes: Axes, values: Tensor, left: float, *, pad: int = 0, colour: str = "white", last: int | None = None) -> None:
    """Draw a grid of `values` `(rows, columns)` from x = `left`; cells after number `last` are empty, and `pad` is the border's width."""
    rows, columns = values.shape
    for row in range(rows):
        for column in range(columns):
            is_padding = not (pad <= row < rows - pad and pad <= column < columns - pad)
            face = PADDING_GREY if is_padding else colour
            axes.add_patch(Rectangle((left + column, row), 1, 1, facecolor=face, edgecolor=EDGE_GREY, linewidth=0.8))
            if last is None or row * columns + column <= last:
                text = f"{float(values[row, column]):g}"
                axes.text(left + column + 0.5, row + 0.5, text, ha="center", va="center", color=SOFT if is_padding else INK)


def sliding_spec(sliding: SlidingFilter) -> Spec:
    """Return the animated plot: one frame for each position of the output."""
    side, kernel, out = sliding.image.shape[0], sliding.kernel, sliding.output.shape[0]
    filter_x, output_x = side + 1, side + kernel + 2
    padding = torch.ones_like(sliding.image)
    padding[sliding.pad : side - sliding.pad, sliding.pad : side - sliding.pad] = 0
    greys, blue = [[0, "#f4f5f7"], [1, "#d8dbe1"]], [[0, PALE_BLUE], [1, PALE_BLUE]]
    static = [
        {**number_grid(padding, sliding.image, 0, colours=greys), "zmin": 0, "zmax": 1},
        number_grid(torch.zeros_like(sliding.filter), sliding.filter, filter_x, colours=blue),
        text_trace([0, filter_x, output_x], [-0.4] * 3, ["input", "filter", "output"], "middle right", {"color": SOFT, "size": 14}),
    ]

    def moving(position: int) -> list[Spec]:
        row, column = sliding.corner(position)
        output_row, output_column = divmod(position, out)
        text = wrap_html(sliding.describe_sum(position), 34)
        return [
            number_grid(torch.zeros_like(sliding.output), sliding.output, output_x, colours=greys, last=position),
            box_trace(column, row, kernel, BLUE),
            box_trace(output_x + output_column, output_row, 1, ORANGE),
            {**text_trace([0], [side + 0.1], [text], "bottom right", {"size": 12}), "cliponaxis": False},
        ]

    count = sliding.output.numel()
    layout = base_layout(height=440)
    layout["xaxis"] |= {"visible": False, "range": [-0.2, output_x + out + 0.4], "constrain": "domain"}
    layout["yaxis"] |= {"visible": False, "range": [side + 2, -1], "scaleanchor": "x", "constrain": "domain", "constraintoward": "top"}
    layout |= player([f"position {i + 1} of {count}" for i in range(count)], pause=900)
    layout["margin"] |= {"l": 8, "r": 8}
    frames = [{"name": str(i), "data": moving(i), "traces": [3, 4, 5, 6]} for i in range(count)]
    return {"data": [*static, *moving(0)], "layout": layout, "frames": frames}


def number_grid(colour_values: Tensor, numbers: Tensor, left: int, *, colours: Any, last: int | None = None) -> Spec:
    """Return a grid of `numbers` `(rows, columns)` from x = `left`; cells after number `last` are empty.

    The background is a heatmap of `colour_values` `(rows, columns)` on the plotly colour scale `colours`.
    """
    columns = numbers.shape[1]
    text = [
        [f"{value:g}" if last is None or row * columns + column <= last else "" for column, value in enumerate(values)]
        for row, values in enumerate(numbers.tolist())
    ]
    place = {"x0": left + 0.5, "dx": 1, "y0": 0.5, "dy": 1, "xgap": 2, "ygap": 2}
    labels = {"text": text, "texttemplate": "%{text}", "textfont": {"size": 15, "color": INK}}
    heatmap = {"type": "heatmap", "z": colour_values.tolist(), "colorscale": colours, "showscale": False, "hoverinfo": "skip"}
    return {**heatmap, **place, **labels}


def box_trace(x: float, y: float, size: int, colour: str) -> Spec:
    """Return the outline of a square."""
    points = {"x": [x, x + size, x + size, x, x], "y": [y, y, y + size, y + size, y]}
    return {"type": "scatter", "mode": "lines", **points, "line": {"color": colour, "width": 4}, "hoverinfo": "skip"}


def text_trace(x: list[float], y: list[float], text: list[str], position: str, font: Spec) -> Spec:
    """Return texts at points; `position` is plotly's textposition."""
    texts = {"text": text, "textposition": position, "textfont": font}
    return {"type": "scatter", "mode": "text", "x": x, "y": y, **texts, "hoverinfo": "skip"}


def wrap_html(text: str, width: int) -> str:
    """Break a text into lines of at most `width` characters, for plotly on narrow screens."""
    return "<br>".join(textwrap.wrap(text, width))


def fields_spec(nets: Nets) -> Spec:
    """Return the interactive plot of receptive fields."""
    traces = []
    for i, (names, layers) in enumerate(group_alike(nets).items()):
        hover = "%{text}<br>receptive field %{y} pixels<extra></extra>"
        trace = marked_line_trace(wrap_html(names, 30), [layer.field or 0 for layer in layers], style(i), hover=hover)
        traces.append({**trace, "text": [f"{layer.name} {layer.settings} of {names}" for layer in layers]})
    layout = base_layout(height=520, x="convolution or pooling number", y="receptive field, pixels", legend=True)
    return {"data": traces, "layout": layout}


def layer_tables(nets: Nets) -> list[DataTable]:
    """Return a table with a line for each net, and tables of the layers of each."""
    head = ("layer", "settings", "output", "parameters", "stride", "receptive field")
    summary: list[list[str]] = []
    every_layer: list[list[str]] = []
    tables: list[DataTable] = []
    for name, (input_shape, layers) in nets.items():
        last = spatial_layers(layers)[-1]
        weighted = sum(layer.name.startswith(("conv", "fc")) for layer in layers)
        parameters = sum(layer.parameters for layer in layers)
        summary.append(
            [name, input_shape, str(weighted), f"{parameters:,}", "x".join(map(str, last.shape)), str(last.field), str(last.stride)]
        )
        rows = [layer_row(layer) for layer in layers]
        every_layer += [[name, *row] for row in rows]
        printed = len(nets) <= MAX_PRINTED
        tables.append(DataTable(f"{name} on {input_shape}", head, rows, terminal=printed, folded=not printed))
    columns = ("net", "input", "layers with weights", "parameters", "last feature map", "receptive field", "stride")
    every = DataTable("All layers of all nets", ("net", *head), every_layer, file="convolution.csv", terminal=False, folded=True)
    return [DataTable("Nets", columns, summary), *tables, every]


def layer_row(layer: LayerGeometry) -> list[str]:
    """Return the row of a layer."""
    return [
        layer.name,
        layer.settings,
        "x".join(map(str, layer.shape)),
        f"{layer.parameters:,}" if layer.parameters else "-",
        "-" if layer.stride is None else str(layer.stride),
        "entire image" if layer.field is None else str(layer.field),
    ]
