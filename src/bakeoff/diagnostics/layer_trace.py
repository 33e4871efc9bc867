"""The layers of a net with weights, in the order of the forward pass, each with the activation that follows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from bakeoff.components.activations import ReGLU, ScaledTanh

ONE_SIDED = (nn.ReLU, nn.ReLU6, nn.Hardswish, ReGLU)
"""Activations that are exactly zero on a half line, so that units can be dead."""
SATURATION = 0.97
"""A sigmoid or tanh is saturated beyond this share of its range: abs(tanh) > 0.97, sigmoid outside [0.03, 0.97]."""


@dataclass(frozen=True)
class TracedLayer:
    """A layer with weights, named by position and kind (`02_conv2`); `output_module` is the activation after it, or the layer itself."""

    name: str
    module: nn.Module
    output_module: nn.Module

    @property
    def weight(self) -> nn.Parameter:
        """The layer's weights, without its biases."""
        assert isinstance(self.module.weight, nn.Parameter)
        return self.module.weight

    @property
    def one_sided(self) -> bool:
        """Whether its units can be dead."""
        return isinstance(self.output_module, ONE_SIDED)

    @property
    def limits(self) -> tuple[float, float] | None:
        """(smallest, largest) output that is not saturated; None for an activation that does not saturate."""
        if isinstance(self.output_module, nn.Sigmoid):
            return 1 - SATURATION, SATURATION
        if isinstance(self.output_module, nn.Tanh):
            return -SATURATION, SATURATION
        if isinstance(self.output_module, ScaledTanh):
            return -SATURATION * self.output_module.amplitude, SATURATION * self.output_module.amplitude
        return None


def weighted_modules(net: nn.Module) -> list[nn.Module]:
    """Return every module that has a weight of two or more dimensions of its own: convolutions and fully connected layers."""
    weights = ((module, getattr(module, "weight", None)) for module in net.modules())
    return [module for module, weight in weights if isinstance(weight, nn.Parameter) and weight.ndim >= 2]


def trace_layers(net: nn.Module, images: Tensor, *, activation: type[nn.Module]) -> list[TracedLayer]:
    """Return a net's layers with weights in the order of a forward pass on images `(n >= 2, C, H, W)`, which does not change the net.

    A module of class `activation` belongs to the layer with weights before it. An activation that is called several times is ignored.
    """
    weighted = weighted_modules(net)
    hooked = [*weighted, *(module for module in net.modules() if isinstance(module, activation) and module not in weighted)]
    calls: list[nn.Module] = []
    with side_effect_free(net), ExitStack() as hooks:
        for module in hooked:
            hooks.callback(module.register_forward_hook(lambda module, *_: calls.append(module)).remove)
        net.forward(images)
    layers: list[TracedLayer] = []
    counts: dict[str, int] = {}
    for position, module in enumerate(calls):
        if module not in weighted or module in calls[:position]:
            continue
        kind = layer_kind(module)
        counts[kind] = counts.get(kind, 0) + 1
        follower = calls[position + 1] if position + 1 < len(calls) else module
        output_module = follower if follower not in weighted and calls.count(follower) == 1 else module
        layers.append(TracedLayer(f"{len(layers) + 1:02}_{kind}{counts[kind]}", module, output_module))
    return layers


def layer_kind(module: nn.Module) -> str:
    """Return `conv`, `fc`, or the name of the module's class in lower case."""
    if isinstance(module, _ConvNd):
        return "conv"
    return "fc" if isinstance(module, nn.Linear) else type(module).__name__.lower()


@contextmanager
def side_effect_free(net: nn.Module, *, grad: bool = False) -> Iterator[None]:
    """Run a block in which forward passes of `net` have no side effects: no dropout, no random draw, no update of running statistics.

    Batch norm normalizes by the batch, as in training, and SyncBatchNorm by the batch of this rank only. The running statistics are
    removed during the block, so that they stay unchanged to the bit. Call `net.forward`, which bypasses a compiled net.
    """
    norms = [module for module in net.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    statistics = [(norm, norm.running_mean, norm.running_var) for norm in norms]
    modes = [(module, module.training) for module in net.modules()]
    try:
        for module, _ in modes:
            module.training = False
        for norm in norms:
            norm.running_mean = norm.running_var = None
        with torch.set_grad_enabled(grad):
            yield
    finally:
        for norm, mean, variance in statistics:
            norm.running_mean, norm.running_var = mean, variance
        for module, mode in modes:
            module.training = mode


@contextmanager
def output_hooks(layers: list[TracedLayer], on_output: Callable[[TracedLayer, Tensor], None]) -> Iterator[None]:
    """Call `on_output(layer, outputs)` for every layer of each forward pass within the block."""
    with ExitStack() as hooks:
        for layer in layers:

            def hook(module: nn.Module, inputs: object, outputs: Tensor, layer: TracedLayer = layer) -> None:
                on_output(layer, outputs.detach())

            hooks.callback(layer.output_module.register_forward_hook(hook).remove)
        yield
