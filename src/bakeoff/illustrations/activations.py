"""Every activation as a curve, with its derivative from autograd and the regions where that is nothing or next to nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bakeoff import builders
from bakeoff.config.schema import RunConfig
from bakeoff.errors import ChoiceError
from bakeoff.illustrations import paper
from bakeoff.illustrations.choices import gathered
from bakeoff.illustrations.gallery import Request

HALF = 300  # points of the grid on either side of 0
POINTS = 2 * HALF + 1
FLAT = 0.05  # of the largest slope: tanh falls below it at |tanh| = 0.975, where 0.97 is the usual mark of saturation


@dataclass(frozen=True)
class Curve:
    """An activation on a grid: `inside` is the part of the name for one of several inputs; regions are (from, to) on the grid's ends."""

    z: Tensor
    value: Tensor
    slope: Tensor
    inside: str
    dead: list[tuple[float, float]]
    flat: list[tuple[float, float]]


def curves(activation: nn.Module, *, reach: float) -> list[Curve]:
    """One curve for each input of a unit (most have one), float64 on [-reach, reach]; the other inputs of the unit stay at 1.

    Random activations count as in evaluation, those that look at other channels too by their function of one unit (`pointwise`). The
    slope is autograd's, at a kink the one that training would use.
    """
    pointwise = getattr(activation, "pointwise", None)
    activation = (pointwise() if callable(pointwise) else activation).double().eval()
    inputs = int(getattr(activation, "expansion", 1))
    # 0, where activations have their kinks, is on the grid exactly.
    z = torch.arange(-HALF, HALF + 1, dtype=torch.float64) * (reach / HALF)
    found = []
    for i in range(inputs):
        batch = torch.ones(POINTS, inputs, dtype=torch.float64)
        batch[:, i] = z
        batch.requires_grad_()
        value = activation(batch)
        if value.shape != (POINTS, 1):
            shapes = f"{tuple(value.shape)} of {tuple(batch.shape)}"
            raise ChoiceError(f"activation: {type(activation).__name__} makes {shapes}: no curve of one input")
        (gradient,) = torch.autograd.grad(value.sum(), batch)
        slope = gradient[:, i]
        inside = f"input {i + 1} of {inputs}, else 1" if inputs > 1 else ""
        size = slope.abs()
        dead, flat = edges(z, size == 0), edges(z, size < FLAT * float(size.max()))
        found.append(Curve(z, value.detach()[:, 0], slope, inside, dead, [span for span in flat if span not in dead]))
    return found


def edges(z: Tensor, mask: Tensor) -> list[tuple[float, float]]:
    """The stretches of `mask` that reach an end of the grid, as (from, to); one that crosses zero in passing is none."""
    spans = []
    left = int((~mask).int().argmax()) if not bool(mask.all()) else len(z)
    right = int((~mask).int().flip(0).argmax()) if not bool(mask.all()) else 0
    if left > 1:
        spans.append((float(z[0]), float(z[left - 1])))
    if right > 1:
        spans.append((float(z[-right]), float(z[-1])))
    return spans


def draw(asked: Request) -> paper.Drawn:
    """Small multiples, one for each activation and input."""
    reach = asked.options["reach"]

    def made(run: RunConfig) -> list[Curve]:
        return curves(builders.make_activation(run)(), reach=reach)

    found, skipped = gathered(asked, "activation", made)
    panels = [(f"{name} ({curve.inside})" if curve.inside else name, curve) for name, several in found.items() for curve in several]
    if not panels:
        raise ChoiceError(f"show activations: none can be drawn; {skipped}")
    columns = min(5, len(panels))
    rows = math.ceil(len(panels) / columns)
    sheet = paper.sheet(max(5.5, 2.5 * columns), 2.25 * rows + 0.7)
    paper.head(
        sheet,
        "Activations and their derivatives",
        "solid: f(z); dashed: its derivative; grey: derivative 0 (dead); hatched: below 5 % of its largest (saturated)",
    )
    for i, (title, curve) in enumerate(panels):
        axes = sheet.add_subplot(rows, columns, i + 1)
        axes.set_title(title, fontsize=9 if len(title) < 24 else 7.5)
        axes.grid(True)
        for left, right in curve.dead:
            axes.axvspan(left, right, color="#c3c8d0", alpha=0.6, linewidth=0)
        for left, right in curve.flat:
            axes.axvspan(left, right, facecolor="#f0f1f4", edgecolor="#b4bac3", hatch="////", linewidth=0)
        axes.plot(curve.z, curve.slope, color=paper.ORANGE, linestyle=(0, (4, 2)), linewidth=1.5)
        axes.plot(curve.z, curve.value, color=paper.BLUE, linewidth=1.8)
        axes.set_xlim(-reach, reach)
        low, high = span(curve)
        axes.set_ylim(low, high)
    plots = [paper.Plot(title, spec(curve)) for title, curve in panels]
    notes = [
        "Blue: f(z). Orange, dashed: its derivative, from autograd. Point at a curve to read both.",
        "Grey: the derivative is exactly 0, so a unit there learns nothing (dead). Pale: it is below 5 % of its largest (saturated). Only "
        f"stretches that reach the end of the range {-reach:g} to {reach:g} are marked.",
    ]
    return paper.Drawn("Activations and their derivatives", notes, sheet, plots, [table(panels)], skipped)


def span(curve: Curve) -> tuple[float, float]:
    """A range of heights that shows the derivative whole and the function as far as it stays near."""
    low = min(float(curve.slope.min()), max(float(curve.value.min()), -3.0))
    high = max(float(curve.slope.max()), min(float(curve.value.max()), 3.0))
    room = 0.08 * max(high - low, 0.1)
    return low - room, high + room


def spec(curve: Curve) -> paper.Spec:
    """The interactive plot of one curve."""
    z = paper.numbers(curve.z)
    shapes = [
        {
            "type": "rect", "xref": "x", "yref": "paper", "x0": left, "x1": right, "y0": 0, "y1": 1, "layer": "below",
            "fillcolor": colour, "line": {"width": 0},
        }
        for spans, colour in ((curve.dead, "#d3d7dd"), (curve.flat, "#eef0f3")) for left, right in spans
    ]  # fmt: skip
    look = paper.layout(height=270, x="z")
    look["yaxis"]["range"] = list(span(curve))
    look |= {"shapes": shapes, "hovermode": "x unified"}
    lines = (("f(z)", curve.value, paper.BLUE, "solid"), ("derivative", curve.slope, paper.ORANGE, "dash"))
    return {
        "data": [
            {
                "type": "scatter", "mode": "lines", "x": z, "y": paper.numbers(values), "name": name,
                "line": {"color": colour, "dash": dash, "width": 2.4}, "hovertemplate": "%{y:.4g}",
            }
            for name, values, colour, dash in lines
        ],
        "layout": look,
    }  # fmt: skip


def table(panels: list[tuple[str, Curve]]) -> paper.Table:
    """Values and slopes at a few places, and the marked regions."""

    def at(values: Tensor, curve: Curve, z: float) -> str:
        return f"{float(values[int((curve.z - z).abs().argmin())]):.3g}"

    rows = [
        [
            title, at(curve.value, curve, 0.0), at(curve.slope, curve, 0.0), f"{float(curve.slope.max()):.3g}",
            f"{float(curve.value.min()):.3g} to {float(curve.value.max()):.3g}", spans(curve.dead), spans(curve.flat),
        ]
        for title, curve in panels
    ]  # fmt: skip
    head = ("activation", "f(0)", "slope at 0", "largest slope", "values", "dead", "saturated")
    return paper.Table("At a glance", head, rows, file="activations.csv")


def spans(found: list[tuple[float, float]]) -> str:
    """Regions in words."""
    return ", ".join(f"{left:.3g} to {right:.3g}" for left, right in found) or "none"
