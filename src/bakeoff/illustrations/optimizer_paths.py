"""Paths of every optimizer on four surfaces, each at its best learning rate, with the steps to reach the minimum."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from bakeoff.config.schema import RunConfig
from bakeoff.errors import ChoiceError, join_choices, near_miss, printable
from bakeoff.illustrations.descent_paths import DescentPath, best_path, candidate_rates
from bakeoff.illustrations.gallery import Request
from bakeoff.illustrations.illustration import DataTable, Illustration, titled_figure
from bakeoff.illustrations.slot_choices import build_choices
from bakeoff.illustrations.surfaces import SURFACES, Surface
from bakeoff.rendering.page import LegendEntry, Plot
from bakeoff.rendering.palette import BLUE, INK, ORANGE, style
from bakeoff.rendering.plotly_backend import Spec, base_layout, player, rounded

FRAMES = 40
LEVELS = 14
CONTOUR_POINTS = 90  # per side of the grid of a page's contours

SHOWN_FIRST = ("sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam")
"""Optimizers that a page with many shows at first; buttons show the others."""

GREYS = LinearSegmentedColormap.from_list("greys", ["#ffffff", "#a9afb8"])

PathsByOptimizer = dict[str, dict[str, DescentPath]]
"""Optimizer -> surface -> path."""


def draw(request: Request) -> Illustration:
    """Draw a row of surfaces for each optimizer, one animated plot for each surface, and the table of steps."""
    options = request.options
    for name in options["surface"]:
        if name not in SURFACES:
            raise ChoiceError(f"surface={name}: no such surface{near_miss(name, SURFACES)}; surfaces: {join_choices(SURFACES)}")
    surfaces = {name: SURFACES[name] for name in options["surface"]}
    tolerances, steps = sorted(options["tolerance"], reverse=True), options["steps"]
    rates = candidate_rates(options["rates"])

    def build(run: RunConfig) -> dict[str, DescentPath]:
        if "lr" not in run.optimizer:
            raise ChoiceError("optimizer: it has no argument lr to choose")
        if sys.stderr.isatty():
            print(f"\r{printable(run.choices['optimizer']):<24}", end="", file=sys.stderr, flush=True)
        return {name: best_path(run, surface, steps=steps, tolerance=tolerances[-1], rates=rates) for name, surface in surfaces.items()}

    paths, skipped = build_choices(request, "optimizer", build)
    if sys.stderr.isatty():
        print("\r" + " " * 24 + "\r", end="", file=sys.stderr, flush=True)
    notes = [
        f"Each optimizer uses its best learning rate: of {len(rates)} rates from {rates[0]:g} to {rates[-1]:g}, the one whose path falls "
        f"to {tolerances[-1]:g} of the initial height above the minimum in the fewest steps, at most {steps}. Other arguments are those of "
        "its file; weight decay is off (AdamW is then Adam), the rate is constant (momentum_caffe is then momentum), and L-BFGS makes one "
        "iteration per step. Gradients are exact, without noise. Press a name to show or hide its path.",
        "A ring marks the start, a star a minimum. A good path on a surface of two variables says little about training a net, which has "
        "noise and many dimensions. The point is a 1 x 2 matrix, so that optimizers for matrices apply.",
    ]
    plots = [Plot(name, surface_spec(name, surface, paths), f"{name}: {surface.about}", wide=True) for name, surface in surfaces.items()]
    figure = draw_figure(paths, surfaces, tolerances[-1])
    return Illustration("Paths of the optimizers", notes, figure, plots, step_tables(paths, tolerances, rates), skipped, legend(paths))


def draw_figure(paths: PathsByOptimizer, surfaces: dict[str, Surface], tolerance: float) -> Figure:
    """Draw a panel for each optimizer and surface, with the steps to `tolerance`; many optimizers are drawn in two columns."""
    blocks = 1 if len(paths) <= 6 else 2
    rows, columns = math.ceil(len(paths) / blocks), blocks * len(surfaces)
    note = f"ring: start; star: minimum; n: steps until the height stays below {tolerance:g} of the initial height"
    title = "Paths of the optimizers, each at its best rate"
    figure = titled_figure(max(5.0, 2.05 * columns), 1.5 * rows + 1.0, title=title, note=note)
    for i, (optimizer, path_by_surface) in enumerate(paths.items()):
        block, row = divmod(i, rows)
        for column, (name, surface) in enumerate(surfaces.items()):
            axes = figure.add_subplot(rows, columns, row * columns + block * len(surfaces) + column + 1)
            draw_panel(axes, surface, path_by_surface[name], tolerance)
            if row == 0:
                axes.set_title(name)
            if column == 0:
                axes.set_ylabel(optimizer, fontsize=9 if len(optimizer) < 14 else 6.5, color=INK, fontweight="bold")
    return figure


def log_heights(surface: Surface, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return x, y and log10 of the height above the minimum plus a small constant, so that contours show both walls and valley."""
    left, right, low, high = surface.window
    x, y = torch.linspace(left, right, side, dtype=torch.float64), torch.linspace(low, high, side, dtype=torch.float64)
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    heights = surface.height(grid_x, grid_y) - surface.floor
    return x.numpy(), y.numpy(), torch.log10(heights + 1e-3 * float(heights.median())).numpy()


def draw_panel(axes: Axes, surface: Surface, path: DescentPath, tolerance: float) -> None:
    """Draw contours and one path."""
    x, y, z = log_heights(surface, 120)
    # Pixels in the SVG too, where shapes would be most of its size.
    axes.contourf(x, y, z, levels=LEVELS, cmap=GREYS).set_rasterized(True)
    axes.contour(x, y, z, levels=LEVELS, colors="white", linewidths=0.5, linestyles="solid").set_rasterized(True)
    points = np.array(path.points)
    axes.plot(points[:, 0], points[:, 1], color=BLUE, linewidth=1.1, marker="o", markersize=1.6)
    axes.plot(*surface.start, marker="o", markersize=6, markerfacecolor="none", markeredgecolor=INK)
    for lowest in surface.lowest:
        axes.plot(*lowest, marker="*", markersize=9, color=ORANGE, markeredgecolor="white", markeredgewidth=0.5)
    axes.set(xlim=surface.window[:2], ylim=surface.window[2:], xticks=[], yticks=[])
    steps = path.steps_to(tolerance)
    result = f"n = {steps}" if steps is not None else ("diverges" if path.diverged else "not reached")
    box = {"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 1.2}
    axes.text(0.03, 0.04, f"{result}, lr {path.rate:g}", transform=axes.transAxes, fontsize=7, bbox=box)


def frame_steps(paths: PathsByOptimizer, surface: str) -> list[int]:
    """Return the steps of the animation's frames, which are denser at the start."""
    last = max(len(path_by_surface[surface].points) for path_by_surface in paths.values()) - 1
    return sorted({0, last, *(round(last ** (i / (FRAMES - 1))) for i in range(FRAMES))})


def surface_spec(name: str, surface: Surface, paths: PathsByOptimizer) -> Spec:
    """Return the animated plot of one surface: contours, and a growing line for each optimizer."""
    steps, entries = frame_steps(paths, name), legend(paths)
    shown_paths = [paths[entry.name][name] for entry in entries]
    lines = [
        {
            **path_points(path, steps),
            "type": "scatter",
            "mode": "lines+markers",
            "name": entry.name,
            "line": {"color": entry.style.colour, "dash": entry.style.dash, "width": 2},
            "visible": entry.shown,
            "hovertemplate": f"{entry.name}, lr {path.rate:g}: %{{x:.3g}}, %{{y:.3g}}<extra></extra>",
        }
        for entry, path in zip(entries, shown_paths, strict=True)
    ]
    for line, entry in zip(lines, entries, strict=True):
        line["marker"] |= {"opacity": 1, "color": entry.style.colour, "line": {"color": "#fff", "width": 0.5}}
    frames = [
        {
            "name": str(frame),
            "data": [path_points(path, steps[: frame + 1]) for path in shown_paths],
            "traces": list(range(2, 2 + len(shown_paths))),
        }
        for frame in range(len(steps))
    ]
    layout = base_layout(height=540)
    left, right, low, high = surface.window
    layout["xaxis"] |= {"range": [left, right], "showgrid": False, "zeroline": False}
    layout["yaxis"] |= {"range": [low, high], "showgrid": False, "zeroline": False}
    layout |= player([f"step {step}" for step in steps], pause=120)
    layout["margin"]["b"] = 40
    return {"data": [*surface_traces(surface), *lines], "layout": layout, "frames": frames}


def surface_traces(surface: Surface) -> list[Spec]:
    """Return the contours, and the marks of the start and the minima."""
    x, y, z = log_heights(surface, CONTOUR_POINTS)
    spots = (surface.start, *surface.lowest)
    contours = {
        "type": "contour",
        "x": rounded(x, digits=4),
        "y": rounded(y, digits=4),
        "z": [rounded(row, digits=3) for row in z],
        "ncontours": LEVELS,
        "showscale": False,
        "colorscale": [[0, "#ffffff"], [1, "#b9bec6"]],
        "hoverinfo": "skip",
        "line": {"color": "#ffffff", "width": 0.6},
    }
    marks = {
        "type": "scatter",
        "mode": "markers",
        "x": [spot[0] for spot in spots],
        "y": [spot[1] for spot in spots],
        "showlegend": False,
        "hoverinfo": "text",
        "text": ["start", *["minimum"] * len(surface.lowest)],
        "marker": {"symbol": ["circle-open", *["star"] * len(surface.lowest)], "size": 14, "color": INK},
    }
    return [contours, marks]


def path_points(path: DescentPath, steps: list[int]) -> dict[str, Any]:
    """Return the points of a path at the steps, as far as it goes, with a larger last point."""
    points = [path.points[step] for step in steps if step < len(path.points)]
    return {
        "x": rounded([x for x, _ in points], digits=4),
        "y": rounded([y for _, y in points], digits=4),
        "marker": {"size": [3] * (len(points) - 1) + [11]},
    }


def legend(paths: PathsByOptimizer) -> list[LegendEntry]:
    """Return the optimizers of the page; those that are shown at first come first and have distinct colours."""
    many = len(paths) > len(SHOWN_FIRST) and set(SHOWN_FIRST) <= set(paths)
    names = sorted(paths, key=lambda name: (name not in SHOWN_FIRST, name)) if many else list(paths)
    return [LegendEntry(name, style(i), not many or name in SHOWN_FIRST) for i, name in enumerate(names)]


def step_tables(paths: PathsByOptimizer, tolerances: list[float], rates: list[float]) -> list[DataTable]:
    """Return a table of the steps to the strictest tolerance for the terminal, and one of the steps to all tolerances as CSV."""
    surfaces = list(next(iter(paths.values())))
    strictest, every = [], []
    for optimizer, path_by_surface in paths.items():
        cells = []
        for surface, path in path_by_surface.items():
            at_edge = " (edge)" if path.rate in (rates[0], rates[-1]) else ""
            cells += [format_steps(path, tolerances[-1]), f"{path.rate:g}{at_edge}"]
            every.append([optimizer, surface, f"{path.rate:g}", *(format_steps(path, tolerance) for tolerance in tolerances)])
        strictest.append([optimizer, *cells])
    title = f"Steps to {tolerances[-1]:g} of the initial height; lr: the best rate (edge: the smallest or largest rate tried)"
    columns = ("optimizer", "surface", "lr", *(f"steps to {tolerance:g}" for tolerance in tolerances))
    return [
        DataTable(title, ("optimizer", *(column for surface in surfaces for column in (surface, "lr"))), strictest),
        DataTable("All tolerances", columns, every, file="optimizers.csv", terminal=False, folded=True),
    ]


def format_steps(path: DescentPath, tolerance: float) -> str:
    """Return the steps to a tolerance as text."""
    steps = path.steps_to(tolerance)
    return str(steps) if steps is not None else ("diverges" if path.diverged else f"> {len(path.points) - 1}")
