"""Initializers that start from orthogonal matrices: flattened kernels, the centre tap alone, and scaled by a batch of data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bakeoff.components.initializers.base import WEIGHTED_LAYERS, ConstantBias, Fans, GainScaled, Initializer, check_whole, weighted_layers
from bakeoff.errors import ArgumentError


@dataclass(frozen=True, kw_only=True)
class Orthogonal(GainScaled):
    """gain times a random matrix [out, in * kernel] with orthonormal rows or columns: Saxe et al. (arXiv:1312.6120)."""

    def fill(self, weight: Tensor, *, fans: Fans, gain: float, generator: torch.Generator) -> None:
        """Draw an orthogonal matrix, times gain."""
        nn.init.orthogonal_(weight, gain, generator=generator)


@dataclass(frozen=True, kw_only=True)
class DeltaOrthogonal(GainScaled):
    """gain times an orthogonal matrix at the centre tap of each kernel, 0 at all others: Xiao et al. (arXiv:1806.05393), algorithm 1.

    Where out >= in, its columns are orthonormal, so that a convolution of stride 1 scales the norm of every signal by gain. Where
    out < in, its rows are orthonormal instead, and only out of the signal's in dimensions are kept. Each group of a grouped
    convolution gets its own matrix; a linear layer is initialized as by Orthogonal. A kernel of even side has no centre and raises
    ArgumentError.
    """

    def fill(self, weight: Tensor, *, fans: Fans, gain: float, generator: torch.Generator) -> None:
        """Draw an orthogonal matrix for the centre tap of each group."""
        kernel = tuple(weight.shape[2:])
        if any(side % 2 == 0 for side in kernel):
            raise ArgumentError(f"DeltaOrthogonal needs kernels of odd side, which have a centre; this net has one of {kernel}")
        rows = fans.fan_out // math.prod(kernel)
        matrix = torch.empty(weight.shape[:2])
        for start in range(0, len(matrix), rows):
            nn.init.orthogonal_(matrix[start : start + rows], gain, generator=generator)
        # Of an odd number of taps in a row, the middle one is the centre.
        weight.zero_().view(*weight.shape[:2], -1)[..., math.prod(kernel) // 2] = matrix


@dataclass(frozen=True, kw_only=True)
class LSUV(ConstantBias):
    """Layer-sequential unit variance: Mishkin, Matas, "All you need is a good init" (arXiv:1511.06422).

    Weights are orthogonal; each layer is then divided by the standard deviation of its own outputs on a batch of training images,
    from the first layer to the last. The variance is taken over images, units and positions together, before the activation. A
    layer is linear in its weights and all its biases are equal, so that a single division yields a variance of exactly 1, where the
    paper iterates until it is within 0.1. One forward pass does it, in the order in which the layers run; batch norms use the
    batch's statistics and keep their own, dropout is off. A layer whose outputs are constant or not finite raises ArgumentError.
    """

    needs_images: ClassVar[bool] = True
    images: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("images", self.images, low=2)

    def fill(self, weight: Tensor, *, fans: Fans, gain: float, generator: torch.Generator) -> None:
        """Draw an orthogonal matrix."""
        nn.init.orthogonal_(weight, generator=generator)

    @torch.no_grad()
    def __call__(
        self, net: nn.Module, *, activation_gain: float, generator: torch.Generator, images: Tensor | None = None
    ) -> Mapping[str, str] | None:
        """Fill `net` in place by the variances on `images`, float32 (N, C, S, S); see `Initializer.__call__`."""
        assert images is not None, "an initializer with needs_images gets them from its caller"
        Initializer.__call__(self, net, activation_gain=activation_gain, generator=generator)
        names = {layer: name for name, layer in net.named_modules()}
        scaled: set[nn.Module] = set()

        def divide_by_std(layer: nn.Module, _: Any, output: Tensor) -> Tensor | None:
            assert isinstance(layer, WEIGHTED_LAYERS)
            if layer in scaled:
                return None
            scaled.add(layer)
            std = float(output.double().std())
            if not (math.isfinite(std) and std > 0):
                raise ArgumentError(f"LSUV cannot scale {names[layer]}: its outputs have a standard deviation of {std}")
            layer.weight.div_(std)
            return (output - self.bias) / std + self.bias

        parameter = next(net.parameters())
        modes = {module: module.training for module in net.modules()}
        buffers = {buffer: buffer.clone() for buffer in net.buffers()}
        handles = [layer.register_forward_hook(divide_by_std) for layer in weighted_layers(net)]
        try:
            for module in net.eval().modules():
                if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
                    module.train()
            net(images.to(parameter.device, parameter.dtype))
        finally:
            for handle in handles:
                handle.remove()
            for module, mode in modes.items():
                module.training = mode
            for buffer, before in buffers.items():
                buffer.copy_(before)
        return None
