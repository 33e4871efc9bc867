"""Widths of nets whose activation takes several channels for each one that it gives: as written, or to the same parameter count."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from bakeoff.errors import ArgumentError, check_argument, join_choices
from bakeoff.nets.net_spec import NetSpec

MATCHES = ("parameters", "width")
TOLERANCE = 0.02


def channel_expansion(activation: nn.Module) -> tuple[int, str]:
    """Return an activation's `expansion` (channels in per channel out) and `match` (what is kept the same).

    A module without these attributes has an expansion of 1 and matches the width.

    Args:
        activation: the activation module.

    Returns:
        The expansion, and "parameters" or "width".

    Raises:
        ArgumentError: an attribute is out of its range.
    """
    expansion, match = getattr(activation, "expansion", 1), getattr(activation, "match", "width")
    name = type(activation).__name__
    fits = isinstance(expansion, int) and not isinstance(expansion, bool) and expansion >= 1
    rule = f"{name} must take a whole number of channels, 1 or more, for each that it gives"
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

    The count grows with the width, so bisection between width / expansion (never more parameters) and width (never fewer) ends at the
    two widths next to the wanted count, of which the nearer is taken.

    Args:
        spec: the net as written, with an expansion above 1.
        net: name of the net for the message.

    Returns:
        The net with another width.

    Raises:
        ArgumentError: the net is too narrow to come so near.
    """
    wanted = count_parameters(dataclasses.replace(spec, activation=nn.Identity, expansion=1))
    bounds = [spec.width / spec.expansion, spec.width]
    while bounds[1] - bounds[0] > 1e-5 * spec.width:
        middle = sum(bounds) / 2
        bounds[count_parameters(dataclasses.replace(spec, width=middle)) > wanted] = middle
    candidates = [dataclasses.replace(spec, width=width) for width in bounds]
    nearest = min(candidates, key=lambda candidate: abs(count_parameters(candidate) - wanted))
    count = count_parameters(nearest)
    if abs(count - wanted) > TOLERANCE * wanted:
        raise ArgumentError(
            f"match=parameters: no width of {net} comes within 2 % of {wanted:,} parameters (nearest: {count:,}); "
            f"take match=width or a `width` above {spec.width:g}"
        )
    return nearest
