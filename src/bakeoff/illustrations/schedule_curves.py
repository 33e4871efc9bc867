"""Every schedule's learning rate over a run, read from the optimizer at every step, with and without warm-up."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from bakeoff import builders
from bakeoff.components.schedulers import Plateau
from bakeoff.config.schema import RunConfig
from bakeoff.illustrations.gallery import Request
from bakeoff.illustrations.illustration import DataTable, Illustration, line_trace, titled_figure
from bakeoff.illustrations.slot_choices import build_choices
from bakeoff.rendering.page import Plot
from bakeoff.rendering.palette import BLUE, ORANGE, Style
from bakeoff.rendering.plotly_backend import Spec, base_layout

MAX_POINTS = 500  # of a line on a page; more would not be visible
STALL = 0.4  # share of the epochs after which the validation error is constant
TITLE = "Learning-rate schedules"


@dataclass(frozen=True)
class ScheduleCurves:
    """The rate of each step as a share of the optimizer's: without warm-up, and with it (None for a schedule without warm-up)."""

    plain: list[float]
    warm: list[float] | None

    @property
    def top(self) -> float:
        """The upper end of the vertical axis."""
        return 1.05 * max(1.0, *self.plain, *(self.warm or [0.0]))


def schedule_rates(run: RunConfig, *, steps: int, epochs: int) -> list[float]:
    """Return the rate at each step of an optimizer with the rate 1; the run's schedule is stepped as in training.

    After each epoch the schedule receives a validation error, which falls linearly until `STALL` of the epochs and is constant from
    there on, so that the plateau schedule drops the rate.
    """
    weight = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    steps_per_epoch = max(1, round(steps / epochs))
    schedule = builders.make_scheduler(run, optimizer, total_steps=steps, steps_per_epoch=steps_per_epoch)
    if isinstance(schedule, Plateau):
        schedule.waiting = False  # the error below falls from the start
    rates = []
    for step in range(steps):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        schedule.step()
        if (step + 1) % steps_per_epoch == 0 and hasattr(schedule, "epoch_end"):
            schedule.epoch_end(2.0 - min((step + 1) / steps, STALL) / STALL)
    return rates


def draw(request: Request) -> Illustration:
    """Draw one panel for each schedule."""
    steps, epochs, warmup = (request.options[name] for name in ("steps", "epochs", "warmup"))

    def build(run: RunConfig) -> ScheduleCurves:
        if "warmup" not in run.scheduler:
            return ScheduleCurves(schedule_rates(run, steps=steps, epochs=epochs), None)
        if run.scheduler["warmup"] and not any(override.startswith("scheduler.warmup=") for override in request.overrides):
            return ScheduleCurves(schedule_rates(run, steps=steps, epochs=epochs), None)
        has_own_warmup = any(override.startswith("scheduler.warmup=") for override in request.overrides)
        cold, warm = (run.replace(scheduler={**run.scheduler, "warmup": share}) for share in (0.0, warmup))
        plain = schedule_rates(run if has_own_warmup else cold, steps=steps, epochs=epochs)
        return ScheduleCurves(plain, schedule_rates(warm, steps=steps, epochs=epochs))

    schedules, skipped = build_choices(request, "scheduler", build)
    columns = min(3, len(schedules))
    rows = math.ceil(len(schedules) / columns)
    note = f"share of the optimizer's rate by step; dashed: with a warm-up of {warmup:g} of all steps"
    figure = titled_figure(max(5.0, 3.4 * columns), 2.1 * rows + 0.9, title=TITLE, note=note)
    for i, (name, curves) in enumerate(schedules.items()):
        axes = figure.add_subplot(rows, columns, i + 1)
        axes.set_title(name)
        axes.grid(True)
        axes.plot(curves.plain, color=BLUE, linewidth=1.8, drawstyle="steps-post")
        if curves.warm is not None:
            axes.plot(curves.warm, color=ORANGE, linewidth=1.6, linestyle=(0, (4, 2)), drawstyle="steps-post")
        axes.set(xlim=(0, steps), ylim=(0, curves.top))
    notes = [
        f"A run of {steps} steps with a validation every {max(1, round(steps / epochs))} steps. Blue: without warm-up, or with the value "
        f"of scheduler.warmup, as one_cycle has from the start. "
        f"Dashed orange: with a warm-up of {warmup:g} of all steps. The optimizer's rate is 1.",
        f"The validation error falls linearly until {STALL:.0%} of the run and is constant from there on: the plateau schedule drops the "
        "rate once its patience is exhausted.",
    ]
    plots = [Plot(str(i), rates_spec(curves, warmup), name) for i, (name, curves) in enumerate(schedules.items())]
    return Illustration(TITLE, notes, figure, plots, [rates_table(schedules)], skipped)


def rates_table(schedules: dict[str, ScheduleCurves]) -> DataTable:
    """Return a table of the rates at the first step, the quarters and the last step."""
    marks = {"first": 0.0, "1/4": 0.25, "1/2": 0.5, "3/4": 0.75, "last": 1.0}

    def marked(rates: list[float] | None) -> list[str]:
        return [f"{rates[round(share * (len(rates) - 1))]:.3g}" if rates is not None else "-" for share in marks.values()]

    rows = [[name, *marked(curves.plain), *marked(curves.warm)] for name, curves in schedules.items()]
    return DataTable("Rates", ("schedule", *marks, *(f"{mark}, warm" for mark in marks)), rows, file="schedules.csv")


def rates_spec(curves: ScheduleCurves, warmup: float) -> Spec:
    """Return the interactive plot of one schedule."""
    stride = max(1, len(curves.plain) // MAX_POINTS)
    lines = [("without warm-up", curves.plain, Style(BLUE))]
    if curves.warm is not None:
        lines.append((f"with warm-up {warmup:g}", curves.warm, Style(ORANGE, "dash")))
    layout = base_layout(height=270, x="step")
    layout["yaxis"]["range"] = [0, curves.top]
    layout["hovermode"] = "x unified"
    traces = [
        line_trace(name, list(range(0, len(rates), stride)), rates[::stride], style, hover="%{y:.3g}", shape="hv")
        for name, rates, style in lines
    ]
    return {"data": traces, "layout": layout}
