"""Checks that take steps, on copies: the gradients against differences, twenty examples by heart, and the range of rates that train."""

from __future__ import annotations

import itertools
import math
import time
import typing
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from bakeoff import builders, seeds
from bakeoff.diagnostics.checks.context import CheckContext, CheckResult, State
from bakeoff.diagnostics.layer_trace import side_effect_free, weighted
from bakeoff.diagnostics.page import number

DOUBTFUL, WRONG = 1e-4, 1e-2
"""Relative errors in float64: below 1e-7 a gradient is right, up to 1e-4 right where it has kinks, above 1e-2 wrong (Karpathy, CS231n)."""
FAINT = 1e-9
EXAMPLES, STEPS, SECONDS = 20, 500, 60.0
RATES = (1e-6, 10.0)
TRIED, SMOOTH = 60, 0.8


def check_gradients(bench: CheckContext) -> Iterator[CheckResult]:
    """The loss and the activation by `gradcheck`, and every layer of the whole net by central differences, in float64."""
    classes, parts = bench.run.data.num_classes, []
    draw = seeds.make_generator(0, "gradients")
    scores = torch.randn(4, classes, generator=draw, dtype=torch.float64, requires_grad=True)
    labels = torch.arange(4) % classes
    if not torch.autograd.gradcheck(lambda s: bench.loss(s, labels), (scores,), raise_exception=False):
        parts.append("the loss")
    kind = builders.make_activation(bench.run)().double().eval()
    channels = 3 * int(getattr(kind, "expansion", 1))
    values = torch.randn(4, channels, 2, 2, generator=draw, dtype=torch.float64, requires_grad=True)
    if not torch.autograd.gradcheck(kind, (values,), raise_exception=False):
        parts.append("the activation")
    worst, name, checked, layers = errors(bench)
    told = f"relative error {number(worst)} at most ({name}), {checked} of {layers} layers" if checked else "too small to be checked"
    wrong = bool(parts) or (checked and worst > WRONG)
    state = "wrong" if wrong else "look" if not checked or worst > DOUBTFUL else "ok"
    advice = f"backward does not fit forward in {', '.join(parts) or name}" if wrong else ""
    if not wrong and state == "look":
        advice = "kinks may do this" if checked else "the gradients vanish: see gradients by depth"
    rule = "1e-7; 1e-4 with kinks; above 1e-2 is wrong"
    yield CheckResult("gradient check", state, told, rule, advice, {"gradient_error": worst} if checked else {})  # type: ignore[arg-type]


def errors(bench: CheckContext, *, images: int = 4) -> tuple[float, str, int, int]:
    """(greatest relative error |a - n| / max(|a|, |n|), its layer, layers checked, layers) along one direction a layer.

    The direction is half the layer's own gradient and half random, so that what is checked is not tiny; layers whose gradient is below
    1e-9 are left out, as differences cannot see them.
    """
    net = bench.net().double()
    places = {id(module): name for name, module in net.named_modules()}
    draw = seeds.make_generator(0, "gradients")
    batch, labels = bench.images[:images].double(), bench.labels[:images]
    worst, named, checked, layers = 0.0, "", 0, weighted(net)

    def value() -> Tensor:
        result: Tensor = bench.loss(net.forward(batch), labels)
        return result

    with side_effect_free(net, grad=True):
        weights = [typing.cast("nn.Parameter", layer.weight) for layer in layers]
        slopes = torch.autograd.grad(value(), weights)
        for layer, weight, slope in zip(layers, weights, slopes, strict=True):
            size = float(slope.norm())
            if not size > FAINT:
                continue
            chance = torch.randn(weight.shape, generator=draw, dtype=torch.float64).to(weight)
            along = slope / size + chance / chance.norm()
            step = 1e-6 * max(1e-3, float(weight.detach().norm()))
            ends = []
            with torch.no_grad():
                start = weight.clone()
                for sign in (1, -1):
                    weight.copy_(start + sign * step * along)
                    ends.append(float(value()))
                weight.copy_(start)
            told, measured = float((slope * along).sum()), (ends[0] - ends[1]) / (2 * step)
            error = abs(told - measured) / max(abs(told), abs(measured))
            checked += 1
            if not error <= worst:
                worst, named = error, places[id(layer)]
    return worst, named, checked, len(layers)


def check_overfit(bench: CheckContext) -> Iterator[CheckResult]:
    """Learns 20 examples by heart with the run's own optimizer and rate, without dropout, penalties, decay, smoothing or augmentation."""
    changes = {"optimizer.weight_decay": 0.0, "loss.label_smoothing": 0.0}
    flat = bench.run.flat()
    run = bench.run.replace(**{key: value for key, value in changes.items() if isinstance(flat.get(key), float)})
    net, loss = bench.net(), builders.make_loss(run)
    for module in net.modules():
        if isinstance(module, _DropoutNd):
            module.p = 0.0
    images, labels = few(bench)
    optimizer = builders.make_optimizer(run, net)
    if callable(getattr(optimizer, "train", None)):
        optimizer.train()  # type: ignore[attr-defined]
    net.train()
    began, share, step = time.perf_counter(), 0.0, 0

    closure = Closure(net, loss, optimizer, images, labels, clip=run.trainer.clip)
    while share < 1 and step < STEPS and time.perf_counter() - began < SECONDS:
        optimizer.step(closure)  # type: ignore[arg-type]
        step += 1
        if step % 5 == 0:
            with side_effect_free(net):
                share = float((net.forward(images).argmax(1) == labels).float().mean())
    found = f"{100 * share:.0f} % after {step} steps"
    if share == 1:
        yield CheckResult("overfit 20 examples", "ok", found, "100 %", figures={"overfit_steps": float(step), "overfit_accuracy": share})
        return
    late = step < STEPS
    advice = "time was up: a slow net" if late else "the net cannot learn even these by heart: look at rate, initializer and labels"
    yield CheckResult("overfit 20 examples", "look" if late else "wrong", found, "100 %", advice, {"overfit_accuracy": share})


def few(bench: CheckContext) -> tuple[Tensor, Tensor]:
    """20 training images, of as many classes as there are, each class in turn."""
    order = sorted(range(len(bench.labels)), key=lambda i: (int((bench.labels[:i] == bench.labels[i]).sum()), i))
    chosen = torch.tensor(order[:EXAMPLES], device=bench.device)
    return bench.images[chosen], bench.labels[chosen]


def check_rates(bench: CheckContext) -> Iterator[CheckResult]:
    """The loss on a copy of the net while the rate rises from 1e-6 to 10; a tenth of the rate where it is lowest is suggested.

    It ends where the smoothed loss is four times its least. Source: L. Smith, "Cyclical learning rates for training neural networks"
    (arXiv:1506.01186), section 3.3; the tenth is the usual rule of thumb.
    """
    own = bench.run.optimizer.get("lr")
    if not isinstance(own, int | float):
        yield CheckResult("learning-rate range", "told", "the optimizer has no lr")
        return
    curve = ranged(bench)
    finite = {rate: loss for rate, loss in curve.items() if math.isfinite(loss)}
    lowest = min(finite, key=lambda rate: finite[rate])
    if finite[lowest] > 0.98 * next(iter(finite.values())):
        found, advice = f"no rate from {RATES[0]:g} to {RATES[1]:g} lowers the loss", "see activations and gradients by depth"
        yield CheckResult("learning-rate range", "wrong", found, advice=advice, series={"loss": finite})
        return
    suggested = lowest / 10
    figures = {"lr_suggested": suggested, "lr_lowest": lowest, "lr": float(own)}
    state: State = "ok"
    advice = ""
    if own > lowest:
        state, advice = "look", f"optimizer.lr={own:g}: the loss rises at this rate; try {number(suggested)}"
    elif own < suggested / 100:
        state, advice = "look", f"optimizer.lr={own:g}: a hundredth of what is suggested, or less; try {number(suggested)}"
    found = f"lowest loss at {number(lowest)}, suggested {number(suggested)}"
    yield CheckResult("learning-rate range", state, found, f"optimizer.lr={own:g}", advice, figures, {"loss": finite})


def ranged(bench: CheckContext) -> dict[float, float]:
    """Rate -> the loss of that step, smoothed over about five steps, on the run's batches in their order."""
    net = bench.net().train()
    optimizer = builders.make_optimizer(bench.run, net)
    if callable(getattr(optimizer, "train", None)):
        optimizer.train()  # type: ignore[attr-defined]
    curve: dict[float, float] = {}
    mean = 0.0
    with torch.random.fork_rng():
        torch.manual_seed(seeds.derive_seed(bench.run.seed, "rates"))
        for step, (images, labels) in enumerate(itertools.islice(batches(bench), TRIED)):
            rate = RATES[0] * (RATES[1] / RATES[0]) ** (step / (TRIED - 1))
            for group in optimizer.param_groups:
                group["lr"] = rate
            value = float(optimizer.step(Closure(net, bench.loss, optimizer, images, labels)))  # type: ignore[arg-type]
            mean = SMOOTH * mean + (1 - SMOOTH) * value
            curve[rate] = mean / (1 - SMOOTH ** (step + 1))
            if not curve[rate] <= 4 * min(curve.values()):
                break
    return curve


def batches(bench: CheckContext) -> Iterator[tuple[Tensor, Tensor]]:
    """The run's training batches, epoch after epoch, on its device."""
    loader = bench.data.train_dataloader()
    while True:
        for images, labels in loader:
            yield images.to(bench.device), labels.to(bench.device)


@dataclass(frozen=True)
class Closure:
    """One evaluation of the loss with its gradients, as optimizers ask for it."""

    net: nn.Module
    loss: nn.Module
    optimizer: torch.optim.Optimizer
    images: Tensor
    labels: Tensor
    clip: float | None = None

    def __call__(self) -> Tensor:
        """The loss."""
        self.optimizer.zero_grad()
        value: Tensor = self.loss(self.net(self.images), self.labels)
        value.backward()  # type: ignore[no-untyped-call]
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.net.parameters(), self.clip)
        return value.detach()
