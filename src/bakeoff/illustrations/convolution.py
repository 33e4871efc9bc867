"""A filter that slides over an input, place by place, and what the layers of AlexNet and VGG make of an image."""

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
from bakeoff.illustrations import paper
from bakeoff.illustrations.choices import gathered
from bakeoff.illustrations.gallery import Request
from bakeoff.illustrations.receptive import Layer, layers, reached

PAPER = ("data=imagenet", "model.head=imagenet")
"""The nets in the form of their papers, which is drawn where neither data nor arguments of a net are named."""
SIZES = (224, 227)
SHOWN = 3  # nets whose whole tables the terminal prints


class Slide:
    """An input, a filter and their convolution, as torch computes it; whole numbers, the same each time."""

    def __init__(self, *, input: int, kernel: int, stride: int, pad: int) -> None:
        if kernel > input + 2 * pad:
            raise ConfigError(f"kernel={kernel}: must be at most input + 2 pad = {input + 2 * pad}")
        draws = seeds.make_generator(0, "probe")
        image = torch.randint(0, 3, (input, input), generator=draws).double()
        self.filter = torch.randint(-1, 2, (kernel, kernel), generator=draws).double()
        self.image = functional.pad(image, (pad, pad, pad, pad))
        self.output = functional.conv2d(image[None, None], self.filter[None, None], stride=stride, padding=pad)[0, 0]
        self.pad, self.stride, self.kernel = pad, stride, kernel
        side, left = reached(input, kernel=kernel, stride=stride, pad=pad)
        assert self.output.shape == (side, side), "the arithmetic is torch's"
        over = f" (rounded down: {left} of the last rows and columns are not reached)" if left else ""
        self.arithmetic = f"({input} - {kernel} + 2 x {pad}) / {stride} + 1 = {side}{over}"

    def window(self, place: int) -> tuple[int, int]:
        """Row and column of the window's corner in the padded input at an output place, counted row by row."""
        row, column = divmod(place, self.output.shape[1])
        return row * self.stride, column * self.stride

    def total(self, place: int) -> str:
        """The sum of one place in words."""
        row, column = self.window(place)
        seen = self.image[row : row + self.kernel, column : column + self.kernel]
        if self.kernel > 3:
            return f"sum of {self.kernel}x{self.kernel} products = {float((seen * self.filter).sum()):g}"
        parts = [
            f"{float(a):g}x{f'({float(b):g})' if b < 0 else f'{float(b):g}'}"
            for a, b in zip(seen.flatten(), self.filter.flatten(), strict=True)
        ]
        return f"{' + '.join(parts)} = {float((seen * self.filter).sum()):g}"


def draw(asked: Request) -> paper.Drawn:
    """The slide, the receptive fields of the nets, and their tables."""
    slide = Slide(**asked.options)
    base = () if "data" in asked.choices or asked.overrides else PAPER
    data = tuple(f"data={name}" for name in asked.choices.get("data", ()))
    activation = tuple(f"activation={name}" for name in asked.choices.get("activation", ()))
    if len(data) > 1 or len(activation) > 1:
        raise ConfigError("show convolution: one choice of data and one of activation, several of model")
    sized = any(word.startswith("data.size=") for word in asked.overrides)

    def made(run: RunConfig) -> tuple[RunConfig, list[Layer]]:
        if sized or not base:
            return run, layers(run)
        # The paper's AlexNet needs 227 pixels, all others take 224.
        first, *others = (run.replace(**{"data.size": size, "model": {**run.model, "size": size}}) for size in SIZES)
        try:
            return first, layers(first)
        except ChoiceError:
            return others[0], layers(others[0])

    found, skipped = gathered(asked, "model", made, base=(*base, *data, *activation))
    if not found:
        raise ChoiceError(f"show convolution: no net can be drawn; {skipped}")
    nets = {name: (f"{run.data.channels}x{run.data.size}x{run.data.size}", several) for name, (run, several) in found.items()}
    notes = [
        f"Output side: (input - kernel + 2 pad) / stride + 1 = {slide.arithmetic}. Each output is the sum of the products of the filter "
        "with the pixels under it; the same filter serves at every place.",
        "Receptive field: the side in pixels of what one output of a layer sees of the image, padding counted. Stride: pixels of the image "
        "between two neighbouring outputs. Both follow from the layers of the net as it is built, layer by layer.",
    ]
    plots = [paper.Plot("A filter slides over an input", slide_spec(slide), wide=True)]
    plots.append(paper.Plot("Receptive field by layer", fields_spec(nets), wide=True))
    return paper.Drawn("Convolution: what one output sees", notes, picture(slide, nets), plots, tables(nets), skipped)


Nets = dict[str, tuple[str, list[Layer]]]


def spatial(several: list[Layer]) -> list[Layer]:
    """The layers that have places: convolutions and poolings."""
    return [layer for layer in several if layer.field is not None and layer.name.startswith(("conv", "pool"))]


def alike(nets: Nets) -> dict[str, list[Layer]]:
    """The nets by their receptive fields: those that see the same, layer by layer, share one line and its name."""
    groups: dict[tuple[int | None, ...], list[str]] = {}
    for name, (_, several) in nets.items():
        groups.setdefault(tuple(layer.field for layer in spatial(several)), []).append(name)
    return {", ".join(names): spatial(nets[names[0]][1]) for names in groups.values()}


def picture(slide: Slide, nets: Nets) -> Figure:
    """The slide at its second place above, receptive fields below."""
    sheet = paper.sheet(9.0, 7.4)
    paper.head(sheet, "Convolution: what one output sees", f"output side: (input - kernel + 2 pad) / stride + 1 = {slide.arithmetic}")
    rows = sheet.add_gridspec(2, 1, height_ratios=[1, 1.05])
    axes = paper.quiet(sheet.add_subplot(rows[0]))
    axes.set_aspect("equal")
    place = min(1, slide.output.numel() - 1)
    row, column = slide.window(place)
    side, k, out = slide.image.shape[0], slide.kernel, slide.output.shape[0]
    at_filter, at_output = side + 1.2, side + k + 2.4
    cells(axes, slide.image, 0, inner=slide.pad)
    cells(axes, slide.filter, at_filter, colour="#dcebf7")
    cells(axes, slide.output, at_output, upto=place)
    axes.add_patch(Rectangle((column, row), k, k, facecolor=(0, 0.45, 0.7, 0.16), edgecolor=paper.BLUE, linewidth=2.4))
    corner = divmod(place, out)
    axes.add_patch(Rectangle((at_output + corner[1], corner[0]), 1, 1, fill=False, edgecolor=paper.ORANGE, linewidth=2.4))
    for x, word in ((0.0, "input" + (" with pad" if slide.pad else "")), (at_filter, "filter"), (at_output, "output")):
        axes.text(x, -0.25, word, fontsize=10, color=paper.SOFT, va="bottom")
    axes.text(0, side + 0.35, slide.total(place), fontsize=9, va="top")
    axes.set(xlim=(-0.2, at_output + max(out, 1) + 0.2), ylim=(side + 1.1, -0.9))
    below = sheet.add_subplot(rows[1])
    below.set_title("receptive field by layer, in pixels")
    below.grid(True)
    below.set_xlabel("convolution or pooling number")
    strokes = ("-", "--", ":", "-.")
    for i, (label, shown) in enumerate(alike(nets).items()):
        fields = [layer.field or 0 for layer in shown]
        colour, _, _ = paper.look(i)
        below.plot(
            range(1, len(fields) + 1),
            fields,
            color=colour,
            linestyle=strokes[i // 8 % 4],
            marker="o",
            markersize=3,
            label=textwrap.fill(label, 48),
        )
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    below.legend(loc="upper left", fontsize=8)
    return sheet


def cells(axes: Axes, values: Tensor, left: float, *, inner: int = 0, colour: str = "white", upto: int | None = None) -> None:
    """A grid of numbers; a border of `inner` cells is padding, and cells after number `upto` are still empty."""
    rows, columns = values.shape
    for row in range(rows):
        for column in range(columns):
            edge = not (inner <= row < rows - inner and inner <= column < columns - inner)
            face = "#e6e8ec" if edge else colour
            axes.add_patch(Rectangle((left + column, row), 1, 1, facecolor=face, edgecolor="#9aa0a8", linewidth=0.8))
            if upto is None or row * columns + column <= upto:
                number = f"{float(values[row, column]):g}"
                axes.text(left + column + 0.5, row + 0.5, number, ha="center", va="center", color=paper.SOFT if edge else paper.INK)


def slide_spec(slide: Slide) -> paper.Spec:
    """The animated plot: one frame for each place of the output."""
    side, k, out = slide.image.shape[0], slide.kernel, slide.output.shape[0]
    at_filter, at_output = side + 1, side + k + 2

    def grid(values: Tensor, left: int, text: list[list[str]], colours: Any) -> paper.Spec:
        return {
            "type": "heatmap", "z": values.tolist(), "x0": left + 0.5, "dx": 1, "y0": 0.5, "dy": 1, "text": text, "texttemplate": "%{text}",
            "colorscale": colours, "showscale": False, "xgap": 2, "ygap": 2, "hoverinfo": "skip",
            "textfont": {"size": 15, "color": paper.INK},
        }  # fmt: skip

    def words(values: Tensor, upto: int | None = None) -> list[list[str]]:
        wide = values.shape[1]
        return [
            [f"{float(v):g}" if upto is None or r * wide + c <= upto else "" for c, v in enumerate(row)] for r, row in enumerate(values)
        ]

    def box(x: float, y: float, size: int, colour: str) -> paper.Spec:
        return {
            "type": "scatter", "mode": "lines", "x": [x, x + size, x + size, x, x], "y": [y, y, y + size, y + size, y],
            "line": {"color": colour, "width": 4}, "hoverinfo": "skip",
        }  # fmt: skip

    padded = torch.ones_like(slide.image)
    if slide.pad:
        padded[slide.pad : -slide.pad, slide.pad : -slide.pad] = 0
    else:
        padded.zero_()
    plain, blue = [[0, "#f4f5f7"], [1, "#d8dbe1"]], [[0, "#dcebf7"], [1, "#dcebf7"]]

    def moving(place: int) -> list[paper.Spec]:
        row, column = slide.window(place)
        own_row, own_column = divmod(place, out)
        note = {
            "type": "scatter",
            "mode": "text",
            "x": [0],
            "y": [side + 0.1],
            "text": [broken(slide.total(place), 34)],
            "textposition": "bottom right",
        }
        return [
            grid(torch.zeros_like(slide.output), at_output, words(slide.output, place), plain),
            box(column, row, k, paper.BLUE),
            box(at_output + own_column, own_row, 1, paper.ORANGE),
            {**note, "textfont": {"size": 12}, "hoverinfo": "skip", "cliponaxis": False},
        ]

    still = [
        {**grid(padded, 0, words(slide.image), plain), "zmin": 0, "zmax": 1},
        grid(torch.zeros_like(slide.filter), at_filter, words(slide.filter), blue),
    ]
    titles = {
        "type": "scatter", "mode": "text", "x": [0, at_filter, at_output], "y": [-0.4] * 3, "text": ["input", "filter", "output"],
        "textposition": "middle right", "textfont": {"color": paper.SOFT, "size": 14}, "hoverinfo": "skip",
    }  # fmt: skip
    count = slide.output.numel()
    frames = [{"name": str(i), "data": moving(i), "traces": [3, 4, 5, 6]} for i in range(count)]
    look = paper.layout(height=440)
    look["xaxis"] |= {"visible": False, "range": [-0.2, at_output + out + 0.4], "constrain": "domain"}
    look["yaxis"] |= {"visible": False, "range": [side + 2, -1], "scaleanchor": "x", "constrain": "domain", "constraintoward": "top"}
    look |= paper.player(count, labels=[f"place {i + 1} of {count}" for i in range(count)], pause=900)
    look["margin"] |= {"l": 8, "r": 8}
    return {"data": [*still, titles, *moving(0)], "layout": look, "frames": frames}


def broken(text: str, width: int) -> str:
    """A text in lines of at most so many characters, as a plot breaks them: what a phone can show."""
    return "<br>".join(textwrap.wrap(text, width))


def fields_spec(nets: Nets) -> paper.Spec:
    """The interactive plot of receptive fields."""
    data = []
    for i, (name, shown) in enumerate(alike(nets).items()):
        colour, dash, marker = paper.look(i)
        data.append(
            {
                "type": "scatter", "mode": "lines+markers", "x": list(range(1, len(shown) + 1)), "y": [layer.field for layer in shown],
                "name": broken(name, 30), "line": {"color": colour, "dash": dash}, "marker": {"symbol": marker, "size": 7},
                "text": [f"{layer.name} {layer.settings} of {name}" for layer in shown],
                "hovertemplate": "%{text}<br>sees %{y} pixels<extra></extra>",
            }
        )  # fmt: skip
    return {"data": data, "layout": paper.layout(height=520, x="convolution or pooling number", y="receptive field, pixels", legend=True)}


def tables(nets: Nets) -> list[paper.Table]:
    """All nets in one line each, and every layer of each."""
    rows, everything = [], []
    for name, (size, several) in nets.items():
        last = spatial(several)[-1]
        weighted = sum(layer.name.startswith(("conv", "fc")) for layer in several)
        parameters = sum(layer.parameters for layer in several)
        rows.append([name, size, str(weighted), f"{parameters:,}", "x".join(map(str, last.shape)), str(last.field), str(last.stride)])
        everything += [[name, *line] for line in lines(several)]
    head = ("layer", "what", "output", "parameters", "stride", "receptive field")
    whole = ("net", "input", "layers with weights", "their parameters", "last map", "its receptive field", "its stride")
    found = [paper.Table("Nets", whole, rows)]
    for name, (size, several) in nets.items():
        few = len(nets) <= SHOWN
        found.append(paper.Table(f"{name} on {size}", head, lines(several), terminal=few, folded=not few))
    return [
        *found,
        paper.Table("Every layer of every net", ("net", *head), everything, file="convolution.csv", terminal=False, folded=True),
    ]


def lines(several: list[Layer]) -> list[list[str]]:
    """The rows of one net's table."""
    return [
        [
            layer.name, layer.settings, "x".join(map(str, layer.shape)), f"{layer.parameters:,}" if layer.parameters else "-",
            "-" if layer.stride is None else str(layer.stride), "whole image" if layer.field is None else str(layer.field),
        ]
        for layer in several
    ]  # fmt: skip
