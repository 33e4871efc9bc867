"""Checks that train copies of the net: gradients against differences, memorizing twenty examples, and the learning-rate range."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from bakeoff import builders, seeds
from bakeoff.diagnostics.charts import format_number
from bakeoff.diagnostics.checks.check_context import CheckContext, CheckResult, State
from bakeoff.diagnostics.layer_trace import side_effect_free, weighted_modules
from bakeoff.diagnostics.probe import Probe

DOUBTFUL, WRONG = 1e-4, 1e-2
"""Relative errors in float64: a gradient is right below 1e-7, with kinks up to 1e-4, and wrong above 1e-2 (Karpathy, CS231n)."""
MIN_GRADIENT = 1e-9
"""Smaller gradients cannot be measured by differences."""
DIFFERENCE_IMAGES = 4
OVERFIT_EXAMPLES, OVERFIT_STEPS, OVERFIT_SECONDS = 20, 500, 60.0
RATE_RANGE = (1e-6, 10.0)
RATE_STEPS, SMOOTHING = 60, 0.8


@dataclass(frozen=True)
class GradientErrors:
    """The largest relative error |a - n| / max(|a|, |n|), its layer, and the numbers of checked layers and of all layers."""

    worst: float
    layer: str
    checked: int
    layers: int


def check_gradients(context: CheckContext) -> Iterator[CheckResult]:
    """Check loss and activation by `gradcheck`, and every layer of the net by central differences, in float64."""
    name, expected = "gradient check", "1e-7; 1e-4 with kinks; wrong above 1e-2"
    wrong_parts = _wrong_parts(context)
    errors = difference_errors(context)
    if not errors.checked:
        advice = f"backward is wrong in {', '.join(wrong_parts)}" if wrong_parts else "the gradients vanish: see gradients by depth"
        yield CheckResult(name, "wrong" if wrong_parts else "look", "too small to check", expected, advice)
        return
    state: State = "wrong" if wrong_parts or errors.worst > WRONG else "look" if errors.worst > DOUBTFUL else "ok"
    wrong = f"backward is wrong in {', '.join(wrong_parts) or errors.layer}"
    advice = {"wrong": wrong, "look": "kinks may cause this"}.get(state, "")
    observed = f"relative error at most {format_number(errors.worst)} ({errors.layer}), {errors.checked} of {errors.layers} layers"
    yield CheckResult(name, state, observed, expected, advice, {"gradient_error": errors.worst})


def _wrong_parts(context: CheckContext) -> list[str]:
    """Return the parts, of loss and activation, that fail `gradcheck`."""
    classes, generator = context.run.data.num_classes, seeds.make_generator(0, "gradients")
    scores = torch.randn(4, classes, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.arange(4) % classes
    activation = builders.make_activation(context.run)().double().eval()
    channels = 3 * int(getattr(activation, "expansion", 1))
    inputs = torch.randn(4, channels, 2, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    passes = {
        "the loss": torch.autograd.gradcheck(lambda s: context.loss(s, labels), (scores,), raise_exception=False),
        "the activation": torch.autograd.gradcheck(activation, (inputs,), raise_exception=False),
    }
    return [part for part, passed in passes.items() if not passed]


def difference_errors(context: CheckContext) -> GradientErrors:
    """Compare autograd with central differences along one direction in the weights of each layer.

    The direction is half the layer's gradient and half random, so that the slope along it is not tiny. Layers with a tiny gradient
    are skipped.
    """
    net = context.new_net().double()
    names = {id(module): name for name, module in net.named_modules()}
    generator = seeds.make_generator(0, "gradients")
    images, labels = context.probe.images[:DIFFERENCE_IMAGES].double(), context.probe.labels[:DIFFERENCE_IMAGES]
    layers = weighted_modules(net)
    weights = [cast("nn.Parameter", layer.weight) for layer in layers]
    worst, worst_layer, checked = 0.0, "", 0

    def loss() -> Tensor:
        value: Tensor = context.loss(net.forward(images), labels)
        return value

    with side_effect_free(net, grad=True):
        gradients = torch.autograd.grad(loss(), weights)
        for layer, weight, gradient in zip(layers, weights, gradients, strict=True):
            length = float(gradient.norm())
            if not length > MIN_GRADIENT:
                continue
            noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64).to(weight)
            direction = gradient / length + noise / noise.norm()
            step = 1e-6 * max(1e-3, float(weight.detach().norm()))
            losses = []
            with torch.no_grad():
                start = weight.clone()
                for sign in (1, -1):
                    weight.copy_(start + sign * step * direction)
                    losses.append(float(loss()))
                weight.copy_(start)
            analytic, numeric = float((gradient * direction).sum()), (losses[0] - losses[1]) / (2 * step)
            error = abs(analytic - numeric) / max(abs(analytic), abs(numeric))
            checked += 1
            if not error <= worst:
                worst, worst_layer = error, names[id(layer)]
    return GradientErrors(worst, worst_layer, checked, len(layers))


def check_overfit(context: CheckContext) -> Iterator[CheckResult]:
    """Memorize 20 examples with the run's optimizer and rate, without dropout, penalties, decay, smoothing or augmentation."""
    name, expected = f"overfit {OVERFIT_EXAMPLES} examples", "100 %"
    changes = {"optimizer.weight_decay": 0.0, "loss.label_smoothing": 0.0}
    current = context.run.flat()
    run = context.run.replace(**{key: value for key, value in changes.items() if isinstance(current.get(key), float)})
    net, examples = context.new_net().train(), balanced_examples(context.probe, OVERFIT_EXAMPLES)
    for module in net.modules():
        if isinstance(module, _DropoutNd):
            module.p = 0.0
    optimizer = context.new_optimizer(net, run)
    closure = LossClosure(net, builders.make_loss(run), optimizer, examples, clip=run.trainer.clip)
    start, accuracy, step = time.perf_counter(), 0.0, 0
    while accuracy < 1 and step < OVERFIT_STEPS and time.perf_counter() - start < OVERFIT_SECONDS:
        optimizer.step(closure)  # type: ignore[arg-type]
        step += 1
        if step % 5 == 0:
            with side_effect_free(net):
                accuracy = float((net.forward(examples.images).argmax(1) == examples.labels).float().mean())
    observed = f"{100 * accuracy:.0f} % after {step} steps"
    if accuracy == 1:
        yield CheckResult(name, "ok", observed, expected, figures={"overfit_steps": float(step), "overfit_accuracy": accuracy})
        return
    out_of_time = step < OVERFIT_STEPS
    advice = "out of time: the net is slow" if out_of_time else "the net cannot memorize them: check rate, initializer and labels"
    yield CheckResult(name, "look" if out_of_time else "wrong", observed, expected, advice, {"overfit_accuracy": accuracy})


def balanced_examples(probe: Probe, count: int) -> Probe:
    """Return `count` of the probe's images, from each class in turn."""
    labels = probe.labels
    order = sorted(range(len(labels)), key=lambda i: (int((labels[:i] == labels[i]).sum()), i))
    chosen = torch.tensor(order[:count], device=labels.device)
    return Probe(probe.images[chosen], labels[chosen])


def check_rates(context: CheckContext) -> Iterator[CheckResult]:
    """Raise the learning rate from 1e-6 to 10 on a copy of the net, and suggest a tenth of the rate with the lowest loss.

    Source: L. Smith, "Cyclical learning rates for training neural networks" (arXiv:1506.01186), section 3.3; the tenth is the common
    rule of thumb.
    """
    name, lr = "learning-rate range", context.run.optimizer.get("lr")
    if not isinstance(lr, int | float):
        yield CheckResult(name, "info", "the optimizer has no lr")
        return
    losses = {rate: loss for rate, loss in loss_by_rate(context).items() if math.isfinite(loss)}
    lowest = min(losses, key=lambda rate: losses[rate])
    if losses[lowest] > 0.98 * next(iter(losses.values())):
        observed = f"no rate from {RATE_RANGE[0]:g} to {RATE_RANGE[1]:g} lowers the loss"
        yield CheckResult(name, "wrong", observed, advice="see activations and gradients by depth", series={"loss": losses})
        return
    suggested = lowest / 10
    advice = ""
    if lr > lowest:
        advice = f"optimizer.lr={lr:g}: the loss increases at this rate; try {format_number(suggested)}"
    elif lr < suggested / 100:
        advice = f"optimizer.lr={lr:g}: less than a hundredth of the suggested rate; try {format_number(suggested)}"
    figures = {"lr_suggested": suggested, "lr_lowest": lowest, "lr": float(lr)}
    observed = f"lowest loss at {format_number(lowest)}, suggested {format_number(suggested)}"
    yield CheckResult(name, "look" if advice else "ok", observed, f"optimizer.lr={lr:g}", advice, figures, {"loss": losses})


def loss_by_rate(context: CheckContext) -> dict[float, float]:
    """Train a copy of the net with an increasing rate: rate -> loss, smoothed over about five steps, up to four times the lowest loss."""
    net = context.new_net().train()
    optimizer = context.new_optimizer(net)
    losses: dict[float, float] = {}
    average = 0.0
    low, high = RATE_RANGE
    with torch.random.fork_rng():
        torch.manual_seed(seeds.derive_seed(context.run.seed, "rates"))
        for step, (images, labels) in enumerate(itertools.islice(context.batches(), RATE_STEPS)):
            rate = low * (high / low) ** (step / (RATE_STEPS - 1))
            for group in optimizer.param_groups:
                group["lr"] = rate
            closure = LossClosure(net, context.loss, optimizer, Probe(images, labels))
            average = SMOOTHING * average + (1 - SMOOTHING) * float(optimizer.step(closure))  # type: ignore[arg-type]
            losses[rate] = average / (1 - SMOOTHING ** (step + 1))
            if not losses[rate] <= 4 * min(losses.values()):
                break
    return losses


@dataclass(frozen=True)
class LossClosure:
    """The closure of `Optimizer.step`: an evaluation of the loss and its gradients."""

    net: nn.Module
    loss: nn.Module
    optimizer: torch.optim.Optimizer
    batch: Probe
    clip: float | None = None

    def __call__(self) -> Tensor:
        """Compute the gradients and return the loss."""
        self.optimizer.zero_grad()
        value: Tensor = self.loss(self.net(self.batch.images), self.batch.labels)
        value.backward()  # type: ignore[no-untyped-call]
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.net.parameters(), self.clip)
        return value.detach()
