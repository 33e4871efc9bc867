"""Every loss on one set of scores: its value, what each class has to do with it, and the pull on each score."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from bakeoff import builders
from bakeoff.errors import ChoiceError, ConfigError
from bakeoff.illustrations import paper
from bakeoff.illustrations.choices import gathered
from bakeoff.illustrations.gallery import GALLERY, Request

KNOWN = ("cat", "car", "frog")
"""Classes of the scores that are shown where none are given."""

PAIR = ("softmax", "svm")

REACH, STEP = 30.0, 0.1
"""How far from 0 a score is moved, and in which steps, in search of the place where it costs least; 0 and 1 are among the steps."""


@dataclass(frozen=True)
class Judged:
    """A loss on the scores: value, what it would fall by if one score alone were ideal, gradient by score, and its curve.

    `curve` is the value where the right class has each of the scores `moved` and the others stay.
    """

    value: float
    falls: list[float]
    gradient: list[float]
    moved: list[float]
    curve: list[float]


def judged(loss: nn.Module, scores: list[float], target: int) -> Judged:
    """A loss module on one image's scores, in float64."""
    loss = loss.double().eval()
    targets = torch.tensor([target])
    row = torch.tensor([scores], dtype=torch.float64, requires_grad=True)
    value = loss(row, targets)
    (gradient,) = torch.autograd.grad(value, row)

    def at(one: Tensor) -> float:
        return float(loss(one.detach()[None], targets).detach())

    steps = torch.arange(-round(REACH / STEP), round(REACH / STEP) + 1, dtype=torch.float64) * STEP

    def along(place: int, values: Tensor) -> list[float]:
        rows = row.detach().repeat(len(values), 1)
        rows[:, place] = values
        return [at(one) for one in rows]

    falls = [value.item() - min(along(i, steps)) for i in range(len(scores))]
    moved = torch.linspace(min(scores) - 3, max(scores) + 6, 121, dtype=torch.float64)
    return Judged(value.item(), [max(0.0, fall) for fall in falls], gradient[0].tolist(), moved.tolist(), along(target, moved))


def terms(loss: nn.Module, scores: list[float], target: int) -> list[float] | None:
    """What each wrong class adds, where a loss is a sum over pairs of a wrong class and the right one (as the SVM loss is); else None.

    Each pair is given to the loss as a problem of two classes.
    """
    loss = loss.double().eval()
    whole = float(loss(torch.tensor([scores], dtype=torch.float64), torch.tensor([target])))
    found = []
    for i, score in enumerate(scores):
        pair = torch.tensor([[scores[target], score]], dtype=torch.float64)
        found.append(0.0 if i == target else float(loss(pair, torch.tensor([0]))))
    return found if math.isclose(sum(found), whole, rel_tol=1e-9, abs_tol=1e-12) else None


def classes(asked: Request) -> list[str]:
    """A name for each score."""
    scores, names = asked.options["scores"], asked.options["classes"]
    if names == GALLERY["losses"].options["classes"].default:
        return list(KNOWN) if len(scores) == len(KNOWN) else [f"class {i}" for i in range(len(scores))]
    if len(names) != len(scores):
        raise ConfigError(f"classes={','.join(names)}: {len(names)} names for {len(scores)} scores")
    return list(names)


def draw(asked: Request) -> paper.Drawn:
    """One column of panels for each loss, and the curves of all by the right class's score."""
    scores, target = [float(score) for score in asked.options["scores"]], asked.options["target"]
    if len(scores) < 2:
        raise ConfigError(f"scores={scores}: at least 2 classes are needed")
    if max(abs(score) for score in scores) > REACH:
        raise ConfigError(f"scores={scores}: each must lie between -{REACH:g} and {REACH:g}")
    if target >= len(scores):
        raise ConfigError(f"target={target}: must be below the number of scores, {len(scores)}")
    names = classes(asked)
    run_of, skipped = gathered(asked, "loss", lambda run: (judged(builders.make_loss(run), scores, target), builders.make_loss(run)))
    if not run_of:
        raise ChoiceError(f"show losses: none can be drawn; {skipped}")
    # The two that are always told side by side stand side by side.
    run_of = {title: run_of[title] for title in sorted(run_of, key=lambda title: (title not in PAIR, title))}
    found = {title: one for title, (one, _) in run_of.items()}
    sheet = picture(found, names, scores, target)
    plots = [paper.Plot(f"{title}: {one.value:.4g}", bars(one, names)) for title, one in found.items()]
    plots.append(
        paper.Plot(f"The losses while the score of {names[target]} moves and the others stay", curves(found, scores[target]), wide=True)
    )
    pull = [
        [names[i] + (" (right)" if i == target else ""), f"{scores[i]:g}", *(f"{one.gradient[i]:.4f}" for one in found.values())]
        for i in range(len(scores))
    ]
    tables = [
        paper.Table("The losses", ("loss", "value"), [[title, f"{one.value:.4f}"] for title, one in found.items()]),
        paper.Table("Gradient on each score", ("class", "score", *found), pull, file="losses.csv"),
        steps_table(names, scores, target, {title: terms(loss, scores, target) for title, (_, loss) in run_of.items()}),
    ]
    notes = [
        f"One image with the scores {', '.join(f'{name} {score:g}' for name, score in zip(names, scores, strict=True))}; the right class "
        f"is {names[target]}. Logarithms are natural: softmax counts nats.",
        "Orange: the gradient on each score, which gradient descent moves against: a score with a positive gradient is pushed down. Blue: "
        "what the loss would fall by if that score alone were ideal. Values of different losses are in different units.",
    ]
    return paper.Drawn("Losses on the same scores", notes, sheet, plots, tables, skipped)


def steps_table(names: list[str], scores: list[float], target: int, added: dict[str, list[float] | None]) -> paper.Table:
    """From scores to the losses, class by class: the softmax's steps, and what a sum over pairs adds."""
    row = torch.tensor(scores, dtype=torch.float64)
    share, largest = torch.softmax(row, 0), max(scores)
    sums = {title: parts for title, parts in added.items() if parts is not None}
    head = ("class", "score", "exp(score - largest)", "softmax p", "-ln p", *(f"{title} adds" for title in sums))
    rows = [
        [
            name + (" (right)" if i == target else ""), f"{scores[i]:g}", f"{math.exp(scores[i] - largest):.4f}", f"{float(share[i]):.4f}",
            f"{-math.log(float(share[i])):.4f}" if float(share[i]) > 0 else "inf", *(f"{parts[i]:.4f}" for parts in sums.values()),
        ]
        for i, name in enumerate(names)
    ]  # fmt: skip
    return paper.Table("From scores to losses", head, rows, file="losses_steps.csv")


def picture(found: dict[str, Judged], names: list[str], scores: list[float], target: int) -> Figure:
    """The sheet: two rows of bars, and the curves below."""
    columns = len(found)
    sheet = paper.sheet(max(6.0, 2.3 * columns + 0.8), 6.4)
    told = ", ".join(f"{name} {score:g}" for name, score in zip(names, scores, strict=True))
    paper.head(sheet, "Losses on the same scores", f"{told}; the right class is {names[target]}")
    grid = sheet.add_gridspec(3, columns, height_ratios=[1, 1, 1.35])
    places = np.arange(len(names))
    for i, (title, one) in enumerate(found.items()):
        for row, (values, colour, label) in enumerate(
            ((one.falls, paper.BLUE, "falls by, if ideal"), (one.gradient, paper.ORANGE, "gradient"))
        ):
            axes: Axes = sheet.add_subplot(grid[row, i])
            axes.bar(places, values, color=colour, width=0.6)
            axes.axhline(0, color="#9aa0a8", linewidth=0.8)
            axes.set_xticks(places, names if row else [""] * len(names), rotation=0 if len(names) <= 4 else 60)
            axes.margins(y=0.22)
            for place, value in zip(places, values, strict=True):
                if len(names) <= 6:
                    side = "bottom" if value >= 0 else "top"
                    axes.text(float(place), value, f"{value:.2f}", ha="center", va=side, fontsize=7.5)
            if row == 0:
                axes.set_title(f"{title}: {one.value:.3g}")
            if i == 0:
                axes.set_ylabel(label)
    axes = sheet.add_subplot(grid[2, :])
    axes.set_title(f"while the score of {names[target]} moves and the others stay")
    strokes = ("-", "--", ":", "-.")
    for i, (title, one) in enumerate(found.items()):
        axes.plot(
            one.moved,
            one.curve,
            color=paper.look(i)[0],
            linestyle=strokes[i % len(strokes)],
            linewidth=1.8,
            label=legend(title, one, found),
        )
    axes.axvline(scores[target], color="#9aa0a8", linewidth=0.8)
    axes.grid(True)
    axes.set_ylim(0, ceiling(found))
    axes.set_xlabel(f"score of {names[target]}")
    axes.set_ylabel("loss")
    axes.legend(loc="upper right")
    return sheet


def ceiling(found: dict[str, Judged]) -> float:
    """The height of the curves' panel: twice the median loss, so that one of another size does not flatten the others."""
    return 2 * max(statistics.median(one.value for one in found.values()), 0.5)


def legend(title: str, one: Judged, found: dict[str, Judged]) -> str:
    """A loss in the legend of the curves, with a word where its curve lies above the panel."""
    return f"{title} (above the panel)" if min(one.curve) > ceiling(found) else title


def bars(one: Judged, names: list[str]) -> paper.Spec:
    """The interactive bars of one loss."""
    look = paper.layout(height=280, legend=True)
    look["barmode"] = "group"
    return {
        "data": [
            {
                "type": "bar", "x": names, "y": paper.numbers(values), "name": label, "marker": {"color": colour},
                "hovertemplate": f"{label}: %{{y:.4g}}",
            }
            for label, values, colour in (("falls by, if ideal", one.falls, paper.BLUE), ("gradient", one.gradient, paper.ORANGE))
        ],
        "layout": look,
    }  # fmt: skip


def curves(found: dict[str, Judged], now: float) -> paper.Spec:
    """The interactive curves of all losses."""
    data = []
    for i, (title, one) in enumerate(found.items()):
        colour, dash, _ = paper.look(i)
        data.append(
            {
                "type": "scatter", "mode": "lines", "x": paper.numbers(one.moved), "y": paper.numbers(one.curve),
                "name": legend(title, one, found),
                "line": {"color": colour, "dash": dash, "width": 2.2}, "hovertemplate": "%{y:.4g}",
            }
        )  # fmt: skip
    look = paper.layout(height=380, x="score of the right class", y="loss", legend=True)
    look["yaxis"]["range"] = [0, ceiling(found)]
    look["shapes"] = [{"type": "line", "x0": now, "x1": now, "yref": "paper", "y0": 0, "y1": 1, "line": {"color": "#9aa0a8", "width": 1}}]
    look["hovermode"] = "x unified"
    return {"data": data, "layout": look}
