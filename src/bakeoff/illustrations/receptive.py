"""Shapes, parameters, strides and receptive fields of every layer of a net, read from the net as it is built."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bakeoff import builders
from bakeoff.config.schema import RunConfig

CONVOLVED = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
NORMS = (nn.LocalResponseNorm, nn.BatchNorm2d)


@dataclass(frozen=True)
class Layer:
    """One layer: its name and settings, output shape without the batch, parameters, stride in input pixels, and receptive field.

    `field` is the side in pixels of what one output sees, padding included; None where it sees the whole image.
    """

    name: str
    settings: str
    shape: tuple[int, ...]
    parameters: int
    stride: int | None
    field: int | None


def layers(run: RunConfig) -> list[Layer]:
    """Convolutions, poolings, norms and linear layers of a run's net in the order in which images pass; no weight is ever allocated.

    With j the distance in input pixels between neighbouring outputs, kernel k and dilation d, a layer adds (k - 1) d j to the
    receptive field and multiplies j by its stride: Araujo, Norris, Sim, Computing Receptive Fields of CNNs (Distill, 2019).
    """
    data = run.data
    with torch.device("meta"):
        net = builders.make_uninitialized_model(run).eval()
        images = torch.empty(1, data.channels, data.size, data.size)
    found: list[Layer] = []
    state = {"field": 1, "stride": 1}
    counts: dict[str, int] = {}

    def seen(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        kind, settings, kernel, stride, dilation = described(module, inputs[0], output)
        counts[kind] = counts.get(kind, 0) + 1
        if kernel is not None:
            state["field"] += (kernel - 1) * dilation * state["stride"]
            state["stride"] *= stride
        spatial = output.ndim == 4
        found.append(
            Layer(
                f"{kind}{counts[kind]}", settings, tuple(output.shape[1:]), sum(p.numel() for p in module.parameters()),
                state["stride"] if spatial else None, state["field"] if spatial else None,
            )
        )  # fmt: skip

    wanted = (*CONVOLVED, *NORMS, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Linear)
    hooks = [module.register_forward_hook(seen) for module in net.modules() if isinstance(module, wanted)]
    try:
        with torch.no_grad():
            net(images)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def described(module: nn.Module, before: Tensor, after: Tensor) -> tuple[str, str, int | None, int, int]:
    """(kind, settings in words, kernel or None where it mixes no places, stride, dilation) of a layer."""
    if isinstance(module, nn.Linear):
        return "fc", f"{module.in_features} -> {module.out_features}", None, 1, 1
    if isinstance(module, nn.LocalResponseNorm):
        return "lrn", f"over {module.size} channels", None, 1, 1
    if isinstance(module, nn.BatchNorm2d):
        return "norm", f"of {module.num_features} channels", None, 1, 1
    if isinstance(module, CONVOLVED):
        kernel, stride, pad = (one(getattr(module, name)) for name in ("kernel_size", "stride", "padding"))
        dilation = one(getattr(module, "dilation", 1))
        groups = f", {module.groups} groups" if isinstance(module, nn.Conv2d) and module.groups > 1 else ""
        padded = f", pad {pad}" if pad else ""
        return "conv" if isinstance(module, nn.Conv2d) else "pool", f"{kernel}x{kernel}/{stride}{padded}{groups}", kernel, stride, dilation
    assert isinstance(module, nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d)
    # Each place of the output takes this many pixels of the input, as far apart as this.
    stride = before.shape[-1] // after.shape[-1]
    kernel = before.shape[-1] - (after.shape[-1] - 1) * stride
    return "adaptive", f"to {after.shape[-1]}x{after.shape[-1]}", max(1, kernel), max(1, stride), 1


def one(size: Any) -> int:
    """The side of a square kernel, stride or padding."""
    return int(size[0] if isinstance(size, tuple) else size)


def reached(size: int, *, kernel: int, stride: int, pad: int) -> tuple[int, int]:
    """(places of the output a side, pixels at the far edge that no place reaches): (W - F + 2 P) / S + 1, rounded down."""
    places = math.floor((size - kernel + 2 * pad) / stride) + 1
    return places, (size - kernel + 2 * pad) % stride
