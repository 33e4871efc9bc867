"""A look at the trained net: what it confuses, how far its probabilities can be trusted, what it sees with, and how its loss lies."""

from __future__ import annotations

import copy
import io
import itertools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import matplotlib
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torchmetrics.functional.classification import multiclass_calibration_error, multiclass_confusion_matrix
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

from bakeoff.config.schema import RunConfig
from bakeoff.data.datamodule import ImageDataModule
from bakeoff.diagnostics.curvature import slices
from bakeoff.diagnostics.layer_stats import BINS, GROUP, Reading
from bakeoff.diagnostics.layer_trace import weighted
from bakeoff.diagnostics.page import lines, number, picture, section, table, text
from bakeoff.illustrations import paper

SHOWN = 24
RELIABILITY_BINS = 15
MANY_CLASSES = 25
"""From so many classes on, the confusion matrix is told as its largest entries alone."""


def examine(
    run: RunConfig,
    net: nn.Module,
    weights: dict[str, Tensor],
    loss: nn.Module,
    data: ImageDataModule,
    images: Tensor,
    labels: Tensor,
    *,
    sparing: Callable[[str], AbstractContextManager[None]],
) -> tuple[str, dict[str, float]]:
    """(HTML, metrics) of a copy of `net` with `weights`, on this rank's validation images and, for the landscape, on the probe.

    A part that fails within `sparing(part)` is left out.
    """
    device = images.device
    net = copy.deepcopy(net).to(device)
    net.load_state_dict(weights)
    net.eval()
    dtype = next(net.parameters()).dtype
    scores, truth, wrong = judged(net, data, dtype=dtype)
    parts: list[str] = []
    metrics: dict[str, float] = {}
    with sparing("confusion"):
        parts.append(confusion(scores, truth, data.classes))
    with sparing("calibration"):
        ece = calibration(scores, truth)
        parts.append(reliability(scores, truth, ece=ece))
        metrics[f"{GROUP}/calibration_error"] = ece
    with sparing("mistakes"):
        parts.append(mistakes(wrong, data.classes))
    with sparing("first filters"):
        parts.append(filters(net))
    with sparing("loss landscape"):
        parts.append(landscape(run, net, loss, images.to(dtype), labels))
    return f'<div class="pair">{"".join(parts)}</div>', metrics


@torch.no_grad()
def judged(net: nn.Module, data: ImageDataModule, *, dtype: torch.dtype) -> tuple[Tensor, Tensor, list[tuple[float, int, int, Tensor]]]:
    """Probabilities [n, classes], labels [n], and the surest mistakes: (probability, taken for, is, image [C, H, W]), surest first."""
    found, truths = [], []
    wrong: list[tuple[float, int, int, Tensor]] = []
    for images, labels in data.val_dataloader():
        probabilities = net.forward(images.to(dtype)).float().softmax(1)
        sure, taken = probabilities.max(1)
        for i in torch.where(taken != labels)[0].tolist():
            wrong.append((float(sure[i]), int(taken[i]), int(labels[i]), images[i].float().cpu()))
        wrong = sorted(wrong, key=lambda one: -one[0])[:SHOWN]
        found.append(probabilities.cpu())
        truths.append(labels.cpu())
    return torch.cat(found), torch.cat(truths), wrong


def calibration(probabilities: Tensor, truth: Tensor) -> float:
    """Expected calibration error over 15 bins: Guo et al., "On calibration of modern neural networks" (arXiv:1706.04599)."""
    return float(multiclass_calibration_error(probabilities, truth, num_classes=probabilities.shape[1], n_bins=RELIABILITY_BINS))


def confusion(probabilities: Tensor, truth: Tensor, classes: Sequence[str]) -> str:
    """The confusion matrix: a row a true class, a column what it was taken for."""
    matrix = multiclass_confusion_matrix(probabilities, truth, num_classes=len(classes))
    off = matrix.clone().fill_diagonal_(0)
    worst = (divmod(place, len(classes)) for place in off.flatten().topk(min(10, off.numel())).indices.tolist())
    rows = [(int(off[i, j]), classes[i], classes[j]) for i, j in worst if off[i, j]]
    listed = table(("images", "are", "taken for"), rows) if rows else "<p>No validation image is mistaken.</p>"
    note = f"{int(matrix.diag().sum()):,} of {len(truth):,} validation images are right."
    if len(classes) > MANY_CLASSES:
        return section("Confusion", listed, note=note)
    figure = paper.sheet(5.2, 4.8)
    with matplotlib.rc_context(paper.STYLE):
        axes = figure.add_subplot()
        shares = matrix / matrix.sum(1, keepdim=True).clamp(min=1)
        axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
        for i, j in itertools.product(range(len(classes)), repeat=2):
            if matrix[i, j]:
                axes.text(
                    j, i, str(int(matrix[i, j])), ha="center", va="center", color="white" if shares[i, j] > 0.5 else paper.INK, fontsize=7
                )
        axes.set(xlabel="taken for", ylabel="is")
        axes.set_xticks(range(len(classes)), [name[:12] for name in classes], rotation=60, ha="right")
        axes.set_yticks(range(len(classes)), [name[:12] for name in classes])
        return section("Confusion", png(figure, "confusion matrix"), listed, note=note)


def reliability(probabilities: Tensor, truth: Tensor, *, ece: float) -> str:
    """How often the net is right where it is so sure: the diagonal is calibrated."""
    sure, taken = probabilities.max(1)
    right = (taken == truth).double()
    place = (sure.double() * RELIABILITY_BINS).long().clamp(max=RELIABILITY_BINS - 1)
    curve = {float(sure[place == k].mean()): float(right[place == k].mean()) for k in sorted(set(place.tolist()))}
    drawn = lines({"right": curve, "calibrated": {0.0: 0.0, 1.0: 1.0}}, x="the net's own probability", top_y=1.0)
    note = f"Expected calibration error {number(ece)}, over {RELIABILITY_BINS} bins of validation images."
    return section("Calibration", drawn, note=note)


def mistakes(wrong: Sequence[tuple[float, int, int, Tensor]], classes: Sequence[str]) -> str:
    """The surest mistakes as images, each with what it was taken for."""
    if not wrong:
        return section("Mistakes", note="No validation image is mistaken.")
    cards = []
    for sure, taken, truth, image in wrong:
        shown = picture(as_png(image), about=f"{classes[truth]} taken for {classes[taken]}", width=72)
        words = f"{text(classes[truth][:14])} as {text(classes[taken][:14])}, {sure:.2f}"
        cards.append(f'<figure style="margin:0;width:96px;font-size:11.5px">{shown}<br>{words}</figure>')
    note = "Validation images that the net is surest of and wrong about: is, taken for, probability."
    return section("Mistakes", f'<div style="display:flex;flex-wrap:wrap;gap:10px">{"".join(cards)}</div>', note=note)


def as_png(image: Tensor, *, scale: int | None = None) -> bytes:
    """A PNG of an image [C, H, W], stretched to its own range; each pixel `scale` times as large, where that is asked for."""
    low, high = image.min(), image.max()
    grey = ((image - low) / (high - low).clamp(min=1e-12) * 255).round().to(torch.uint8)
    grey = grey if grey.shape[0] in (1, 3) else grey[:1]
    factor = scale or max(1, 72 // grey.shape[-1])
    buffer = io.BytesIO()
    to_pil_image(grey.repeat_interleave(factor, 1).repeat_interleave(factor, 2)).save(buffer, format="PNG")
    return buffer.getvalue()


def filters(net: nn.Module) -> str:
    """The kernels of the first convolution, each stretched to its own range; '' where the net has none."""
    first = next((module for module in weighted(net) if isinstance(module, nn.Conv2d)), None)
    if first is None:
        return ""
    kernels = first.weight.detach().float().cpu()[:96]
    kernels = kernels if kernels.shape[1] in (1, 3) else kernels[:, :1]
    grid = make_grid(kernels, nrow=12, padding=1, normalize=True, scale_each=True, pad_value=1.0)
    note = f"{len(first.weight)} kernels of {first.kernel_size[0]}x{first.kernel_size[1]} pixels, each stretched to its own range."
    return section(
        "First filters", picture(as_png(grid, scale=max(1, 480 // grid.shape[-1])), about="kernels of the first layer"), note=note
    )


def landscape(run: RunConfig, net: nn.Module, loss: nn.Module, images: Tensor, labels: Tensor) -> str:
    """The loss on the probe along two random directions: Li et al. (arXiv:1712.09913)."""
    alphas, losses = slices(net, loss, images, labels, seed=run.seed)
    figure = paper.sheet(5.2, 4.4)
    with matplotlib.rc_context(paper.STYLE):
        axes = figure.add_subplot()
        drawn = axes.contourf(alphas, alphas, torch.tensor(losses).log1p().T.nan_to_num().numpy(), levels=20, cmap="viridis")
        axes.plot([0], [0], marker="+", color="white", markersize=12)
        axes.set(xlabel="along a first random direction", ylabel="along a second")
        figure.colorbar(drawn, ax=axes, label="ln(1 + loss)")
        note = "Loss on the probe around the trained weights; both directions are as long, filter by filter, as the weights."
        return section("Loss landscape", png(figure, "loss landscape"), note=note)


def over_time(readings: Sequence[Reading]) -> str:
    """Sharpness, and the histograms of outputs and weights, by step."""
    sharp = {reading.step: reading.more["sharpness"] for reading in readings if "sharpness" in reading.more}
    parts = []
    if sharp:
        note = "The Hessian's eigenvalue that is greatest in size, on the probe. Plain gradient descent is stable while it is below 2 / lr."
        parts.append(section("Sharpness", lines({"sharpness": sharp}), note=note))
    for kind, title in (("activations", "Outputs"), ("weights", "Weights")):
        shown = [reading for reading in readings if reading.more.get(kind)]
        if shown:
            parts.append(
                section(
                    f"{title} by layer", ridges(shown, kind), note="A panel a layer, a row a step, the darker the more of them lie there."
                )
            )
    return "".join(parts)


def ridges(readings: Sequence[Reading], kind: str) -> str:
    """Histograms by step of every layer, each row scaled to its own tallest bin."""
    names = list(readings[-1].more[kind])
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    figure = paper.sheet(2.7 * columns, 2.1 * rows + 0.3)
    with matplotlib.rc_context(paper.STYLE):
        for place, name in enumerate(names):
            axes = figure.add_subplot(rows, columns, place + 1)
            for row, reading in enumerate(readings):
                low, high, counts = reading.more[kind].get(name, [0.0, 0.0, [0] * BINS])
                if high > low:
                    shades = torch.tensor(counts).double().sqrt()[None, :] / max(1.0, max(counts) ** 0.5)
                    axes.imshow(shades.numpy(), extent=(low, high, row + 0.5, row - 0.5), aspect="auto", cmap="Blues", vmin=0, vmax=1)
            ends: list[Any] = [end for r in readings for end in r.more[kind].get(name, [0.0, 0.0])[:2]]
            axes.set(xlim=(min(ends), max(ends) if max(ends) > min(ends) else min(ends) + 1), ylim=(len(readings) - 0.5, -0.5), title=name)
            every = max(1, len(readings) // 5)
            axes.set_yticks(range(0, len(readings), every), [f"{r.step:,}" for r in readings[::every]])
        return png(figure, f"histograms of {kind}")


def png(figure: Figure, about: str) -> str:
    """A figure within the page."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=paper.DOTS, facecolor="white")
    return picture(buffer.getvalue(), about=about, width=round(figure.get_figwidth() * 96))
