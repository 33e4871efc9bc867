"""Every schedule's learning rate over a run, as the optimizer has it step by step, with and without warm-up."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from bakeoff import builders
from bakeoff.config.schema import RunConfig
from bakeoff.errors import ChoiceError
from bakeoff.illustrations import paper
from bakeoff.illustrations.choices import gathered
from bakeoff.illustrations.gallery import Request

POINTS = 500  # of a line on a page; more cannot be seen
STALL = 0.4  # share of the epochs after which the loss that is told to the schedule falls no further


@dataclass(frozen=True)
class Rates:
    """The rate of each step as a share of the optimizer's own: without warm-up, and with it (None for a schedule that takes none)."""

    plain: list[float]
    warm: list[float] | None


def rates(run: RunConfig, *, steps: int, epochs: int) -> list[float]:
    """The optimizer's rate at each step, its own being 1; the schedule is stepped as in training, and told a loss after each epoch.

    That loss, or error, falls evenly until `STALL` of the epochs and then stays: what a schedule that watches it (plateau) acts on.
    """
    weight = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    each = max(1, round(steps / epochs))
    schedule = builders.make_scheduler(run, optimizer, total_steps=steps, steps_per_epoch=each)
    found = []
    for step in range(steps):
        found.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        schedule.step()
        if (step + 1) % each == 0 and hasattr(schedule, "epoch_end"):
            share = (step + 1) / steps
            schedule.epoch_end(2.0 - min(share, STALL) / STALL)
    return found


def draw(asked: Request) -> paper.Drawn:
    """Small multiples, one for each schedule."""
    steps, epochs, warmup = (asked.options[name] for name in ("steps", "epochs", "warmup"))

    def made(run: RunConfig) -> Rates:
        if "warmup" not in run.scheduler:
            return Rates(rates(run, steps=steps, epochs=epochs), None)
        told = any(word.startswith("scheduler.warmup=") for word in asked.overrides)
        cold, warm = (run.replace(scheduler={**run.scheduler, "warmup": share}) for share in (0.0, warmup))
        return Rates(rates(run if told else cold, steps=steps, epochs=epochs), rates(warm, steps=steps, epochs=epochs))

    found, skipped = gathered(asked, "scheduler", made)
    if not found:
        raise ChoiceError(f"show schedules: none can be drawn; {skipped}")
    columns = min(3, len(found))
    rows = math.ceil(len(found) / columns)
    sheet = paper.sheet(max(5.0, 3.4 * columns), 2.1 * rows + 0.9)
    paper.head(
        sheet, "Learning-rate schedules", f"share of the optimizer's rate by step; dashed: with a warm-up of {warmup:g} of all steps"
    )
    for i, (title, both) in enumerate(found.items()):
        axes = sheet.add_subplot(rows, columns, i + 1)
        axes.set_title(title)
        axes.grid(True)
        axes.plot(both.plain, color=paper.BLUE, linewidth=1.8, drawstyle="steps-post")
        if both.warm is not None:
            axes.plot(both.warm, color=paper.ORANGE, linewidth=1.6, linestyle=(0, (4, 2)), drawstyle="steps-post")
        axes.set_ylim(0, 1.05 * max(1.0, *both.plain, *(both.warm or [0.0])))
        axes.set_xlim(0, steps)
    notes = [
        f"A run of {steps} steps with a validation every {max(1, round(steps / epochs))}. Blue: without warm-up, or "
        f"with the scheduler.warmup that was asked for. Orange, dashed: with a warm-up of {warmup:g} of all steps. The optimizer's is 1.",
        f"The validation error that the schedules are told falls evenly until {STALL:.0%} of the run and then stays: the plateau schedule "
        "waits its patience and drops.",
    ]
    rows_of = [[title, *at(both.plain), *(at(both.warm) if both.warm is not None else ["-"] * 5)] for title, both in found.items()]
    marks = ("first", "1/4", "1/2", "3/4", "last")
    table = paper.Table("Rates", ("schedule", *marks, *(f"{mark}, warm" for mark in marks)), rows_of, file="schedules.csv")
    plots = [paper.Plot(title, spec(both, warmup)) for title, both in found.items()]
    return paper.Drawn("Learning-rate schedules", notes, sheet, plots, [table], skipped)


def at(values: list[float]) -> list[str]:
    """The rate at the first step, the quarters and the last step."""
    last = len(values) - 1
    return [f"{values[round(share * last)]:.3g}" for share in (0, 0.25, 0.5, 0.75, 1)]


def spec(both: Rates, warmup: float) -> paper.Spec:
    """The interactive plot of one schedule."""
    every = max(1, len(both.plain) // POINTS)
    lines = [("without warm-up", both.plain, paper.BLUE, "solid")]
    if both.warm is not None:
        lines.append((f"with warm-up {warmup:g}", both.warm, paper.ORANGE, "dash"))
    look = paper.layout(height=270, x="step")
    look["yaxis"]["range"] = [0, 1.05 * max(1.0, *both.plain, *(both.warm or [0.0]))]
    look["hovermode"] = "x unified"
    return {
        "data": [
            {
                "type": "scatter", "mode": "lines", "x": list(range(0, len(values), every)),
                "y": paper.numbers(values[::every]), "name": name,
                "line": {"color": colour, "dash": dash, "width": 2.2, "shape": "hv"}, "hovertemplate": "%{y:.3g}",
            }
            for name, values, colour, dash in lines
        ],
        "layout": look,
    }  # fmt: skip
