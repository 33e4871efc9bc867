"""Every activation as a curve, with its derivative from autograd and the regions where that is zero or nearly zero."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from matplotlib.axes import Axes
from torch import Tensor, nn

from bakeoff import builders
from bakeoff.config.schema import RunConfig
from bakeoff.errors import ChoiceError
from bakeoff.illustrations.gallery import Request
from bakeoff.illustrations.illustration import DataTable, Illustration, line_trace, titled_figure
from bakeoff.illustrations.slot_choices import build_choices
from bakeoff.rendering.page import Plot
from bakeoff.rendering.palette import BLUE, ORANGE, Style
from bakeoff.rendering.plotly_backend import Spec, base_layout, rounded

HALF = 300  # points of the grid on either side of 0
POINTS = 2 * HALF + 1
FLAT = 0.05  # of the largest slope: for tanh this is |tanh| > 0.975; saturation is usually defined as > 0.97
TITLE = "Activations and their derivatives"

Region = tuple[float, float]
"""(from, to)."""


@dataclass(frozen=True)
class ActivationCurve:
    """An activation on a grid.

    Attributes:
        z: The inputs, float64 `(POINTS,)`.
        value: The activation at each input.
        slope: Its derivative at each input.
        input_label: Which input varies; '' for a unit with a single input.
        dead: Regions at the ends of the grid where the derivative is zero.
        flat: Regions at the ends of the grid where it is almost zero and falls outwards.
    """

    z: Tensor
    value: Tensor
    slope: Tensor
    input_label: str
    dead: list[Region]
    flat: list[Region]

    @property
    def height_range(self) -> tuple[float, float]:
        """The range of heights that shows the full derivative, and the function within -3 to 3."""
        low = min(float(self.slope.min()), max(float(self.value.min()), -3.0))
        high = max(float(self.slope.max()), min(float(self.value.max()), 3.0))
        margin = 0.08 * max(high - low, 0.1)
        return low - margin, high + margin


Panels = list[tuple[str, ActivationCurve]]


def activation_curves(activation: nn.Module, *, reach: float) -> list[ActivationCurve]:
    """Evaluate an activation on [-reach, reach], once for each input of a unit (most have one) with the others at 1.

    Random activations are in evaluation mode; those that depend on other channels are replaced by their function of a single unit
    (`pointwise`). At a kink the slope is the one that training uses.

    Raises:
        ChoiceError: The activation is not a function of single units.
    """
    pointwise = getattr(activation, "pointwise", None)
    activation = (pointwise() if callable(pointwise) else activation).double().eval()
    inputs = int(getattr(activation, "expansion", 1))
    # 0, where activations have their kinks, is on the grid exactly.
    z = torch.arange(-HALF, HALF + 1, dtype=torch.float64) * (reach / HALF)
    curves = []
    for i in range(inputs):
        batch = torch.ones(POINTS, inputs, dtype=torch.float64)
        batch[:, i] = z
        batch.requires_grad_()
        value = activation(batch)
        if value.shape != (POINTS, 1):
            shapes = f"{tuple(batch.shape)} to {tuple(value.shape)}"
            raise ChoiceError(f"activation: {type(activation).__name__} maps {shapes}, which cannot be drawn as curves")
        (gradient,) = torch.autograd.grad(value.sum(), batch)
        slope = gradient[:, i]
        label = f"input {i + 1} of {inputs}, others 1" if inputs > 1 else ""
        steepness = slope.abs()
        dead, flat = end_regions(z, steepness == 0), end_regions(z, steepness < FLAT * float(steepness.max()))
        # A slope that is small but does not fall any further, as that of leaky ReLU, lets a unit come back from anywhere.
        falling = [falls_outwards(z, steepness, region) for region in flat]
        saturated = [region for region, falls in zip(flat, falling, strict=True) if falls and region not in dead]
        curves.append(ActivationCurve(z, value.detach()[:, 0], slope, label, dead, saturated))
    return curves


def end_regions(z: Tensor, mask: Tensor) -> list[Region]:
    """Return the regions of `mask` that reach an end of the grid `z`; zeros in between are left out."""
    everywhere = bool(mask.all())
    left = len(z) if everywhere else int((~mask).int().argmax())
    right = 0 if everywhere else int((~mask).int().flip(0).argmax())
    regions = []
    if left > 1:
        regions.append((float(z[0]), float(z[left - 1])))
    if right > 1:
        regions.append((float(z[-right]), float(z[-1])))
    return regions


def falls_outwards(z: Tensor, steepness: Tensor, region: Region) -> bool:
    """Return whether the steepness is smaller at the end of the grid than at the inner end of a region."""
    left, right = (int((z - edge).abs().argmin()) for edge in region)
    outer, inner = (left, right) if left == 0 else (right, left)
    return bool(steepness[outer] < (1 - 1e-6) * steepness[inner])


def draw(request: Request) -> Illustration:
    """Draw one panel for each activation and input."""
    reach = request.options["reach"]

    def build(run: RunConfig) -> list[ActivationCurve]:
        return activation_curves(builders.make_activation(run)(), reach=reach)

    curves_by_name, skipped = build_choices(request, "activation", build)
    panels: Panels = [
        (f"{name} ({curve.input_label})" if curve.input_label else name, curve)
        for name, curves in curves_by_name.items()
        for curve in curves
    ]
    columns = min(5, len(panels))
    rows = math.ceil(len(panels) / columns)
    note = "solid: f(z); dashed: its derivative; grey: derivative 0 (dead); hatched: below 5 % of its maximum and falling (saturated)"
    figure = titled_figure(max(5.5, 2.5 * columns), 2.25 * rows + 0.7, title=TITLE, note=note)
    for i, (title, curve) in enumerate(panels):
        draw_panel(figure.add_subplot(rows, columns, i + 1), title, curve)
    plots = [Plot(str(i), curve_spec(curve), title) for i, (title, curve) in enumerate(panels)]
    notes = [
        "Blue: f(z). Dashed orange: its derivative, computed by autograd. Point at a curve to read both.",
        "Grey: the derivative is exactly 0, so a unit there does not learn (dead). Pale: it is below 5 % of its maximum and falls further "
        f"(saturated). Only regions that extend to the end of the range {-reach:g} to {reach:g} are marked.",
    ]
    return Illustration(TITLE, notes, figure, plots, [curve_table(panels)], skipped)


def draw_panel(axes: Axes, title: str, curve: ActivationCurve) -> None:
    """Draw one curve, its derivative and the marked regions."""
    axes.set_title(title, fontsize=9 if len(title) < 24 else 7.5)
    axes.grid(True)
    for left, right in curve.dead:
        axes.axvspan(left, right, color="#c3c8d0", alpha=0.6, linewidth=0)
    for left, right in curve.flat:
        axes.axvspan(left, right, facecolor="#f0f1f4", edgecolor="#b4bac3", hatch="////", linewidth=0)
    axes.plot(curve.z, curve.slope, color=ORANGE, linestyle=(0, (4, 2)), linewidth=1.5)
    axes.plot(curve.z, curve.value, color=BLUE, linewidth=1.8)
    axes.set(xlim=(float(curve.z[0]), float(curve.z[-1])), ylim=curve.height_range)


def curve_spec(curve: ActivationCurve) -> Spec:
    """Return the interactive plot of one curve."""
    frame = {"type": "rect", "xref": "x", "yref": "paper", "y0": 0, "y1": 1, "layer": "below", "line": {"width": 0}}
    regions = [(region, "#d3d7dd") for region in curve.dead] + [(region, "#eef0f3") for region in curve.flat]
    layout = base_layout(height=270, x="z")
    layout["yaxis"]["range"] = list(curve.height_range)
    layout["shapes"] = [{**frame, "x0": left, "x1": right, "fillcolor": colour} for (left, right), colour in regions]
    layout["hovermode"] = "x unified"
    lines = (("f(z)", curve.value, Style(BLUE)), ("derivative", curve.slope, Style(ORANGE, "dash")))
    traces = [line_trace(name, rounded(curve.z), values, style) for name, values, style in lines]
    return {"data": traces, "layout": layout}


def curve_table(panels: Panels) -> DataTable:
    """Return a table of values, slopes and marked regions."""
    rows = []
    for title, curve in panels:
        at_zero = int(curve.z.abs().argmin())
        values = f"{float(curve.value.min()):.3g} to {float(curve.value.max()):.3g}"
        slopes = (f"{float(slope):.3g}" for slope in (curve.slope[at_zero], curve.slope.max()))
        rows.append([title, f"{float(curve.value[at_zero]):.3g}", *slopes, values, format_regions(curve.dead), format_regions(curve.flat)])
    head = ("activation", "f(0)", "slope at 0", "largest slope", "values", "dead", "saturated")
    return DataTable("Summary", head, rows, file="activations.csv")


def format_regions(regions: list[Region]) -> str:
    """Return regions as text: `-6 to 0`."""
    return ", ".join(f"{left:.3g} to {right:.3g}" for left, right in regions) or "none"
