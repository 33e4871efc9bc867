"""Every loss on the same scores: its value, the contribution of each class, and the gradient with respect to each score."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from bakeoff import builders
from bakeoff.config.schema import RunConfig
from bakeoff.errors import ConfigError
from bakeoff.illustrations.gallery import GALLERY, Request
from bakeoff.illustrations.illustration import EDGE_GREY, DataTable, Illustration, line_trace, titled_figure
from bakeoff.illustrations.slot_choices import build_choices
from bakeoff.rendering.matplotlib_backend import line_style
from bakeoff.rendering.page import Plot
from bakeoff.rendering.palette import BLUE, ORANGE, style
from bakeoff.rendering.plotly_backend import Spec, base_layout, rounded

EXAMPLE_CLASSES = ("cat", "car", "frog")
"""Default names of three classes."""

FIRST = ("softmax", "svm")
"""The two losses that textbooks compare; they are drawn side by side."""

REACH, STEP = 30.0, 0.1
"""Range and step of the grid, which contains 0 and 1, on which a single score is varied to find the lowest loss."""
TITLE = "Losses on the same scores"


@dataclass(frozen=True)
class ScoredImage:
    """One image: the names of its classes, a score for each, and the number of the right class."""

    classes: list[str]
    scores: list[float]
    target: int

    @property
    def description(self) -> str:
        """The scores as text."""
        return ", ".join(f"{name} {score:g}" for name, score in zip(self.classes, self.scores, strict=True))

    @property
    def target_class(self) -> str:
        """The name of the right class."""
        return self.classes[self.target]

    def row_label(self, index: int) -> str:
        """Return the name of a class for a table."""
        return self.classes[index] + (" (right)" if index == self.target else "")


@dataclass(frozen=True)
class EvaluatedLoss:
    """A loss on one image's scores.

    Attributes:
        value: The loss.
        reducible: For each score, the decrease of the loss if that score alone were ideal.
        gradient: The gradient with respect to each score.
        target_scores: A range of scores of the right class.
        curve: The loss at each of them, with the other scores unchanged.
        pair_terms: The terms of the wrong classes, if the loss is a sum over pairs of a wrong class and the right one; else None.
    """

    value: float
    reducible: list[float]
    gradient: list[float]
    target_scores: list[float]
    curve: list[float]
    pair_terms: list[float] | None


Losses = Mapping[str, EvaluatedLoss]


def evaluate_loss(loss: nn.Module, scores: list[float], target: int) -> EvaluatedLoss:
    """Evaluate a loss in float64 on the scores of an image; `target` is the number of the right class."""
    loss = loss.double().eval()
    targets = torch.tensor([target])
    row = torch.tensor([scores], dtype=torch.float64, requires_grad=True)
    value = loss(row, targets)
    (gradient,) = torch.autograd.grad(value, row)

    def losses_along(index: int, values: Tensor) -> list[float]:
        """Return the losses with the values in place of one score."""
        rows = row.detach().repeat(len(values), 1)
        rows[:, index] = values
        return [float(loss(moved[None], targets).detach()) for moved in rows]

    grid = torch.arange(-round(REACH / STEP), round(REACH / STEP) + 1, dtype=torch.float64) * STEP
    reducible = [max(0.0, value.item() - min(losses_along(i, grid))) for i in range(len(scores))]
    target_scores = torch.linspace(min(scores) - 3, max(scores) + 6, 121, dtype=torch.float64)
    curve = losses_along(target, target_scores)
    return EvaluatedLoss(value.item(), reducible, gradient[0].tolist(), target_scores.tolist(), curve, pair_terms(loss, scores, target))


def pair_terms(loss: nn.Module, scores: list[float], target: int) -> list[float] | None:
    """Return the terms of the wrong classes if a loss is a sum over pairs of a wrong class and the right one, as the SVM loss; else None.

    Each pair is evaluated as a problem with two classes.
    """
    loss = loss.double().eval()
    total = float(loss(torch.tensor([scores], dtype=torch.float64), torch.tensor([target])))
    terms = []
    for i, score in enumerate(scores):
        pair = torch.tensor([[scores[target], score]], dtype=torch.float64)
        terms.append(0.0 if i == target else float(loss(pair, torch.tensor([0]))))
    return terms if math.isclose(sum(terms), total, rel_tol=1e-9, abs_tol=1e-12) else None


def scored_image(request: Request) -> ScoredImage:
    """Return the image that a request describes, or raise a ConfigError if its keys contradict each other."""
    scores, target = [float(score) for score in request.options["scores"]], request.options["target"]
    if len(scores) < 2:
        raise ConfigError(f"scores={scores}: must have at least 2 classes")
    if max(abs(score) for score in scores) > REACH:
        raise ConfigError(f"scores={scores}: each must lie between -{REACH:g} and {REACH:g}")
    if target >= len(scores):
        raise ConfigError(f"target={target}: must be below the number of scores, {len(scores)}")
    names = request.options["classes"]
    if names == GALLERY["losses"].options["classes"].default:
        names = EXAMPLE_CLASSES if len(scores) == len(EXAMPLE_CLASSES) else [f"class {i}" for i in range(len(scores))]
    if len(names) != len(scores):
        raise ConfigError(f"classes={','.join(names)}: {len(names)} names for {len(scores)} scores")
    return ScoredImage(list(names), scores, target)


def draw(request: Request) -> Illustration:
    """Draw a column of panels for each loss, and the curves of all losses by the score of the right class."""
    image = scored_image(request)

    def build(run: RunConfig) -> EvaluatedLoss:
        return evaluate_loss(builders.make_loss(run), image.scores, image.target)

    unordered, skipped = build_choices(request, "loss", build)
    losses = {name: unordered[name] for name in sorted(unordered, key=lambda name: (name not in FIRST, name))}
    plots = [Plot(name, bars_spec(loss, image.classes), f"{name}: {loss.value:.4g}") for name, loss in losses.items()]
    title = f"Losses as a function of the score of {image.target_class}, with the other scores fixed"
    plots.append(Plot("all", curves_spec(losses, image.scores[image.target]), title, wide=True))
    notes = [
        f"An image with the scores {image.description}; the right class is {image.target_class}. Logarithms are natural: the softmax loss "
        "is in nats.",
        "Orange: the gradient with respect to each score; gradient descent lowers a score with a positive gradient. Blue: the decrease of "
        "the loss if that score alone were ideal. Different losses have different units.",
    ]
    return Illustration(TITLE, notes, draw_figure(losses, image), plots, loss_tables(losses, image), skipped)


def loss_tables(losses: Losses, image: ScoredImage) -> list[DataTable]:
    """Return tables of the values, the gradients, and the steps from scores to losses: softmax, and the terms of sums over pairs."""
    scores, indices = image.scores, range(len(image.scores))
    values = [[name, f"{loss.value:.4f}"] for name, loss in losses.items()]
    gradients = [[image.row_label(i), f"{scores[i]:g}", *(f"{loss.gradient[i]:.4f}" for loss in losses.values())] for i in indices]
    terms = {name: loss.pair_terms for name, loss in losses.items() if loss.pair_terms is not None}
    probabilities = torch.softmax(torch.tensor(scores, dtype=torch.float64), 0).tolist()
    steps = [
        [
            image.row_label(i),
            f"{scores[i]:g}",
            f"{math.exp(scores[i] - max(scores)):.4f}",
            f"{probabilities[i]:.4f}",
            f"{-math.log(probabilities[i]):.4f}" if probabilities[i] > 0 else "inf",
            *(f"{parts[i]:.4f}" for parts in terms.values()),
        ]
        for i in indices
    ]
    head = ("class", "score", "exp(score - largest)", "softmax p", "-ln p", *(f"{name} term" for name in terms))
    return [
        DataTable("Losses", ("loss", "value"), values),
        DataTable("Gradient with respect to each score", ("class", "score", *losses), gradients, file="losses.csv"),
        DataTable("From scores to losses", head, steps, file="losses_steps.csv"),
    ]


def draw_figure(losses: Losses, image: ScoredImage) -> Figure:
    """Draw two rows of bars, and the curves below."""
    columns = len(losses)
    note = f"{image.description}; the right class is {image.target_class}"
    figure = titled_figure(max(6.0, 2.3 * columns + 0.8), 6.4, title=TITLE, note=note)
    grid = figure.add_gridspec(3, columns, height_ratios=[1, 1, 1.35])
    for i, (name, loss) in enumerate(losses.items()):
        above, below = figure.add_subplot(grid[0, i]), figure.add_subplot(grid[1, i])
        draw_bars(above, loss.reducible, [""] * len(image.classes), BLUE)
        draw_bars(below, loss.gradient, image.classes, ORANGE)
        above.set_title(f"{name}: {loss.value:.3g}")
        if i == 0:
            above.set_ylabel("decrease if ideal")
            below.set_ylabel("gradient")
    axes = figure.add_subplot(grid[2, :])
    for i, (name, loss) in enumerate(losses.items()):
        label, dash = legend_label(name, losses), line_style(style(i).dash)
        axes.plot(loss.target_scores, loss.curve, color=style(i).colour, linestyle=dash, linewidth=1.8, label=label)
    axes.axvline(image.scores[image.target], color=EDGE_GREY, linewidth=0.8)
    axes.grid(True)
    axes.set(title=f"loss by score of {image.target_class}, other scores fixed", ylim=(0, curve_ceiling(losses)))
    axes.set(xlabel=f"score of {image.target_class}", ylabel="loss")
    axes.legend(loc="upper right")
    return figure


def draw_bars(axes: Axes, values: list[float], labels: list[str], colour: str) -> None:
    """Draw one bar for each class."""
    positions = np.arange(len(values))
    axes.bar(positions, values, color=colour, width=0.6)
    axes.axhline(0, color=EDGE_GREY, linewidth=0.8)
    axes.set_xticks(positions, labels, rotation=0 if len(labels) <= 4 else 60)
    axes.margins(y=0.22)
    if len(values) <= 6:
        for position, value in zip(positions, values, strict=True):
            side = "bottom" if value >= 0 else "top"
            axes.text(float(position), value, f"{value:.2f}", ha="center", va=side, fontsize=7.5)


def curve_ceiling(losses: Losses) -> float:
    """Return the upper limit of the curves' panel, which cuts high curves so that they do not flatten the others.

    It is twice the median loss, or more where the bottom of another curve is not far above.
    """
    limit = 2 * max(statistics.median(loss.value for loss in losses.values()), 0.5)
    return max([limit, *(1.3 * bottom for loss in losses.values() if (bottom := min(loss.curve)) <= 3 * limit)])


def legend_label(name: str, losses: Losses) -> str:
    """Return the name of a loss in the legend of the curves, with a note if its curve is above the panel."""
    return f"{name} (above the panel)" if min(losses[name].curve) > curve_ceiling(losses) else name


def bars_spec(loss: EvaluatedLoss, classes: list[str]) -> Spec:
    """Return the interactive bars of one loss."""
    layout = base_layout(height=280, legend=True)
    layout["barmode"] = "group"
    bars = (("decrease if ideal", loss.reducible, BLUE), ("gradient", loss.gradient, ORANGE))
    common = {"type": "bar", "x": classes}
    traces = [
        {**common, "y": rounded(values), "name": label, "marker": {"color": colour}, "hovertemplate": f"{label}: %{{y:.4g}}"}
        for label, values, colour in bars
    ]
    return {"data": traces, "layout": layout}


def curves_spec(losses: Losses, score: float) -> Spec:
    """Return the interactive curves of all losses; `score` is that of the right class."""
    traces = [
        line_trace(legend_label(name, losses), rounded(loss.target_scores), loss.curve, style(i))
        for i, (name, loss) in enumerate(losses.items())
    ]
    layout = base_layout(height=380, x="score of the right class", y="loss", legend=True)
    layout["yaxis"]["range"] = [0, curve_ceiling(losses)]
    line = {"color": EDGE_GREY, "width": 1}
    layout["shapes"] = [{"type": "line", "x0": score, "x1": score, "yref": "paper", "y0": 0, "y1": 1, "line": line}]
    layout["hovermode"] = "x unified"
    return {"data": traces, "layout": layout}
