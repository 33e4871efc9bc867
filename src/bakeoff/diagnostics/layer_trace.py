"""A net taken apart: its layers with weights in the order of the forward pass, each with the activation behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from bakeoff.components.activations import ReGLU, ScaledTanh

#: Activations that give exactly zero on a half line of their input: what "dead" is said of.
ONE_SIDED = (nn.ReLU, nn.ReLU6, nn.Hardswish, ReGLU)
SATURATION = 0.97
"""Share of its range beyond which a sigmoid or a tanh counts as saturated: abs(tanh) > 0.97, sigmoid outside [0.03, 0.97]."""


@dataclass(frozen=True)
class Layer:
    """One layer with weights. `name` is its place and kind, `02_conv2`; `seen` gives its outputs: the activation behind it, or itself."""

    name: str
    module: nn.Module
    seen: nn.Module

    @property
    def label(self) -> str:
        """`conv2`."""
        return self.name.partition("_")[2]

    @property
    def weight(self) -> nn.Parameter:
        """The layer's weights, without its biases."""
        assert isinstance(self.module.weight, nn.Parameter)
        return self.module.weight

    @property
    def one_sided(self) -> bool:
        """Whether its units can be dead."""
        return isinstance(self.seen, ONE_SIDED)

    @property
    def limits(self) -> tuple[float, float] | None:
        """(least, greatest) output that is not saturated; None for an activation without such ends."""
        if isinstance(self.seen, nn.Sigmoid):
            return 1 - SATURATION, SATURATION
        if isinstance(self.seen, nn.Tanh):
            return -SATURATION, SATURATION
        if isinstance(self.seen, ScaledTanh):
            return -SATURATION * self.seen.amplitude, SATURATION * self.seen.amplitude
        return None


def weighted(net: nn.Module) -> list[nn.Module]:
    """Every module that has a weight of two or more dimensions of its own: convolutions and fully connected layers."""
    found = []
    for module in net.modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, nn.Parameter) and weight.ndim >= 2:
            found.append(module)
    return found


def trace_layers(net: nn.Module, images: Tensor, *, activation: type[nn.Module]) -> list[Layer]:
    """The layers of `net` in the order in which a forward pass of `images` [n >= 2, C, H, W] meets them, which changes nothing in it.

    An activation belongs to the layer with weights before it; one that is used at several places cannot be told apart and is left out.
    """
    met: list[nn.Module] = []
    weights = weighted(net)
    watched = [*weights, *(module for module in net.modules() if isinstance(module, activation) and module not in weights)]
    with side_effect_free(net), ExitStack() as hooks:
        for module in watched:
            hooks.callback(module.register_forward_hook(lambda module, *_: met.append(module)).remove)
        net.forward(images)
    found: list[Layer] = []
    counts: dict[str, int] = {}
    for place, module in enumerate(met):
        if module not in weights or module in met[:place]:
            continue
        kind = kind_of(module)
        counts[kind] = counts.get(kind, 0) + 1
        behind = next((other for other in met[place + 1 :]), None)
        seen = behind if behind is not None and behind not in weights and met.count(behind) == 1 else module
        found.append(Layer(f"{len(found) + 1:02}_{kind}{counts[kind]}", module, seen))
    return found


def kind_of(module: nn.Module) -> str:
    """`conv`, `fc`, or the name of the module's class."""
    if isinstance(module, _ConvNd):
        return "conv"
    return "fc" if isinstance(module, nn.Linear) else type(module).__name__.lower()


@contextmanager
def side_effect_free(net: nn.Module, *, grad: bool = False) -> Iterator[None]:
    """Forward passes of `net` that leave no trace: no dropout, nothing drawn at random, running statistics untouched.

    Batch norm works on the batch that it is given, as it does in training, and SyncBatchNorm on this rank's alone: its buffers are out of
    reach meanwhile, so that neither a nan nor a rounding can get into them. `net.forward` goes round a compiled net.
    """
    norms = [module for module in net.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    kept = [(norm, norm.running_mean, norm.running_var) for norm in norms]
    modes = [(module, module.training) for module in net.modules()]
    try:
        for module, _ in modes:
            module.training = False
        for norm in norms:
            norm.running_mean = norm.running_var = None
        with torch.set_grad_enabled(grad):
            yield
    finally:
        for norm, mean, variance in kept:
            norm.running_mean, norm.running_var = mean, variance
        for module, mode in modes:
            module.training = mode


@contextmanager
def listening(layers: list[Layer], heard: Callable[[Layer, Tensor], None]) -> Iterator[None]:
    """Calls `heard(layer, outputs)` for every layer that a forward pass goes through in this block."""
    with ExitStack() as hooks:
        for layer in layers:

            def hook(module: nn.Module, inputs: object, outputs: Tensor, layer: Layer = layer) -> None:
                heard(layer, outputs.detach())

            hooks.callback(layer.seen.register_forward_hook(hook).remove)
        yield
