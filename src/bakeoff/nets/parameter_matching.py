"""Widths of nets whose activation maps several channels to one: as written, or matched to the parameter count of a plain activation."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from bakeoff.errors import ArgumentError, check_argument, join_choices
from bakeoff.nets.net_spec import NetSpec

MATCHES = ("parameters", "width")
TOLERANCE = 0.02


def channel_expansion(activation: nn.Module) -> tuple[int, str]:
    """Return an activation's `expansion` (input channels per output channel) and `match` ("parameters" or "width").

    They default to 1 and "width". An ArgumentError is raised if either is out of range.
    """
    expansion, match = getattr(activation, "expansion", 1), getattr(activation, "match", "width")
    name = type(activation).__name__
    fits = isinstance(expansion, int) and not isinstance(expansion, bool) and expansion >= 1
    rule = f"{name} must be a whole number of input channels per output channel, 1 or more"
    check_argument("expansion", expansion, fits=fits, rule=rule)
    check_argument("match", match, fits=match in MATCHES, rule=f"{name} has no such match; choices: {join_choices(MATCHES)}")
    return expansion, match


def count_parameters(spec: NetSpec) -> int:
    """Return the number of parameters of a net, counted on the meta device."""
    with torch.device("meta"):
        modules = (spec.make_features(), spec.make_classifier())
    return sum(weight.numel() for module in modules for weight in module.parameters())


def match_parameters(spec: NetSpec, *, net: str) -> NetSpec:
    """Scale a net's width so that it has the parameters of the same net with an activation of expansion 1, within 2 %.

    The count grows with the width: bisection between width / expansion (at most as many parameters) and width (at least as many) ends
    at the two nearest widths, of which the closer is taken. An ArgumentError, which names `net`, is raised if the net is too narrow.
    """
    target = count_parameters(dataclasses.replace(spec, activation=nn.Identity, expansion=1))
    bounds = [spec.width / spec.expansion, spec.width]
    while bounds[1] - bounds[0] > 1e-5 * spec.width:
        middle = sum(bounds) / 2
        bounds[count_parameters(dataclasses.replace(spec, width=middle)) > target] = middle
    candidates = [dataclasses.replace(spec, width=width) for width in bounds]
    nearest = min(candidates, key=lambda candidate: abs(count_parameters(candidate) - target))
    count = count_parameters(nearest)
    if abs(count - target) > TOLERANCE * target:
        raise ArgumentError(
            f"match=parameters: no width of {net} comes within 2 % of {target:,} parameters (nearest: {count:,}); "
            f"set match=width or a `width` above {spec.width:g}"
        )
    return nearest
