"""Checks of the net as it starts: its layers, its first loss, and how activations and gradients fare with depth."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from bakeoff.diagnostics.checks.context import CheckContext, CheckResult
from bakeoff.diagnostics.layer_stats import Reading, merge, read_activations, read_gradients
from bakeoff.diagnostics.layer_trace import ONE_SIDED, Layer, listening, side_effect_free
from bakeoff.diagnostics.page import number
from bakeoff.diagnostics.rules import History, diagnose

FAR, TOO_FAR = 0.5, 4.0
"""Of the expected loss: a first loss that far above it is worth a look, or wrong."""
FADED = 1e-2
"""Of the first layer's: the standard deviation over images that is left in the deepest layer of a net whose signal vanishes."""


def expected_loss(value: float, *, classes: int) -> str:
    """A loss at zero scores in the words that people know it by."""
    known = {f"ln {classes}": math.log(classes), f"1 / {classes}": 1 / classes, f"{classes} - 1": classes - 1, "ln 2": math.log(2)}
    names = [name for name, number_ in known.items() if math.isclose(value, number_, rel_tol=1e-4)]
    return f"{names[0]} = {value:.3f}" if names else f"{value:.3f}, the loss at zero scores"


def check_start(bench: CheckContext) -> Iterator[CheckResult]:
    """All findings about the net before its first step."""
    net = bench.net()
    layers = bench.layers(net)
    yield first_loss(bench, net)
    yield from depth(bench, net, layers)


@torch.no_grad()
def first_loss(bench: CheckContext, net: nn.Module) -> CheckResult:
    """The loss of the net as it starts against that of zero scores."""
    with side_effect_free(net):
        loss = float(bench.loss(net.forward(bench.images), bench.labels))
    expected = expected_loss(bench.guessing, classes=bench.run.data.num_classes)
    above = loss / bench.guessing - 1
    state = "ok" if abs(above) <= FAR else "look"
    if not math.isfinite(loss) or above > TOO_FAR:
        state = "wrong"
    advice = (
        "" if state == "ok" else "the net starts sure of wrong answers: a smaller last layer, or another initializer, starts at guessing"
    )
    figures = {"loss_at_start": loss, "loss_expected": bench.guessing}
    return CheckResult("loss at the start", state, f"{loss:.3f}", expected, advice, figures)  # type: ignore[arg-type]


def remedy(bench: CheckContext) -> str:
    """The initializer that is made for the run's activation."""
    from bakeoff import builders

    kind = builders.make_activation(bench.run)()
    if isinstance(kind, nn.Sigmoid | nn.Tanh | nn.Softsign):
        return "xavier_normal"
    return (
        "he_normal"
        if isinstance(kind, (*ONE_SIDED, nn.LeakyReLU, nn.PReLU, nn.RReLU)) or not isinstance(kind, nn.Identity)
        else "orthogonal"
    )


def depth(bench: CheckContext, net: nn.Module, layers: list[Layer]) -> Iterator[CheckResult]:
    """Activations and gradients by depth, with the diagnoses that can be made before the first step."""
    signal: dict[str, float] = {}

    def heard(layer: Layer, outputs: Tensor) -> None:
        signal[layer.name] = float(outputs.float().var(0).mean().sqrt())

    with side_effect_free(net), listening(layers, heard):
        net.forward(bench.images)
    reading = Reading(0)
    merge(reading, read_activations(net, layers, bench.images)[0])
    with side_effect_free(net, grad=True):
        bench.loss(net.forward(bench.images), bench.labels).backward()
    merge(reading, read_gradients(layers, guessing=bench.guessing))
    net.zero_grad()
    run = bench.run
    history = History(guessing=bench.guessing, classes=run.data.num_classes, total=1, probe=len(bench.images), readings=[reading])
    yield activations(bench, layers, signal, reading)
    named = {each.name: each.text for each in diagnose(history)}
    shares = reading.of("gradient_norm")
    order = [shares[layer.name] for layer in layers if layer.name in shares]
    found = f"norm {number(order[0])} in {layers[0].label}, {number(order[-1])} in {layers[-1].label}" if order else "none"
    told = {name: text for name, text in named.items() if name.endswith("gradients")}
    series = {"norm of the gradient": {float(i + 1): value for i, value in enumerate(order)}}
    advice = "; ".join(f"{name.replace('_', ' ')}: {text}" for name, text in told.items())
    advice += f"; try initializer={remedy(bench)}, another activation or batch norm" if told else ""
    yield CheckResult("gradients by depth", "wrong" if told else "ok", found, "alike in all layers", advice, series=series)
    units = {name: text for name, text in named.items() if name in ("dead_relus", "saturated")}
    most = max([*reading.of("dead").values(), *reading.of("saturated").values()], default=0.0)
    kind = "dead units" if reading.of("dead") else "saturated outputs"
    if reading.of("dead") or reading.of("saturated"):
        rule = "under 80 % in a layer" if reading.of("dead") else "under 50 % in a layer"
        yield CheckResult(kind, "wrong" if units else "ok", f"at most {100 * most:.0f} % in a layer", rule, "; ".join(units.values()))


def activations(bench: CheckContext, layers: list[Layer], signal: dict[str, float], reading: Reading) -> CheckResult:
    """Standard deviations of the outputs by depth; the verdict is of that over images, which alone carries what the image is."""
    order = [signal[layer.name] for layer in layers]
    hidden = order[:-1] if len(order) > 1 else order
    stds = reading.of("activation_std")
    series = {"std of the outputs": {float(i + 1): stds[layer.name] for i, layer in enumerate(layers) if layer.name in stds}}
    series["over images alone"] = {float(i + 1): value for i, value in enumerate(order)}
    found = f"std over images {number(hidden[0])} in {layers[0].label}, {number(hidden[-1])} in {layers[len(hidden) - 1].label}"
    rule, figures = "alike in all layers", {"activation_std_first": hidden[0], "activation_std_last": hidden[-1]}
    if not all(math.isfinite(value) for value in order):
        return CheckResult(
            "activations by depth", "wrong", found, rule, f"activations explode: try initializer={remedy(bench)}", {}, series
        )
    place = min(range(len(hidden)), key=lambda i: hidden[i])
    faded = hidden[place] <= FADED * hidden[0] or hidden[0] == 0
    grown = max(hidden) >= hidden[0] / FADED and not faded
    state, advice = "ok", ""
    if faded or grown:
        place = place if faded else max(range(len(hidden)), key=lambda i: hidden[i])
        words = ("vanish", "falls") if faded else ("explode", "grows")
        state = "wrong"
        advice = f"activations {words[0]}: std {words[1]} from {number(hidden[0])} to {number(hidden[place])} by layer {place + 1}"
        advice += f"; try initializer={remedy(bench)}" + (" or a net with batch norm" if faded else "")
    return CheckResult("activations by depth", state, found, rule, advice, figures, series)  # type: ignore[arg-type]


def shapes(bench: CheckContext) -> list[tuple[str, ...]]:
    """(layer, kind, output, parameters, multiply-adds an image) of every module that does something, in the order of the forward pass."""
    net = bench.net()
    rows: list[tuple[str, ...]] = []
    kept = []

    def hook(module: nn.Module, inputs: object, outputs: Tensor) -> None:
        own = sum(weight.numel() for weight in module.parameters(recurse=False))
        weight = getattr(module, "weight", None)
        places = math.prod(outputs.shape[2:]) if isinstance(weight, Tensor) and weight.ndim > 2 else 1
        adds = weight.numel() * places if isinstance(weight, Tensor) and weight.ndim >= 2 else 0
        shape = "x".join(str(n) for n in outputs.shape[1:])
        rows.append((names[module], type(module).__name__, shape, f"{own:,}" if own else "", f"{adds:,}" if adds else ""))

    names = {module: name for name, module in net.named_modules()}
    for module in net.modules():
        if not list(module.children()):
            kept.append(module.register_forward_hook(hook))
    with side_effect_free(net):
        net.forward(bench.images[:2])
    for handle in kept:
        handle.remove()
    return rows
