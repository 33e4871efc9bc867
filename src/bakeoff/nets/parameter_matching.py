"""Widths of nets whose activation takes several channels for each that it gives: as written, or to the same number of parameters."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from bakeoff.errors import ChoiceError, join_choices
from bakeoff.nets.layer_table import Layout

MATCHES = ("parameters", "width")
TOLERANCE = 0.02


def channel_expansion(activation: nn.Module) -> tuple[int, str]:
    """(channels in per channel out, what is kept the same) of an activation: its attributes `expansion` and `match`, 1 and width if absent.

    Raises ChoiceError where an attribute is out of its range.
    """
    expansion, match = getattr(activation, "expansion", 1), getattr(activation, "match", "width")
    name = type(activation).__name__
    if isinstance(expansion, bool) or not isinstance(expansion, int) or expansion < 1:
        raise ChoiceError(
            f"activation.expansion={expansion}: {name} must take a whole number of channels, 1 or more, for each that it gives"
        )
    if match not in MATCHES:
        raise ChoiceError(f"activation.match={match}: {name} has no such match; choices: {join_choices(MATCHES)}")
    return expansion, match


def parameters(layout: Layout) -> int:
    """Parameters of the net of a layout, counted on the meta device."""
    with torch.device("meta"):
        modules = (layout.features(), layout.classifier())
    return sum(weight.numel() for module in modules for weight in module.parameters())


def matched(layout: Layout, *, net: str) -> Layout:
    """The layout with its width scaled so that it has the parameters of the same net with an activation of expansion 1, within 2 %.

    With the count growing in the width, bisection between width / expansion (never more parameters) and width (never fewer) ends at the
    two widths next to the number wanted, of which the nearer is taken. Errors: ChoiceError where the net is too narrow to come so near.
    """
    wanted = parameters(dataclasses.replace(layout, activation=nn.Identity, expansion=1))
    ends = [layout.width / layout.expansion, layout.width]
    while ends[1] - ends[0] > 1e-5 * layout.width:
        middle = sum(ends) / 2
        ends[parameters(dataclasses.replace(layout, width=middle)) > wanted] = middle
    near = min((dataclasses.replace(layout, width=width) for width in ends), key=lambda made: abs(parameters(made) - wanted))
    found = parameters(near)
    if abs(found - wanted) > TOLERANCE * wanted:
        raise ChoiceError(
            f"activation.match=parameters: no width of {net} comes within 2 % of {wanted:,} parameters (nearest: {found:,}); "
            f"take activation.match=width or a model.width above {layout.width:g}"
        )
    return near
