"""Checks of the net at initialization: layers, first loss, and activations and gradients by depth."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from bakeoff import builders
from bakeoff.diagnostics.charts import format_number
from bakeoff.diagnostics.checks.check_context import CheckContext, CheckResult, State
from bakeoff.diagnostics.layer_stats import LayerStats, activation_stats, gradient_stats
from bakeoff.diagnostics.layer_trace import TracedLayer, output_hooks, side_effect_free
from bakeoff.diagnostics.rules import DEAD, SATURATED, RunHistory, diagnose, layer_label, percent

LOOK_ABOVE, WRONG_ABOVE = 0.5, 4.0
"""Of the expected loss: a first loss that exceeds it by this share needs attention, or is wrong."""
FADED = 1e-2
"""Of the first layer's standard deviation over images: the signal of a net with a smaller one in a deeper layer vanishes."""


def describe_chance_loss(value: float, *, classes: int) -> str:
    """Format a loss at zero scores, with its formula if it is a common one."""
    formulas = {f"ln {classes}": math.log(classes), f"1 / {classes}": 1 / classes, f"{classes} - 1": classes - 1, "ln 2": math.log(2)}
    names = [name for name, result in formulas.items() if math.isclose(value, result, rel_tol=1e-4)]
    return f"{names[0]} = {value:.3f}" if names else f"{value:.3f}, the loss at zero scores"


def check_initialization(context: CheckContext) -> Iterator[CheckResult]:
    """Yield the results of the checks of the initialized net."""
    net = context.new_net()
    yield check_first_loss(context, net)
    yield from check_depth(context, net, context.layers(net))


@torch.no_grad()
def check_first_loss(context: CheckContext, net: nn.Module) -> CheckResult:
    """Compare the loss of the initialized net with the loss of zero scores."""
    with side_effect_free(net):
        loss = float(context.loss(net.forward(context.probe.images), context.probe.labels))
    excess = loss / context.chance_loss - 1
    state: State = "wrong" if not math.isfinite(loss) or excess > WRONG_ABOVE else "ok" if abs(excess) <= LOOK_ABOVE else "look"
    advice = "the initial net is confident in wrong classes: try a smaller last layer or another initializer" if state != "ok" else ""
    expected = describe_chance_loss(context.chance_loss, classes=context.run.data.num_classes)
    figures = {"loss_at_start": loss, "loss_expected": context.chance_loss}
    return CheckResult("loss at the start", state, f"{loss:.3f}", expected, advice, figures)


def suggest_initializer(context: CheckContext) -> str:
    """Return the name of an initializer that suits the run's activation."""
    activation = builders.make_activation(context.run)()
    if isinstance(activation, nn.Sigmoid | nn.Tanh | nn.Softsign):
        return "xavier_normal"
    return "orthogonal" if isinstance(activation, nn.Identity) else "he_normal"


def check_depth(context: CheckContext, net: nn.Module, layers: list[TracedLayer]) -> Iterator[CheckResult]:
    """Yield the results about activations, gradients and units by depth; the gradients of `net` are cleared."""
    stats, image_stds = measure_depth(context, net, layers)
    history = RunHistory(
        chance_loss=context.chance_loss,
        classes=context.run.data.num_classes,
        total_steps=1,
        probe_images=len(context.probe.images),
        layer_stats=[stats],
    )
    diagnoses = {diagnosis.name: diagnosis.text for diagnosis in diagnose(history)}
    yield check_activations(context, layers, image_stds, stats)
    yield check_gradients_by_depth(context, layers, stats, diagnoses)
    for stat, name, limit in (("dead", "dead units", DEAD), ("saturated", "saturated outputs", SATURATED)):
        shares = stats.by_layer(stat)
        if shares:
            evidence = [text for diagnosis, text in diagnoses.items() if diagnosis.startswith(stat)]
            observed = f"at most {percent(max(shares.values()))} in a layer"
            yield CheckResult(name, "wrong" if evidence else "ok", observed, f"under {percent(limit)} in a layer", "; ".join(evidence))


def measure_depth(context: CheckContext, net: nn.Module, layers: list[TracedLayer]) -> tuple[LayerStats, dict[str, float]]:
    """Measure the layers on the probe; the gradients of `net` are cleared.

    Returns:
        The statistics of outputs and gradients, and layer -> standard deviation of its outputs over images.
    """
    image_stds: dict[str, float] = {}

    def measure(layer: TracedLayer, outputs: Tensor) -> None:
        image_stds[layer.name] = float(outputs.float().var(0).mean().sqrt())

    with side_effect_free(net), output_hooks(layers, measure):
        net.forward(context.probe.images)
    stats = LayerStats(0)
    stats.update(activation_stats(net, layers, context.probe.images)[0])
    with side_effect_free(net, grad=True):
        context.loss(net.forward(context.probe.images), context.probe.labels).backward()
    stats.update(gradient_stats(layers, chance_loss=context.chance_loss))
    net.zero_grad()
    return stats, image_stds


def check_activations(context: CheckContext, layers: list[TracedLayer], image_stds: dict[str, float], stats: LayerStats) -> CheckResult:
    """Check whether the outputs' standard deviation over images (layer -> `image_stds`), which carries the signal, keeps its size."""
    name, expected = "activations by depth", "similar in all layers"
    values = [image_stds[layer.name] for layer in layers]
    hidden = values[:-1] if len(values) > 1 else values
    total_stds = stats.by_layer("activation_std")
    series = {
        "std of the outputs": {float(i + 1): total_stds[layer.name] for i, layer in enumerate(layers) if layer.name in total_stds},
        "std over images only": {float(i + 1): value for i, value in enumerate(values)},
    }
    first, last = format_number(hidden[0]), format_number(hidden[-1])
    observed = f"std over images {first} in {layer_label(layers[0].name)}, {last} in {layer_label(layers[len(hidden) - 1].name)}"
    remedy = f"; try initializer={suggest_initializer(context)}"
    if not all(math.isfinite(value) for value in values):
        return CheckResult(name, "wrong", observed, expected, f"activations explode{remedy}", {}, series)
    figures = {"activation_std_first": hidden[0], "activation_std_last": hidden[-1]}
    smallest, largest, advice = min(hidden), max(hidden), ""
    if smallest <= FADED * hidden[0]:
        advice = f"activations vanish: std falls from {first} to {format_number(smallest)} by layer {hidden.index(smallest) + 1}{remedy}"
        advice += " or a net with batch norm"
    elif largest >= hidden[0] / FADED:
        advice = f"activations explode: std grows from {first} to {format_number(largest)} by layer {hidden.index(largest) + 1}{remedy}"
    return CheckResult(name, "wrong" if advice else "ok", observed, expected, advice, figures, series)


def check_gradients_by_depth(context: CheckContext, layers: list[TracedLayer], stats: LayerStats, diagnoses: dict[str, str]) -> CheckResult:
    """Check whether the first gradient vanishes or explodes, by the diagnoses (name -> evidence) of the statistics."""
    norms_by_layer = stats.by_layer("gradient_norm")
    norms = [norms_by_layer[layer.name] for layer in layers if layer.name in norms_by_layer]
    observed = "none"
    if norms:
        first, last = layer_label(layers[0].name), layer_label(layers[-1].name)
        observed = f"norm {format_number(norms[0])} in {first}, {format_number(norms[-1])} in {last}"
    faults = [f"{name.replace('_', ' ')}: {text}" for name, text in diagnoses.items() if name.endswith("gradients")]
    remedy = f"; try initializer={suggest_initializer(context)}, another activation or batch norm"
    series = {"norm of the gradient": {float(i + 1): value for i, value in enumerate(norms)}}
    advice = "; ".join(faults) + remedy if faults else ""
    return CheckResult("gradients by depth", "wrong" if faults else "ok", observed, "similar in all layers", advice, series=series)


def describe_layers(context: CheckContext) -> list[tuple[str, ...]]:
    """Return a row for every leaf module in the order of the forward pass: (name, kind, output, parameters, multiply-adds per image)."""
    net = context.new_net()
    names = {module: name for name, module in net.named_modules()}
    rows: list[tuple[str, ...]] = []

    def describe(module: nn.Module, inputs: object, outputs: Tensor) -> None:
        parameters = sum(parameter.numel() for parameter in module.parameters(recurse=False))
        weight = getattr(module, "weight", None)
        positions = math.prod(outputs.shape[2:]) if isinstance(weight, Tensor) and weight.ndim > 2 else 1
        adds = weight.numel() * positions if isinstance(weight, Tensor) and weight.ndim >= 2 else 0
        shape = "x".join(str(n) for n in outputs.shape[1:])
        rows.append((names[module], type(module).__name__, shape, f"{parameters:,}" if parameters else "", f"{adds:,}" if adds else ""))

    with ExitStack() as hooks, side_effect_free(net):
        for module in net.modules():
            if not list(module.children()):
                hooks.callback(module.register_forward_hook(describe).remove)
        net.forward(context.probe.images[:2])
    return rows
