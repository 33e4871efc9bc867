"""How wide the good region of a positive setting is, such as a learning rate, and what a wrong value costs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bakeoff.stats.scores import Array

#: Decades to either side within which the best trial stands for a value, where other settings varied as well.
NEIGHBOURHOOD = 0.25
#: The factor between the best value and the two whose cost is reported.
FACTOR = 3.0


@dataclass(frozen=True)
class GoodRegion:
    """The region around the best value in which scores are nearly as good.

    Attributes:
        n: number of trials.
        best: the value of the best trial.
        margin: how much worse than the best score the region allows.
        low: the lower end of the region.
        high: the upper end.
        width: its width in decades.
        open_low: whether it ends with what was tried, so that it may go on below.
        open_high: the same above.
        third: the loss in score at a third of the best value; None outside what was tried.
        triple: the same at three times the best value.
    """

    n: int
    best: float
    margin: float
    low: float
    high: float
    width: float
    open_low: bool
    open_high: bool
    third: float | None
    triple: float | None


def good_region(values: Array, scores: Array, *, margin: float, sole_key: bool) -> GoodRegion:
    """Find where the loss against the best trial stays within a margin, on the logarithm of the values.

    The best of noisy scores is flattered, so losses are rather too large.

    Args:
        values: the value of each trial, positive, `(n,)`.
        scores: their scores, larger is better, finite, `(n,)`.
        margin: the loss that is allowed.
        sole_key: whether nothing else varied: then scores are interpolated between trials, else the best trial within `NEIGHBOURHOOD`
            stands for a value.
    """
    logs = np.log10(values)
    if sole_key:
        order = np.argsort(logs, kind="stable")
        places, losses = logs[order], scores.max() - scores[order]
    else:
        places = np.unique(logs)
        losses = np.array([scores.max() - scores[np.abs(logs - place) <= NEIGHBOURHOOD].max() for place in places])
    peak = float(logs[int(np.argmax(scores))])
    low, high = (_region_end(places, losses, peak, margin, side) for side in (-1, 1))
    third, triple = (_loss_at(places, losses, peak + side * math.log10(FACTOR)) for side in (-1, 1))
    is_open = bool(low <= places[0]), bool(high >= places[-1])
    return GoodRegion(len(scores), 10**peak, margin, 10**low, 10**high, high - low, *is_open, third, triple)


def _region_end(places: Array, losses: Array, peak: float, margin: float, side: int) -> float:
    """Where the interpolated loss first exceeds the margin, going out from the peak to one side."""
    outer = np.flatnonzero(side * (places - peak) >= 0)[::side]
    last_place, last_loss = peak, 0.0
    for place, loss in zip(map(float, places[outer]), map(float, losses[outer]), strict=True):
        if loss > margin:
            return last_place + (margin - last_loss) / (loss - last_loss) * (place - last_place)
        last_place, last_loss = place, loss
    return last_place


def _loss_at(places: Array, losses: Array, place: float) -> float | None:
    return float(np.interp(place, places, losses)) if places[0] <= place <= places[-1] else None
