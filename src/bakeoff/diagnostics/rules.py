"""Named diagnoses of a run: rules over its curves and readings, each told with the run's own figure and the one it is held against.

The limits are this project's own, set where healthy runs of AlexNet and VGG stay well clear of them and provoked illnesses do not.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from bakeoff.diagnostics.layer_stats import Reading

UNLEARNT = 0.5
"""Of the loss of guessing: above it a net has little behind it, and its gradients and steps have no reason to be small yet."""
DEAD, SATURATED = 0.8, 0.5
VANISHED, EXPLODED = 1e-4, 1e4
"""Of `gradient_share`, in the layer where it is least and greatest; healthy nets start between 0.5 and 300."""
FADED = 1e-3
"""Of `gradient_share` in the layer where it is least, over that where it is greatest."""
STUCK = (0.98, 1.15)
"""Of the loss of guessing, from and to; what lies above has not got as far as guessing."""
PATIENCE = 100
"""Steps that a net is given to leave the loss of guessing: momentum 0.9 needs 20 to come to its full stride, warm-up comes on top."""
RISEN = 0.1
"""Of the loss of guessing: the rise of the validation loss above its least that counts as overfitting."""
STRIDE = 0.1
"""Of the weights' own size: a step as long as that overshoots; healthy ones are about a thousandth."""
JOURNEY = 0.03
"""Of the weights' own size: the way that all steps together must be able to go."""
CREEP = 1e-4
"""Of the weights' own size: a step a tenth of the usual thousandth. Longer ones that do not get far are too few, not too small."""
SETTLED = 0.5
"""Of the run: from then on a net that still guesses is stuck."""

NAMES = (
    "diverging",
    "lr_too_large",
    "exploding_gradients",
    "vanishing_gradients",
    "dead_relus",
    "saturated",
    "lr_too_small",
    "stuck_at_guessing",
    "overfitting",
)
"""Every diagnosis; a run's tag is `diagnosis.<name>`."""


@dataclass(frozen=True)
class Diagnosis:
    """One finding: its name, what was seen in one sentence, and the step at which it was first seen."""

    name: str
    text: str
    step: int


@dataclass
class History:
    """What is known of a run so far. `limit`: trainer.divergence; curves are step -> value; `probe`: images that readings look at."""

    guessing: float
    classes: int
    total: int
    probe: int
    limit: float | None = None
    diverged: str | None = None
    readings: list[Reading] = field(default_factory=list)
    curves: dict[str, dict[int, float]] = field(default_factory=dict)

    def curve(self, name: str) -> dict[int, float]:
        """Step -> value of a metric, empty where there is none."""
        return self.curves.get(name, {})

    def heard(self, values: dict[str, float], step: int) -> None:
        """A point of the run's curves."""
        for name, value in values.items():
            self.curves.setdefault(name, {})[step] = value

    @property
    def step(self) -> int:
        """The newest step that anything is known of."""
        return max([0, *(r.step for r in self.readings), *(step for curve in self.curves.values() for step in curve)])

    def loss_at(self, step: int) -> float:
        """The training loss last told at or before a step; that of guessing where none was."""
        told = [at for at in self.curve("train/loss") if at <= step]
        return self.curve("train/loss")[max(told)] if told else self.guessing

    def unlearnt(self, reading: Reading) -> bool:
        """Whether the training loss at a reading, and at the next figure of it, is no number or still near that of guessing."""
        after = [at for at in self.curve("train/loss") if at >= reading.step]
        losses = [self.loss_at(reading.step), *([self.curve("train/loss")[min(after)]] if after else [])]
        return not any(loss <= UNLEARNT * self.guessing for loss in losses)


def diagnose(history: History) -> list[Diagnosis]:
    """All that is to be said of a run at this moment, in the order of NAMES; nothing for one that does well."""
    found: dict[str, Diagnosis] = {}
    for name in NAMES:
        told = RULES[name](history)
        # What another diagnosis explains is not told again as one of its own.
        if told is not None and not found.keys() & EXPLAINED.get(name, set()):
            found[name] = Diagnosis(name, told[0], told[1])
    return list(found.values())


EXPLAINED = {
    "exploding_gradients": {"diverging"},
    "vanishing_gradients": {"exploding_gradients"},
    "lr_too_small": {"vanishing_gradients", "dead_relus", "diverging", "lr_too_large"},
    "stuck_at_guessing": {"diverging"},
    "dead_relus": {"diverging"},
}
"""Diagnosis -> those that explain it."""

Told = tuple[str, int] | None


def percent(share: float) -> str:
    """`83 %`."""
    return f"{100 * share:.0f} %"


def layer(name: str) -> str:
    """`conv2` of `02_conv2`."""
    return name.partition("_")[2] or name


def _diverging(run: History) -> Told:
    reference = f"guessing gives {run.guessing:.3g}"
    if run.diverged is not None:
        return f"{run.diverged}; {reference}", run.step
    for step, loss in run.curve("train/loss").items():
        if not math.isfinite(loss):
            return f"train/loss is {loss} at step {step}; {reference}", step
    limit = run.limit or 10.0
    told = run.curve("train/loss")
    if told and told[max(told)] > limit * run.guessing:
        return f"train/loss is {told[max(told)]:.3g} at step {max(told)}; {reference}", max(told)
    return None


def _lr_too_large(run: History) -> Told:
    told = run.curve("train/loss")
    worst = max(told.values(), default=0.0, key=lambda loss: loss if math.isfinite(loss) else math.inf)
    over = run.diverged is not None or not math.isfinite(worst)
    readings = [reading for reading in run.readings if reading.of("update_ratio")]
    if not over:
        # A first step may be long while an optimizer's moments start from zero, and a first loss a little above guessing is no overshoot:
        # what counts of a run that has a loss is how it stands now.
        readings = readings[-1:]
        over = bool(told) and told[max(told)] > STUCK[1] * run.guessing
    for reading in readings if over else []:
        middle = statistics.median(reading.of("update_ratio").values())
        if middle > STRIDE:
            first = f"train/loss went up to {worst:.3g}" if worst > run.guessing else "the run has diverged"
            text = f"the step at {reading.step} moves the weights by {middle:.2g} of their own size (healthy: about 0.001) and {first}"
            return f"{text}; guessing gives {run.guessing:.3g}", reading.step
    return None


def _exploding(run: History) -> Told:
    for reading in run.readings:
        shares = reading.of("gradient_share")
        if shares and (most := max(shares.values())) > EXPLODED:
            name = max(shares, key=lambda key: shares[key])
            norm = reading.layers[name]["gradient_norm"]
            text = f"the gradient of {layer(name)} has norm {norm:.3g} at step {reading.step}"
            return f"{text}: times the weights' norm {most:.3g} of the loss of guessing (healthy: 0.5 to 300)", reading.step
    return None


def _vanishing(run: History) -> Told:
    for reading in run.readings:
        shares = reading.of("gradient_share")
        if not shares or not run.unlearnt(reading):
            continue
        name = min(shares, key=lambda key: shares[key])
        least, most = shares[name], max(shares.values())
        if least < VANISHED or least < FADED * most:
            norm = reading.layers[name]["gradient_norm"]
            text = (
                f"the gradient of {layer(name)} has norm {norm:.2g} at step {reading.step}: times the weights' norm {least:.2g} of the loss"
            )
            return f"{text} of guessing (healthy: 0.5 to 300), and {most:.2g} in the layer where it is greatest", reading.step
    return None


def _dead(run: History) -> Told:
    for reading in run.readings:
        shares = reading.of("dead")
        if shares and (most := max(shares.values())) >= DEAD:
            name = max(shares, key=lambda key: shares[key])
            text = f"{percent(most)} of the units of {layer(name)} give zero on all {run.probe} images of the probe at step {reading.step}"
            return f"{text} (healthy: under {percent(DEAD)})", reading.step
    return None


def _saturated(run: History) -> Told:
    for reading in run.readings:
        shares = reading.of("saturated")
        if shares and (most := max(shares.values())) >= SATURATED:
            name = max(shares, key=lambda key: shares[key])
            text = f"{percent(most)} of the outputs of {layer(name)} lie at the flat ends of its activation at step {reading.step}"
            return f"{text} (healthy: under {percent(SATURATED)})", reading.step
    return None


def _lr_too_small(run: History) -> Told:
    # The first half alone: schedules take the rate to zero at the end.
    early = [r for r in run.readings if 0 < r.step <= run.total / 2 and r.of("update_ratio")]
    if not early or run.step < run.total / 4 or not run.unlearnt(early[-1]):
        return None
    middle = statistics.median(statistics.median(r.of("update_ratio").values()) for r in early)
    if middle * run.total >= JOURNEY or middle >= CREEP:
        return None
    step = early[-1].step
    text = f"a step moves the weights by {middle:.2g} of their own size (healthy: about 0.001), all {run.total} steps by at most"
    return f"{text} {percent(middle * run.total) if middle * run.total > 0.01 else f'{middle * run.total:.1g}'}", step


def _stuck(run: History) -> Told:
    losses = run.curve("train/epoch_loss")
    step = max(losses, default=0)
    if not losses or step < SETTLED * run.total or run.loss_at(run.step) < STUCK[0] * run.guessing:
        return None
    # A few steps from its start a healthy net guesses too; a net that can be seen not to pass gradients on is not waited for.
    if run.step < PATIENCE and _vanishing(run) is None and _dead(run) is None:
        return None
    accuracy, chance = run.curve("train/epoch_accuracy").get(step, math.nan), 1 / run.classes
    # Twice chance, and of few classes a quarter of the way from chance to all right.
    better = chance + min(chance, (1 - chance) / 4)
    if not STUCK[0] <= losses[step] / run.guessing <= STUCK[1] or accuracy > better:
        return None
    text = f"train/epoch_loss is {losses[step]:.4g} after {step} of {run.total} steps; guessing gives {run.guessing:.4g}"
    return f"{text}, and an accuracy of {1 / run.classes:.2g} (here {accuracy:.2g})", step


def _overfitting(run: History) -> Told:
    losses, trained = run.curve("val/loss"), run.curve("train/epoch_loss")
    finite = {step: loss for step, loss in losses.items() if math.isfinite(loss) and step in trained}
    if len(finite) < 3:
        return None
    best, (before, last) = min(finite, key=lambda step: finite[step]), sorted(finite)[-2:]
    # One validation that is worse is a spike, which large rates and batch norm make in healthy runs; two in a row are a trend. What is
    # learnt by heart is known better than what was never seen: without that gap the rise has another cause.
    rise = min(finite[before], finite[last]) - finite[best]
    if rise < RISEN * run.guessing or not trained[last] < min(trained[best], finite[last]):
        return None
    text = f"val/loss rose from {finite[best]:.3g} at step {best} to {finite[last]:.3g} at step {last}"
    return f"{text} while train/epoch_loss fell from {trained[best]:.3g} to {trained[last]:.3g}; guessing gives {run.guessing:.3g}", last


RULES: dict[str, Callable[[History], Told]] = {
    "diverging": _diverging,
    "lr_too_large": _lr_too_large,
    "exploding_gradients": _exploding,
    "vanishing_gradients": _vanishing,
    "dead_relus": _dead,
    "saturated": _saturated,
    "lr_too_small": _lr_too_small,
    "stuck_at_guessing": _stuck,
    "overfitting": _overfitting,
}


def lines(found: list[Diagnosis]) -> Iterator[str]:
    """`dead_relus: 83 % of ...`, one a diagnosis."""
    return (f"{each.name}: {each.text}" for each in found)
