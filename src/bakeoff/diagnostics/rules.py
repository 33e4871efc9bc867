"""Named diagnoses of a run: rules over its curves and layer statistics, each with the run's value and a reference.

The limits were chosen for this project, so that healthy runs of AlexNet and VGG are far from them and provoked faults exceed them.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bakeoff.diagnostics.layer_stats import LayerStats

UNLEARNT = 0.5
"""Of the chance loss: above it a net has learnt little, so that small gradients or updates are a fault."""
DEAD, SATURATED = 0.8, 0.5
VANISHED, EXPLODED = 1e-4, 1e4
"""Of `gradient_share`, for its minimum and maximum over the layers; healthy nets start between 0.5 and 300."""
FADED = 1e-3
"""Of the minimum of `gradient_share` over the layers, divided by its maximum."""
AT_CHANCE = (0.98, 1.15)
"""Of the chance loss: between these a net guesses; above them it is worse than guessing."""
PATIENCE = 100
"""Steps in which a net should leave the chance loss: momentum 0.9 alone needs 20 to reach its full speed, and warm-up more."""
RISEN = 0.1
"""Of the chance loss: the rise of the validation loss above its minimum that counts as overfitting."""
OVERSHOOT = 0.1
"""Of the weights' norm: an update of this size overshoots; healthy ones are about a thousandth."""
TOTAL_UPDATE = 0.03
"""Of the weights' norm: the smallest sufficient distance of all updates together."""
TINY_UPDATE = 1e-4
"""Of the weights' norm: a tenth of the usual update. Runs with larger updates that do not learn have too few, not too small, updates."""
SETTLED = 0.5
"""Share of the run after which a net that guesses is stuck."""


@dataclass(frozen=True)
class Diagnosis:
    """The name of a fault (the run's tag is `diagnosis.<name>`), the evidence in a sentence, and the step at which it was first seen."""

    name: str
    text: str
    step: int


RuleResult = tuple[str, int] | None
"""(evidence in a sentence, step) if the rule applies."""


@dataclass
class RunHistory:
    """The curves and layer statistics of a run so far.

    `chance_loss` is the loss of equal scores for all classes; `divergence_limit` is trainer.divergence, `diverged` the reason why
    training stopped early; `curves` are metric -> step -> value; `layer_stats` are by ascending step.
    """

    chance_loss: float
    classes: int
    total_steps: int
    probe_images: int
    divergence_limit: float | None = None
    diverged: str | None = None
    layer_stats: list[LayerStats] = field(default_factory=list)
    curves: Mapping[str, Mapping[int, float]] = field(default_factory=dict)

    def curve(self, name: str) -> Mapping[int, float]:
        """Return step -> value of a metric; empty if it was never logged."""
        return self.curves.get(name, {})

    @property
    def last_step(self) -> int:
        """The latest step with a measurement or a metric."""
        return max([0, *(stats.step for stats in self.layer_stats), *(step for curve in self.curves.values() for step in curve)])

    def loss_at(self, step: int) -> float:
        """Return the latest training loss at or before a step, by default the chance loss."""
        losses = self.curve("train/loss")
        earlier_steps = [logged for logged in losses if logged <= step]
        return losses[max(earlier_steps)] if earlier_steps else self.chance_loss

    def is_unlearnt(self, step: int) -> bool:
        """Whether the training loss at a step, and the next one after it, is not finite or still near the chance loss."""
        losses = self.curve("train/loss")
        later_steps = [logged for logged in losses if logged >= step]
        nearby = [self.loss_at(step), *([losses[min(later_steps)]] if later_steps else [])]
        return not any(loss <= UNLEARNT * self.chance_loss for loss in nearby)


def diagnose(history: RunHistory) -> list[Diagnosis]:
    """Return every current diagnosis, in the order of `RULES`; none for a healthy run."""
    diagnoses: dict[str, Diagnosis] = {}
    for name, rule in RULES.items():
        result = rule(history)
        if result is not None and not diagnoses.keys() & EXPLAINED_BY.get(name, set()):
            diagnoses[name] = Diagnosis(name, *result)
    return list(diagnoses.values())


def percent(share: float) -> str:
    """Format a share: `83 %`."""
    return f"{100 * share:.0f} %"


def layer_label(name: str) -> str:
    """Return `conv2` for `02_conv2`."""
    return name.partition("_")[2] or name


def _chance(run: RunHistory) -> str:
    return f"chance loss: {run.chance_loss:.3g}"


def _first_above(run: RunHistory, stat: str, limit: float) -> tuple[LayerStats, str, float] | None:
    """Return the first statistics in which a layer reaches the limit, the layer with the maximum, and the maximum."""
    for stats in run.layer_stats:
        values = stats.by_layer(stat)
        if values and (greatest := max(values.values())) >= limit:
            return stats, max(values, key=lambda name: values[name]), greatest
    return None


def _diverging(run: RunHistory) -> RuleResult:
    losses = run.curve("train/loss")
    if run.diverged is not None:
        return f"{run.diverged} ({_chance(run)})", run.last_step
    for step, loss in losses.items():
        if not math.isfinite(loss):
            return f"train/loss is {loss} at step {step} ({_chance(run)})", step
    if losses and losses[step := max(losses)] > (run.divergence_limit or 10.0) * run.chance_loss:
        return f"train/loss is {losses[step]:.3g} at step {step} ({_chance(run)})", step
    return None


def _lr_too_large(run: RunHistory) -> RuleResult:
    losses = run.curve("train/loss")
    worst = max(losses.values(), default=0.0, key=lambda loss: loss if math.isfinite(loss) else math.inf)
    measured = [stats for stats in run.layer_stats if stats.by_layer("update_ratio")]
    if run.diverged is None and math.isfinite(worst):
        # First updates may be large while an optimizer's moments start from zero, and a first loss slightly above chance is not an
        # overshoot: for a run with finite losses only the latest values count.
        measured = measured[-1:] if losses and losses[max(losses)] > AT_CHANCE[1] * run.chance_loss else []
    for stats in measured:
        median = statistics.median(stats.by_layer("update_ratio").values())
        if median > OVERSHOOT:
            effect = f"train/loss rose to {worst:.3g}" if worst > run.chance_loss else "the run diverged"
            text = f"the update at step {stats.step} moves the weights by {median:.2g} of their norm (healthy: about 0.001)"
            return f"{text}, and {effect} ({_chance(run)})", stats.step
    return None


def _gradient_evidence(stats: LayerStats, layer: str) -> str:
    norm, share = (stats.layers[layer][stat] for stat in ("gradient_norm", "gradient_share"))
    text = f"the gradient of {layer_label(layer)} has norm {norm:.3g} at step {stats.step}"
    return f"{text}; times the norm of the weights this is {share:.3g} of the chance loss (healthy: 0.5 to 300)"


def _exploding_gradients(run: RunHistory) -> RuleResult:
    if (exceeded := _first_above(run, "gradient_share", EXPLODED)) is None:
        return None
    stats, name, _ = exceeded
    return _gradient_evidence(stats, name), stats.step


def _vanishing_gradients(run: RunHistory) -> RuleResult:
    for stats in run.layer_stats:
        shares = stats.by_layer("gradient_share")
        if not shares or not run.is_unlearnt(stats.step):
            continue
        name = min(shares, key=lambda key: shares[key])
        least, greatest = shares[name], max(shares.values())
        if least < VANISHED or least < FADED * greatest:
            return f"{_gradient_evidence(stats, name)}, against a maximum of {greatest:.2g} over the layers", stats.step
    return None


def _share_above(run: RunHistory, stat: str, limit: float, *, parts: str, fault: str) -> RuleResult:
    if (exceeded := _first_above(run, stat, limit)) is None:
        return None
    stats, name, share = exceeded
    text = f"{percent(share)} of the {parts} of {layer_label(name)} are {fault} at step {stats.step}"
    return f"{text} (healthy: under {percent(limit)})", stats.step


def _dead_relus(run: RunHistory) -> RuleResult:
    return _share_above(run, "dead", DEAD, parts="units", fault=f"zero on all {run.probe_images} probe images")


def _saturated(run: RunHistory) -> RuleResult:
    return _share_above(run, "saturated", SATURATED, parts="outputs", fault="at the flat ends of its activation")


def _lr_too_small(run: RunHistory) -> RuleResult:
    # Only the first half, since schedules reduce the rate to zero at the end.
    early = [stats for stats in run.layer_stats if 0 < stats.step <= run.total_steps / 2 and stats.by_layer("update_ratio")]
    if not early or run.last_step < run.total_steps / 4 or not run.is_unlearnt(early[-1].step):
        return None
    median = statistics.median(statistics.median(stats.by_layer("update_ratio").values()) for stats in early)
    total = median * run.total_steps
    if total >= TOTAL_UPDATE or median >= TINY_UPDATE:
        return None
    text = f"an update moves the weights by {median:.2g} of their norm (healthy: about 0.001), and all {run.total_steps} updates by at most"
    return f"{text} {percent(total) if total > 0.01 else f'{total:.1g}'}", early[-1].step


def _stuck_at_guessing(run: RunHistory) -> RuleResult:
    losses = run.curve("train/epoch_loss")
    step = max(losses, default=0)
    if not losses or step < SETTLED * run.total_steps or run.loss_at(run.last_step) < AT_CHANCE[0] * run.chance_loss:
        return None
    # A healthy net guesses too in its first steps, but not one with vanishing gradients or dead units.
    if run.last_step < PATIENCE and _vanishing_gradients(run) is None and _dead_relus(run) is None:
        return None
    accuracy, chance = run.curve("train/epoch_accuracy").get(step, math.nan), 1 / run.classes
    # Twice chance, or with few classes a quarter of the way from chance to 100 %.
    better = chance + min(chance, (1 - chance) / 4)
    if not AT_CHANCE[0] <= losses[step] / run.chance_loss <= AT_CHANCE[1] or accuracy > better:
        return None
    text = f"train/epoch_loss is {losses[step]:.4g} after {step} of {run.total_steps} steps (chance loss: {run.chance_loss:.4g})"
    return f"{text}, and the accuracy is {accuracy:.2g} (chance: {chance:.2g})", step


def _overfitting(run: RunHistory) -> RuleResult:
    train_losses = run.curve("train/epoch_loss")
    val_losses = {step: loss for step, loss in run.curve("val/loss").items() if math.isfinite(loss) and step in train_losses}
    if len(val_losses) < 3:
        return None
    best, (previous, last) = min(val_losses, key=lambda step: val_losses[step]), sorted(val_losses)[-2:]
    # A single worse validation is a spike, which large rates and batch norm cause in healthy runs; two in a row are a trend. A net that
    # memorizes does better on its training images than on others; without that gap the rise has another cause.
    rise = min(val_losses[previous], val_losses[last]) - val_losses[best]
    if rise < RISEN * run.chance_loss or not train_losses[last] < min(train_losses[best], val_losses[last]):
        return None
    text = f"val/loss rose from {val_losses[best]:.3g} at step {best} to {val_losses[last]:.3g} at step {last}"
    return f"{text} while train/epoch_loss fell from {train_losses[best]:.3g} to {train_losses[last]:.3g} ({_chance(run)})", last


RULES: dict[str, Callable[[RunHistory], RuleResult]] = {
    "diverging": _diverging,
    "lr_too_large": _lr_too_large,
    "exploding_gradients": _exploding_gradients,
    "vanishing_gradients": _vanishing_gradients,
    "dead_relus": _dead_relus,
    "saturated": _saturated,
    "lr_too_small": _lr_too_small,
    "stuck_at_guessing": _stuck_at_guessing,
    "overfitting": _overfitting,
}
"""Diagnosis -> its rule, in the order of evaluation."""

EXPLAINED_BY = {
    "exploding_gradients": {"diverging"},
    "vanishing_gradients": {"exploding_gradients"},
    "lr_too_small": {"vanishing_gradients", "dead_relus", "diverging", "lr_too_large"},
    "stuck_at_guessing": {"diverging"},
    "dead_relus": {"diverging"},
}
"""Diagnosis -> the diagnoses that explain it and therefore suppress it."""
