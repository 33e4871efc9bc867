"""The sections of `diagnostics=full`: the trained net on the validation images, its loss landscape, and figures over time."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchmetrics.functional.classification import multiclass_calibration_error, multiclass_confusion_matrix
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

from bakeoff.data.datamodule import ImageDataModule
from bakeoff.diagnostics.charts import Curve, format_number, line_chart
from bakeoff.diagnostics.curvature import loss_plane
from bakeoff.diagnostics.layer_stats import BINS, LayerStats
from bakeoff.diagnostics.layer_trace import weighted_modules
from bakeoff.diagnostics.matplotlib_charts import HEIGHT, figure_picture, line_figure, new_figure, spec_picture
from bakeoff.diagnostics.probe import Probe
from bakeoff.diagnostics.tolerate_failure import FailureTolerance
from bakeoff.rendering.marks import AxesSpec
from bakeoff.rendering.page import Block, Grid, Picture, Section, Table, Text
from bakeoff.rendering.palette import INK

MAX_MISTAKES = 24
CALIBRATION_BINS = 15
MANY_CLASSES = 25
"""With more classes, only the largest entries of the confusion matrix are listed."""


@dataclass(frozen=True)
class Mistake:
    """A misclassified validation image `(C, H, W)`, with the probability of the predicted class."""

    probability: float
    predicted: int
    label: int
    image: Tensor


@dataclass(frozen=True)
class ValidationPredictions:
    """Probabilities `(n, classes)`, labels `(n,)`, and the most confident mistakes in descending order."""

    probabilities: Tensor
    labels: Tensor
    mistakes: list[Mistake]


def examine_trained_net(
    net: nn.Module, loss: nn.Module, data: ImageDataModule, probe: Probe, *, seed: int, failures: FailureTolerance
) -> tuple[Grid, dict[str, float]]:
    """Examine a trained net on this rank's validation images, and its loss landscape on the probe.

    The net is in evaluation mode and on the probe's device; `seed` is the run's, for the directions of the landscape.

    Returns:
        The sections for the page, without those that fail, and metrics of the run by name.
    """
    dtype = next(net.parameters()).dtype
    predictions = predict_validation(net, data, dtype=dtype)
    sections: list[Section] = []
    metrics: dict[str, float] = {}
    with failures.tolerate("confusion"):
        sections.append(confusion_section(predictions, data.classes))
    with failures.tolerate("calibration"):
        error = calibration_error(predictions)
        sections.append(reliability_section(predictions, error=error))
        metrics["calibration_error"] = error
    with failures.tolerate("mistakes"):
        sections.append(mistakes_section(predictions.mistakes, data.classes))
    with failures.tolerate("first filters"):
        if (filters := filters_section(net)) is not None:
            sections.append(filters)
    with failures.tolerate("loss landscape"):
        sections.append(landscape_section(net, loss, Probe(probe.images.to(dtype), probe.labels), seed=seed))
    return Grid(sections), metrics


@torch.no_grad()
def predict_validation(net: nn.Module, data: ImageDataModule, *, dtype: torch.dtype) -> ValidationPredictions:
    """Classify the validation images with a net in evaluation mode; `dtype` is that of its input."""
    batches: list[tuple[Tensor, Tensor]] = []
    mistakes: list[Mistake] = []
    for images, labels in data.val_dataloader():
        probabilities = net.forward(images.to(dtype)).float().softmax(1)
        confidence, predicted = probabilities.max(1)
        for i in torch.where(predicted != labels)[0].tolist():
            mistakes.append(Mistake(float(confidence[i]), int(predicted[i]), int(labels[i]), images[i].float().cpu()))
        mistakes = sorted(mistakes, key=lambda mistake: -mistake.probability)[:MAX_MISTAKES]
        batches.append((probabilities.cpu(), labels.cpu()))
    probabilities, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    return ValidationPredictions(probabilities, labels, mistakes)


def calibration_error(predictions: ValidationPredictions) -> float:
    """Return the expected calibration error over 15 bins: Guo et al., "On calibration of modern neural networks" (arXiv:1706.04599)."""
    probabilities = predictions.probabilities
    return float(
        multiclass_calibration_error(probabilities, predictions.labels, num_classes=probabilities.shape[1], n_bins=CALIBRATION_BINS)
    )


def confusion_section(predictions: ValidationPredictions, classes: Sequence[str]) -> Section:
    """Return the confusion matrix, and its largest entries as a table."""
    matrix = multiclass_confusion_matrix(predictions.probabilities, predictions.labels, num_classes=len(classes))
    off_diagonal = matrix.clone().fill_diagonal_(0)
    largest = off_diagonal.flatten().topk(min(10, off_diagonal.numel())).indices.tolist()
    pairs = [divmod(index, len(classes)) for index in largest]
    rows = [(f"{int(matrix[i, j])}", classes[i], classes[j]) for i, j in pairs if off_diagonal[i, j]]
    blocks: list[Block] = [Table(("images", "class", "predicted"), rows) if rows else Text("No validation image is misclassified.")]
    if len(classes) <= MANY_CLASSES:
        blocks.insert(0, confusion_picture(matrix, classes))
    note = f"{int(matrix.diag().sum()):,} of {len(predictions.labels):,} validation images are classified correctly."
    return Section("Confusion", blocks, notes=[note])


def confusion_picture(matrix: Tensor, classes: Sequence[str]) -> Picture:
    """Draw a confusion matrix `(classes, classes)` of counts, coloured by the share of each class."""
    with new_figure(5.2, 4.8) as figure:
        axes = figure.add_subplot()
        shares = matrix / matrix.sum(1, keepdim=True).clamp(min=1)
        axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
        for i, j in itertools.product(range(len(classes)), repeat=2):
            if matrix[i, j]:
                colour = "white" if shares[i, j] > 0.5 else INK
                axes.text(j, i, str(int(matrix[i, j])), ha="center", va="center", color=colour, fontsize=7)
        axes.set(xlabel="predicted", ylabel="class")
        labels = [name[:12] for name in classes]
        axes.set_xticks(range(len(classes)), labels, rotation=60, ha="right")
        axes.set_yticks(range(len(classes)), labels)
        return figure_picture(figure, alt="confusion matrix")


def reliability_section(predictions: ValidationPredictions, *, error: float) -> Section:
    """Return the accuracy by confidence, which is the diagonal for a calibrated net; `error` is the `calibration_error`."""
    curves: dict[str, Curve] = {"accuracy": reliability_curve(predictions), "calibrated": {0.0: 0.0, 1.0: 1.0}}
    note = f"Expected calibration error {format_number(error)}, over {CALIBRATION_BINS} bins of validation images."
    axes = AxesSpec("confidence", "accuracy", y_range=(0.0, 1.0), height=HEIGHT)
    return Section("Calibration", [spec_picture(line_figure("calibration", curves, axes))], notes=[note])


def reliability_curve(predictions: ValidationPredictions) -> dict[float, float]:
    """Return mean confidence -> accuracy for each bin of the confidence."""
    confidence, predicted = predictions.probabilities.max(1)
    correct = (predicted == predictions.labels).double()
    bins = (confidence.double() * CALIBRATION_BINS).long().clamp(max=CALIBRATION_BINS - 1)
    return {float(confidence[bins == k].mean()): float(correct[bins == k].mean()) for k in sorted(set(bins.tolist()))}


def mistakes_section(mistakes: Sequence[Mistake], classes: Sequence[str]) -> Section:
    """Return the images of the most confident mistakes."""
    if not mistakes:
        return Section("Mistakes", notes=["No validation image is misclassified."])
    columns = min(6, len(mistakes))
    rows = -(-len(mistakes) // columns)
    with new_figure(1.1 * columns, 1.35 * rows) as figure:
        for index, mistake in enumerate(mistakes):
            axes = figure.add_subplot(rows, columns, index + 1)
            axes.set_axis_off()
            pixels = to_pixels(mistake.image)
            axes.imshow(pixels.permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=255)
            label, predicted = classes[mistake.label][:12], classes[mistake.predicted][:12]
            axes.set_title(f"{label}\nas {predicted}, {mistake.probability:.2f}", fontsize=6.5, loc="center")
        picture = figure_picture(figure, alt="misclassified validation images")
    note = "The misclassified validation images with the highest confidence: class, predicted class, probability."
    return Section("Mistakes", [picture], notes=[note])


def to_pixels(image: Tensor) -> Tensor:
    """Scale an image `(C, H, W)` from its range to uint8 `(1 or 3, H, W)`; for any other number of channels only the first is kept."""
    low, high = image.min(), image.max()
    pixels = ((image - low) / (high - low).clamp(min=1e-12) * 255).round().to(torch.uint8)
    return pixels if pixels.shape[0] in (1, 3) else pixels[:1]


def filters_section(net: nn.Module) -> Section | None:
    """Return the kernels of the first convolution, each scaled to its range; None if the net has no convolution."""
    first = next((module for module in weighted_modules(net) if isinstance(module, nn.Conv2d)), None)
    if first is None:
        return None
    kernels = first.weight.detach().float().cpu()[:96]
    kernels = kernels if kernels.shape[1] in (1, 3) else kernels[:, :1]
    grid = to_pixels(make_grid(kernels, nrow=12, padding=1, normalize=True, scale_each=True, pad_value=1.0))
    scale = max(1, 480 // grid.shape[-1])
    buffer = io.BytesIO()
    to_pil_image(grid.repeat_interleave(scale, 1).repeat_interleave(scale, 2)).save(buffer, format="PNG")
    note = f"{len(first.weight)} kernels of {first.kernel_size[0]}x{first.kernel_size[1]} pixels, each scaled to its range."
    return Section("First filters", [Picture.png(buffer.getvalue(), alt="kernels of the first layer")], notes=[note])


def landscape_section(net: nn.Module, loss: nn.Module, probe: Probe, *, seed: int) -> Section:
    """Return the loss on the probe along two random directions; see `loss_plane`."""
    coefficients, losses = loss_plane(net, loss, probe, seed=seed)
    with new_figure(5.2, 4.4) as figure:
        axes = figure.add_subplot()
        contours = axes.contourf(coefficients, coefficients, torch.tensor(losses).log1p().T.nan_to_num().numpy(), levels=20, cmap="viridis")
        axes.plot([0], [0], marker="+", color="white", markersize=12)
        axes.set(xlabel="first random direction", ylabel="second random direction")
        figure.colorbar(contours, ax=axes, label="ln(1 + loss)")
        picture = figure_picture(figure, alt="loss landscape")
    note = "The loss on the probe around the trained weights. Both directions have the norm of the weights in every filter."
    return Section("Loss landscape", [picture], notes=[note])


def sections_over_time(measurements: Sequence[LayerStats]) -> list[Section]:
    """Return sharpness, and the histograms of outputs and weights, by step."""
    sharpness = {stats.step: stats.extras["sharpness"] for stats in measurements if "sharpness" in stats.extras}
    sections = []
    if sharpness:
        note = "The Hessian's eigenvalue of largest magnitude, on the probe. Plain gradient descent is stable while it is below 2 / lr."
        sections.append(Section("Sharpness", [line_chart({"sharpness": sharpness})], notes=[note]))
    for kind, title in (("activations", "Outputs"), ("weights", "Weights")):
        measured = [stats for stats in measurements if stats.extras.get(kind)]
        if measured:
            note = "A panel per layer, a row per step; darker bins hold more values."
            sections.append(Section(f"{title} by layer", [histogram_picture(measured, kind)], notes=[note]))
    return sections


def histogram_picture(measurements: Sequence[LayerStats], kind: str) -> Picture:
    """Draw the histograms of `activations` or `weights` of every layer by step, each scaled to its largest bin."""
    names = list(measurements[-1].extras[kind])
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    with new_figure(2.7 * columns, 2.1 * rows + 0.3) as figure:
        for index, name in enumerate(names):
            axes = figure.add_subplot(rows, columns, index + 1)
            histograms = [stats.extras[kind].get(name, [0.0, 0.0, [0] * BINS]) for stats in measurements]
            for row, (low, high, counts) in enumerate(histograms):
                if high > low:
                    shades = torch.tensor(counts).double().sqrt()[None, :] / max(1.0, max(counts) ** 0.5)
                    axes.imshow(shades.numpy(), extent=(low, high, row + 0.5, row - 0.5), aspect="auto", cmap="Blues", vmin=0, vmax=1)
            left, right = min(low for low, _, _ in histograms), max(high for _, high, _ in histograms)
            axes.set(xlim=(left, right if right > left else left + 1), ylim=(len(histograms) - 0.5, -0.5), title=name)
            stride = max(1, len(measurements) // 5)
            axes.set_yticks(range(0, len(measurements), stride), [f"{stats.step:,}" for stats in measurements[::stride]])
        return figure_picture(figure, alt=f"histograms of {kind}")
