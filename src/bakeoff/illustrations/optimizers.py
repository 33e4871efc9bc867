"""Paths of every optimizer over four surfaces, each at its own best learning rate, with the steps that it takes to come down."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from bakeoff.config.schema import RunConfig
from bakeoff.errors import ChoiceError, join_choices, near_miss
from bakeoff.illustrations import paper
from bakeoff.illustrations.choices import gathered
from bakeoff.illustrations.descent import Path, best, needs, rates
from bakeoff.illustrations.gallery import Request
from bakeoff.illustrations.surfaces import SURFACES, Surface

FRAMES = 40
LEVELS = 14
SIDE = 90  # points a side of the grid of a page's contours

FIRST = ("sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam")
"""Shown at once on a page that has many; the others wait for their button."""

GREYS = LinearSegmentedColormap.from_list("greys", ["#ffffff", "#a9afb8"])

Paths = dict[str, dict[str, Path]]


def draw(asked: Request) -> paper.Drawn:
    """Small multiples (a row of surfaces for each optimizer), one animated plot a surface, and the table of steps."""
    options = asked.options
    for name in options["surface"]:
        if name not in SURFACES:
            raise ChoiceError(f"surface={name}: no such surface{near_miss(name, SURFACES)}; surfaces: {join_choices(SURFACES)}")
    surfaces = {name: SURFACES[name] for name in options["surface"]}
    tolerances = sorted(options["tolerance"], reverse=True)
    tried = rates(options["rates"])

    def made(run: RunConfig) -> dict[str, Path]:
        reason = needs(run.optimizer)
        if reason:
            raise ChoiceError(f"optimizer: {reason}")
        if sys.stderr.isatty():
            print(f"\r{run.choices['optimizer']:<24}", end="", file=sys.stderr, flush=True)
        return {
            name: best(run, surface, steps=options["steps"], tolerance=tolerances[-1], tried=tried) for name, surface in surfaces.items()
        }

    paths, skipped = gathered(asked, "optimizer", made)
    if sys.stderr.isatty():
        print("\r" + " " * 24 + "\r", end="", file=sys.stderr, flush=True)
    if not paths:
        raise ChoiceError(f"show optimizers: none can be drawn; {skipped}")
    goal = f"{tolerances[-1]:g}"
    notes = [
        f"Each optimizer at its own best rate: of {len(tried)} between {tried[0]:g} and {tried[-1]:g}, the one that comes down to {goal} "
        f"of the first height above the floor in the fewest of {options['steps']} steps. Its other arguments are those of its file; weight "
        "decay is off (without it AdamW is Adam), the rate stays as it is (momentum_caffe is then momentum), and L-BFGS makes one "
        "iteration a step. No noise: these are gradients of the surface itself. Press a name to show or hide its path.",
        "A hollow ring is the start, a star the lowest point. A good path here says little of a net: a surface of two variables has none "
        "of a net's noise and width. The point is a 1 x 2 matrix, so that optimizers for matrices have one to work on.",
    ]
    plots = [paper.Plot(f"{name}: {surface.about}", spec(name, surface, paths), wide=True) for name, surface in surfaces.items()]
    return paper.Drawn(
        "Paths of the optimizers",
        notes,
        multiples(paths, surfaces, tolerances[-1]),
        plots,
        tables(paths, tolerances, tried),
        skipped,
        legend(paths),
    )


def multiples(paths: Paths, surfaces: dict[str, Surface], tolerance: float) -> Any:
    """One panel for each optimizer and surface; two optimizers beside each other where there are many."""
    blocks = 1 if len(paths) <= 6 else 2
    rows, wide = math.ceil(len(paths) / blocks), blocks * len(surfaces)
    sheet = paper.sheet(max(5.0, 2.05 * wide), 1.5 * rows + 1.0)
    paper.head(
        sheet,
        "Paths of the optimizers, each at its best rate",
        f"ring: start; star: lowest point; n: steps until the height stays below {tolerance:g} of the first",
    )
    for i, (title, by_surface) in enumerate(paths.items()):
        block, row = divmod(i, rows)
        for column, (name, surface) in enumerate(surfaces.items()):
            axes = sheet.add_subplot(rows, wide, row * wide + block * len(surfaces) + column + 1)
            panel(axes, surface, by_surface[name], tolerance)
            if row == 0:
                axes.set_title(name)
            if column == 0:
                axes.set_ylabel(title, fontsize=9 if len(title) < 14 else 6.5, color=paper.INK, fontweight="bold")
    return sheet


def field(surface: Surface, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, y and log10 of the height above the floor (plus a little), for contours that show both walls and valley."""
    left, right, low, high = surface.window
    x, y = torch.linspace(left, right, side, dtype=torch.float64), torch.linspace(low, high, side, dtype=torch.float64)
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    above = surface.height(grid_x, grid_y) - surface.floor
    return x.numpy(), y.numpy(), torch.log10(above + 1e-3 * float(above.median())).numpy()


def panel(axes: Axes, surface: Surface, one: Path, tolerance: float) -> None:
    """Contours and one path."""
    x, y, z = field(surface, 120)
    # As pixels in the SVG too: as shapes they are most of its bytes.
    axes.contourf(x, y, z, levels=LEVELS, cmap=GREYS).set_rasterized(True)
    axes.contour(x, y, z, levels=LEVELS, colors="white", linewidths=0.5, linestyles="solid").set_rasterized(True)
    points = np.array(one.points)
    axes.plot(points[:, 0], points[:, 1], color=paper.BLUE, linewidth=1.1, marker="o", markersize=1.6)
    axes.plot(*surface.start, marker="o", markersize=6, markerfacecolor="none", markeredgecolor=paper.INK)
    for lowest in surface.lowest:
        axes.plot(*lowest, marker="*", markersize=9, color=paper.ORANGE, markeredgecolor="white", markeredgewidth=0.5)
    axes.set(xlim=surface.window[:2], ylim=surface.window[2:], xticks=[], yticks=[])
    hit = one.first(tolerance)
    reached = f"n = {hit}" if hit is not None else ("diverges" if one.diverged else "not reached")
    box = {"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 1.2}
    axes.text(0.03, 0.04, f"{reached}, lr {one.rate:g}", transform=axes.transAxes, fontsize=7, bbox=box)


def moments(paths: Paths, name: str) -> list[int]:
    """Steps at which the animation stops, closer at the start: where most happens."""
    last = max(len(by_surface[name].points) for by_surface in paths.values()) - 1
    return sorted({0, last, *(round(last ** (i / (FRAMES - 1))) for i in range(FRAMES))})


def spec(name: str, surface: Surface, paths: Paths) -> paper.Spec:
    """The animated plot of one surface: contours, and a growing line for each optimizer."""
    x, y, z = field(surface, SIDE)
    steps = moments(paths, name)
    base = [
        {
            "type": "contour", "x": paper.numbers(x, digits=4), "y": paper.numbers(y, digits=4), "ncontours": LEVELS, "showscale": False,
            "z": [paper.numbers(row, digits=3) for row in z], "colorscale": [[0, "#ffffff"], [1, "#b9bec6"]], "hoverinfo": "skip",
            "line": {"color": "#ffffff", "width": 0.6},
        },
        {
            "type": "scatter", "mode": "markers", "x": [spot[0] for spot in (surface.start, *surface.lowest)], "showlegend": False,
            "y": [spot[1] for spot in (surface.start, *surface.lowest)], "hoverinfo": "text",
            "text": ["start", *["lowest point"] * len(surface.lowest)],
            "marker": {"symbol": ["circle-open", *["star"] * len(surface.lowest)], "size": 14, "color": paper.INK},
        },
    ]  # fmt: skip
    lines = [trace(one, paths[one.name][name], steps) for one in legend(paths)]
    paths = {one.name: paths[one.name] for one in legend(paths)}
    frames = []
    for place in range(len(steps)):
        parts = []
        for by_surface in paths.values():
            last = len(by_surface[name].points) - 1
            kept = [by_surface[name].points[k] for k in steps[: place + 1] if k <= last]
            ends = ["circle"] * len(kept)
            parts.append(
                {
                    "x": paper.numbers([spot[0] for spot in kept], digits=4), "y": paper.numbers([spot[1] for spot in kept], digits=4),
                    "marker": {"size": [3] * (len(ends) - 1) + [11]},
                }
            )  # fmt: skip
        frames.append({"name": str(place), "data": parts, "traces": list(range(2, 2 + len(parts)))})
    look = paper.layout(height=540)
    left, right, low, high = surface.window
    look["xaxis"] |= {"range": [left, right], "showgrid": False, "zeroline": False}
    look["yaxis"] |= {"range": [low, high], "showgrid": False, "zeroline": False}
    look |= paper.player(len(steps), labels=[f"step {step}" for step in steps], pause=120)
    look["margin"]["b"] = 40
    return {"data": [*base, *lines], "layout": look, "frames": frames}


def legend(paths: Paths) -> list[paper.Entry]:
    """The optimizers of the page, those that are shown at once before the others and in colours of their own."""
    many = len(paths) > len(FIRST) and set(FIRST) <= set(paths)
    titles = sorted(paths, key=lambda title: (title not in FIRST, title)) if many else list(paths)
    return [paper.Entry(title, *paper.look(i)[:2], not many or title in FIRST) for i, title in enumerate(titles)]


def trace(entry: paper.Entry, one: Path, steps: list[int]) -> paper.Spec:
    """The whole line of one optimizer, as it stands before the animation is started."""
    kept = [one.points[k] for k in steps if k < len(one.points)]
    return {
        "type": "scatter", "mode": "lines+markers", "name": entry.name, "x": paper.numbers([spot[0] for spot in kept], digits=4),
        "y": paper.numbers([spot[1] for spot in kept], digits=4), "line": {"color": entry.colour, "dash": entry.dash, "width": 2},
        "marker": {"size": [3] * (len(kept) - 1) + [11], "opacity": 1, "color": entry.colour, "line": {"color": "#fff", "width": 0.5}},
        "visible": entry.shown,
        "hovertemplate": f"{entry.name}, lr {one.rate:g}: %{{x:.3g}}, %{{y:.3g}}<extra></extra>",
    }  # fmt: skip


def tables(paths: Paths, tolerances: list[float], tried: list[float]) -> list[paper.Table]:
    """Steps to the strictest tolerance for the terminal, and all of them, with rates and ends, as CSV."""
    names = list(next(iter(paths.values())))
    short = []
    for title, by_surface in paths.items():
        cells = []
        for name in names:
            one = by_surface[name]
            edge = " (edge)" if one.rate in (tried[0], tried[-1]) else ""
            cells += [told(one, tolerances[-1]), f"{one.rate:g}{edge}"]
        short.append([title, *cells])
    head = ("optimizer", *(word for name in names for word in (name, "lr")))
    long = [
        [title, name, f"{one.rate:g}", *(told(one, tolerance) for tolerance in tolerances)]
        for title, by_surface in paths.items() for name, one in by_surface.items()
    ]  # fmt: skip
    wide = ("optimizer", "surface", "lr", *(f"steps to {tolerance:g}" for tolerance in tolerances))
    return [
        paper.Table(f"Steps to {tolerances[-1]:g} of the first height; lr: the best rate (edge: of those tried, the last)", head, short),
        paper.Table("Every tolerance", wide, long, file="optimizers.csv", terminal=False, folded=True),
    ]


def told(one: Path, tolerance: float) -> str:
    """Steps to a tolerance in words."""
    hit = one.first(tolerance)
    return str(hit) if hit is not None else ("diverges" if one.diverged else f"> {len(one.points) - 1}")
