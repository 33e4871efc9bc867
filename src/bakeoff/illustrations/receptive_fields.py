"""Shapes, parameters, strides and receptive fields of every layer of a net, read from its modules."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bakeoff import builders
from bakeoff.config.schema import RunConfig

CONVOLVED = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
NORMS = (nn.LocalResponseNorm, nn.BatchNorm2d)


@dataclass(frozen=True)
class LayerGeometry:
    """One layer of a net.

    Attributes:
        name: Its kind and number, `conv2`.
        settings: Its settings as text.
        shape: The output's shape without the batch.
        parameters: Their number.
        stride: Pixels of the image between neighbouring outputs; None for a layer without positions.
        field: The side of the receptive field in pixels, including padding; None if it is the entire image.
    """

    name: str
    settings: str
    shape: tuple[int, ...]
    parameters: int
    stride: int | None
    field: int | None


@dataclass(frozen=True)
class Window:
    """The window of a layer: kind, settings as text, kernel (None if it does not combine positions), stride and dilation."""

    kind: str
    settings: str
    kernel: int | None = None
    stride: int = 1
    dilation: int = 1


def layer_geometries(run: RunConfig) -> list[LayerGeometry]:
    """List convolutions, poolings, norms and linear layers of a run's net in the order of the forward pass; no weight is allocated.

    With j the distance in input pixels between neighbouring outputs, kernel k and dilation d, a layer adds (k - 1) d j to the
    receptive field and multiplies j by its stride: Araujo, Norris, Sim, Computing Receptive Fields of CNNs (Distill, 2019).
    """
    data = run.data
    with torch.device("meta"):
        net = builders.make_uninitialized_model(run).eval()
        images = torch.empty(1, data.channels, data.size, data.size)
    layers: list[LayerGeometry] = []
    field, stride = 1, 1
    counts: dict[str, int] = {}

    def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal field, stride
        window = layer_window(module, inputs[0], output)
        counts[window.kind] = counts.get(window.kind, 0) + 1
        if window.kernel is not None:
            field += (window.kernel - 1) * window.dilation * stride
            stride *= window.stride
        name, parameters = f"{window.kind}{counts[window.kind]}", sum(parameter.numel() for parameter in module.parameters())
        extent = (stride, field) if output.ndim == 4 else (None, None)
        layers.append(LayerGeometry(name, window.settings, tuple(output.shape[1:]), parameters, *extent))

    listed = (*CONVOLVED, *NORMS, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Linear)
    with ExitStack() as hooks, torch.no_grad():
        for module in net.modules():
            if isinstance(module, listed):
                hooks.callback(module.register_forward_hook(record).remove)
        net(images)
    return layers


def layer_window(module: nn.Module, before: Tensor, after: Tensor) -> Window:
    """Return the window of a layer with the input `before` and the output `after`, both `(1, C, H, W)`."""
    if isinstance(module, nn.Linear):
        return Window("fc", f"{module.in_features} -> {module.out_features}")
    if isinstance(module, nn.LocalResponseNorm):
        return Window("lrn", f"over {module.size} channels")
    if isinstance(module, nn.BatchNorm2d):
        return Window("norm", f"of {module.num_features} channels")
    if isinstance(module, CONVOLVED):
        kernel, stride, pad = (side(getattr(module, name)) for name in ("kernel_size", "stride", "padding"))
        groups = f", {module.groups} groups" if isinstance(module, nn.Conv2d) and module.groups > 1 else ""
        settings = f"{kernel}x{kernel}/{stride}{f', pad {pad}' if pad else ''}{groups}"
        return Window("conv" if isinstance(module, nn.Conv2d) else "pool", settings, kernel, stride, side(getattr(module, "dilation", 1)))
    assert isinstance(module, nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d)
    stride = before.shape[-1] // after.shape[-1]
    kernel = before.shape[-1] - (after.shape[-1] - 1) * stride
    return Window("adaptive", f"to {after.shape[-1]}x{after.shape[-1]}", max(1, kernel), max(1, stride))


def side(size: Any) -> int:
    """Return the side of a square kernel, stride or padding."""
    return int(size[0] if isinstance(size, tuple) else size)


def output_side(size: int, *, kernel: int, stride: int, pad: int) -> tuple[int, int]:
    """Return the outputs per side, (size - kernel + 2 pad) / stride + 1 rounded down, and the unused pixels at the far edge."""
    span = size - kernel + 2 * pad
    return span // stride + 1, span % stride
