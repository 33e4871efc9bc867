"""The numbers behind the pictures against closed forms, textbooks and papers."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from bakeoff import builders
from bakeoff.config import compose
from bakeoff.errors import ChoiceError, ConfigError
from bakeoff.illustrations.activation_curves import activation_curves
from bakeoff.illustrations.descent_paths import SETTLED, DescentPath, best_path, candidate_rates, descend
from bakeoff.illustrations.expression import evaluate_graph
from bakeoff.illustrations.graph_layout import layout_graph
from bakeoff.illustrations.loss_comparison import evaluate_loss, pair_terms
from bakeoff.illustrations.receptive_fields import layer_geometries, output_side
from bakeoff.illustrations.schedule_curves import schedule_rates
from bakeoff.illustrations.signal_propagation import propagate_signal, summarize_signal
from bakeoff.illustrations.surfaces import SURFACES


@pytest.mark.parametrize(
    ("module", "slope"),
    [
        (nn.Tanh(), lambda z: 1 - z.tanh() ** 2),
        (nn.Sigmoid(), lambda z: z.sigmoid() * (1 - z.sigmoid())),
        (nn.ReLU(), lambda z: (z > 0).double()),
        (nn.SiLU(), lambda z: z.sigmoid() * (1 + z * (1 - z.sigmoid()))),
        (nn.Softplus(), torch.sigmoid),
    ],
)
def test_slopes_are_those_of_the_closed_forms(module: nn.Module, slope) -> None:  # type: ignore[no-untyped-def]
    (curve,) = activation_curves(module, reach=6.0)
    assert torch.allclose(curve.slope, slope(curve.z), atol=1e-12)


def test_dead_and_saturated_regions() -> None:
    (relu,) = activation_curves(nn.ReLU(), reach=6.0)
    assert relu.dead == [(-6.0, 0.0)] and relu.flat == []
    (tanh,) = activation_curves(nn.Tanh(), reach=6.0)
    assert tanh.dead == [] and [round(end, 1) for span in tanh.flat for end in span] == [-6.0, -2.2, 2.2, 6.0]
    (gelu,) = activation_curves(nn.GELU(), reach=6.0)
    assert gelu.dead == [] and len(gelu.flat) == 1, "where its slope crosses zero in passing it is not saturated"
    (leaky,) = activation_curves(nn.LeakyReLU(), reach=6.0)
    assert float(leaky.slope[0]) == 0.01 and leaky.dead == leaky.flat == [], "a slope that stays is no saturation"
    (softplus,) = activation_curves(nn.Softplus(), reach=6.0)
    ((left, right),) = softplus.flat
    assert left == -6.0 and right == pytest.approx(math.log(0.05 / 0.95), abs=0.03)


def test_a_gated_activation_has_a_curve_for_each_input() -> None:
    curves = activation_curves(builders.make_activation(compose.compose(["activation=reglu"]))(), reach=2.0)
    assert len(curves) == 2 and {curve.input_label for curve in curves} == {"input 1 of 2, others 1", "input 2 of 2, others 1"}
    straight, gate = sorted(curves, key=lambda curve: float(curve.slope.max() - curve.slope.min()))
    assert torch.allclose(straight.value, straight.z) and torch.allclose(gate.value, gate.z.relu())


def test_backprop_has_the_textbook_gradients() -> None:
    nodes = {node.label: node for node in evaluate_graph("(x + y) * z", {"x": -2, "y": 5, "z": -4})}
    assert {label: (node.value, node.gradient) for label, node in nodes.items()} == {
        "x": (-2, -4), "y": (5, -4), "+": (3, -4), "z": (-4, 3), "*": (-12, 1),
    }  # fmt: skip


def test_backprop_of_a_neuron() -> None:
    values = {"w0": 2.0, "x0": -1.0, "w1": -3.0, "x1": -2.0, "w2": -3.0}
    nodes = {node.label: node for node in evaluate_graph("sigmoid(w0*x0 + w1*x1 + w2)", values)}
    assert nodes["sigmoid"].value == pytest.approx(1 / (1 + math.exp(-1)))
    shown = {name: round(nodes[name].gradient or 0.0, 2) for name in values}
    assert shown == {"w0": -0.20, "x0": 0.39, "w1": -0.39, "x1": -0.59, "w2": 0.20}


def test_a_repeated_variable_gets_the_sum_of_its_gradients_and_constants_get_none() -> None:
    nodes = evaluate_graph("x * x + 2 ** x - -3", {"x": 3})
    (x,) = [node for node in nodes if node.label == "x"]
    assert x.gradient == pytest.approx(6 + 8 * math.log(2))
    assert [(node.value, node.gradient) for node in nodes if node.kind == "constant"] == [(2, None), (-3, None)]


def test_the_graph_is_the_one_that_autograd_has() -> None:
    nodes = evaluate_graph("max(x, y) * exp(x) - relu(y) / sqrt(x)", {"x": 2, "y": 1.5})
    operations = {"max": "Maximum", "*": "Mul", "exp": "Exp", "-": "Sub", "relu": "Relu", "/": "Div", "sqrt": "Sqrt"}
    assert {node.label: node.backward for node in nodes if node.kind == "operation"} == {
        label: f"{name}Backward0" for label, name in operations.items()
    }
    assert all(source < i for i, node in enumerate(nodes) for source in node.inputs)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')", "x.__class__", "(lambda: x)()", "[x for x in x]", "x if x else x", "x[0]", "f'{x}'", "x := 2",
        "x < 1", "not x", "~x", "x @ x", "x // 2", "x % 2", "True * x", "'a' * x", "eval(x)", "exp(x, x)", "max(x)", "exp(*x)", "exp(x=x)",
        "x" * 301, "(" * 200 + "x",
        "x\nx", "", "log(0 * x)", "1 / (x - x)", "sqrt(0 * x)", "9 ** 9 ** 9 ** 9 * x", "1e999 * x", "2", "x + y",
    ],
)  # fmt: skip
def test_syntax_that_is_not_allowed_is_an_error(text: str) -> None:
    with pytest.raises(ConfigError) as error:
        evaluate_graph(text, {"x": 1.0})
    assert "\n" not in str(error.value)


def test_a_value_without_a_variable_is_an_error() -> None:
    with pytest.raises(ConfigError, match="no such variable"):
        evaluate_graph("x * x", {"x": 1, "z": 2})


def test_nodes_are_distinct_and_to_the_right_of_their_inputs() -> None:
    inputs = [node.inputs for node in evaluate_graph("(x + y) * (x - y) + exp(x) * y", {"x": 1, "y": 2})]
    layout = layout_graph(inputs)
    assert all(layout.positions[part][0] < layout.positions[i][0] for i, parts in enumerate(inputs) for part in parts)
    assert len(set(layout.positions)) == len(inputs)
    assert len(layout.lines) == sum(map(len, inputs))
    bends = {point for _, _, points in layout.lines for point in points[1:-1]}
    assert bends and not bends & set(layout.positions), "a line over several columns passes beside the nodes"


def loss_of(name: str) -> nn.Module:
    return builders.make_loss(compose.compose([f"loss={name}"]))


def test_losses_of_the_well_known_scores() -> None:
    scores = [3.2, 5.1, -1.7]
    softmax, svm = evaluate_loss(loss_of("softmax"), scores, 0), evaluate_loss(loss_of("svm"), scores, 0)
    assert round(softmax.value, 2) == 2.04 and svm.value == pytest.approx(2.9)
    assert pair_terms(loss_of("svm"), scores, 0) == pytest.approx([0, 2.9, 0])
    assert pair_terms(loss_of("softmax"), scores, 0) is None
    assert svm.gradient == [-1, 1, 0] and svm.reducible == pytest.approx([2.9, 2.9, 0])
    p = torch.softmax(torch.tensor(scores, dtype=torch.float64), 0)
    assert softmax.gradient == pytest.approx([float(p[0]) - 1, float(p[1]), float(p[2])])
    assert softmax.reducible[1] == pytest.approx(-math.log(1 - float(p[1])), abs=1e-6)


FIELDS = {"vgg16": 212, "vgg19": 268, "vgg11": 150, "alexnet": 195, "alexnet_2012": 195, "alexnet_owt": 195}


@pytest.mark.parametrize("name", FIELDS)
def test_receptive_fields_and_parameters_of_the_papers(name: str) -> None:
    size = 227 if name == "alexnet_2012" else 224
    run = compose.compose([f"model={name}", "model.head=imagenet", "data=imagenet", f"data.size={size}"])
    layers = layer_geometries(run)
    pools = [layer for layer in layers if layer.name.startswith("pool")]
    assert pools[-1].field == FIELDS[name] and pools[-1].stride == 32
    with torch.device("meta"):
        total = sum(p.numel() for p in builders.make_uninitialized_model(run).parameters())
    assert sum(layer.parameters for layer in layers) == total
    assert layers[-1].shape == (1000,) and layers[-1].field is None


def test_receptive_field_is_the_region_with_a_gradient() -> None:
    """The pixels on which an output of VGG-11's third pooling depends, by autograd, in the middle of a large enough image."""
    run = compose.compose(["model=vgg11", "data=cifar10", "data.size=96", "model.width=0.05", "initializer=constant"])
    net = builders.make_model(run)
    images = torch.ones(1, 3, 96, 96, requires_grad=True)
    signal, pools, pool3 = images, 0, [layer for layer in layer_geometries(run) if layer.name == "pool3"]
    for module in net.features:  # type: ignore[union-attr]
        signal = nn.functional.avg_pool2d(signal, 2) if isinstance(module, nn.MaxPool2d) else module(signal)
        pools += isinstance(module, nn.MaxPool2d)
        if pools == 3:
            break
    signal[0, :, 6, 6].sum().backward()  # type: ignore[no-untyped-call]
    assert images.grad is not None
    reach = (images.grad[0].abs().sum(0) > 0).any(0).sum()
    assert int(reach) == pool3[0].field


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pad", "outputs", "unused"), [(5, 3, 1, 0, 3, 0), (7, 3, 2, 0, 3, 0), (7, 3, 3, 0, 2, 1)]
)
def test_output_sides(size: int, kernel: int, stride: int, pad: int, outputs: int, unused: int) -> None:
    assert output_side(size, kernel=kernel, stride=stride, pad=pad) == (outputs, unused)
    assert nn.Conv2d(1, 1, kernel, stride, pad)(torch.zeros(1, 1, size, size)).shape[-1] == outputs


@pytest.mark.parametrize("name", SURFACES)
def test_the_lowest_points_of_a_surface_are_its_lowest(name: str) -> None:
    surface = SURFACES[name]
    for lowest in surface.lowest:
        point = torch.tensor(lowest, dtype=torch.float64, requires_grad=True)
        height = surface.height(*point)
        (gradient,) = torch.autograd.grad(height, point)
        assert float(height.detach()) == pytest.approx(surface.floor) and float(gradient.abs().max()) < 1e-12
    left, right, low, high = surface.window
    y, x = torch.meshgrid(torch.linspace(low, high, 200), torch.linspace(left, right, 200), indexing="ij")
    assert float(surface.height(x, y).min()) >= surface.floor - 1e-6


def test_a_path_matches_the_formula() -> None:
    run = compose.compose(["optimizer=sgd"])
    path = descend(run, SURFACES["ravine"], rate=0.05, steps=5)
    x, y = SURFACES["ravine"].start
    for k, (a, b) in enumerate(path.points):
        assert (a, b) == pytest.approx((x * (1 - 0.05 / 10) ** k, y * (1 - 0.05 * 10) ** k))


def test_steps_to_tolerance_rise_as_the_tolerance_falls() -> None:
    run = compose.compose(["optimizer=momentum"])
    path = descend(run, SURFACES["ravine"], rate=0.05, steps=200)
    steps = [path.steps_to(tolerance) for tolerance in (0.5, 0.1, 1e-2, 1e-3)]
    assert None not in steps and steps == sorted(steps, key=lambda count: count or 0) and len(set(steps)) > 1


def test_a_path_that_only_passes_the_minimum_has_not_reached_it() -> None:
    passing = [1.0, 0.0, 1.0, *[0.0] * SETTLED]
    assert DescentPath([(0.0, 0.0)] * len(passing), passing, 1.0, False).steps_to(0.5) == 3
    assert DescentPath([(0.0, 0.0)] * 5, [1.0, *[0.0] * 4], 1.0, False).steps_to(0.5) is None


def test_the_best_rate_needs_the_fewest_steps() -> None:
    run, surface = compose.compose(["optimizer=sgd"]), SURFACES["ravine"]
    rates = candidate_rates(1)
    path = best_path(run, surface, steps=300, tolerance=1e-2, rates=rates)
    every = {rate: descend(run, surface, rate=rate, steps=300, stop=1e-2).steps_to(1e-2) for rate in rates}
    assert path.steps_to(1e-2) == min(count for count in every.values() if count is not None) and every[path.rate] == path.steps_to(1e-2)


def test_a_rate_that_is_too_large_diverges() -> None:
    path = descend(compose.compose(["optimizer=sgd"]), SURFACES["rosenbrock"], rate=1.0, steps=50)
    assert path.diverged and path.steps_to(0.1) is None and len(path.points) < 51


def test_a_signal_vanishes_with_small_normal_weights_but_not_with_he() -> None:
    size = {"layers": 8, "units": 200, "samples": 200, "seed": 0}
    small = summarize_signal(propagate_signal(compose.compose(["activation=tanh", "initializer=normal", "initializer.std=0.01"]), **size))
    stable = summarize_signal(propagate_signal(compose.compose(["activation=relu", "initializer=he_normal"]), **size))
    # One layer multiplies a small signal by 0.01 sqrt(200) = 0.141.
    ratios = [after.std / before.std for before, after in pairwise(small[2:])]
    assert ratios == pytest.approx([0.01 * math.sqrt(200)] * 5, rel=0.1)
    assert 0.5 < stable[-1].std / stable[0].std < 2 and stable[-1].zeros == pytest.approx(0.5, abs=0.1)
    assert all(int(layer.counts.sum()) > 0 for layer in (*small, *stable))


def test_lsuv_gets_inputs_and_from_run_is_an_error() -> None:
    size = {"layers": 3, "units": 100, "samples": 200, "seed": 0}
    scaled = summarize_signal(propagate_signal(compose.compose(["activation=identity", "initializer=lsuv"]), **size))
    assert [layer.std for layer in scaled] == pytest.approx([1, 1, 1], rel=0.1)
    with pytest.raises(ChoiceError, match="copies a trained net's layers"):
        propagate_signal(compose.compose(["initializer=from_run", "initializer.run=abc"]), **size)


def test_schedules_as_their_formulas() -> None:
    cosine = schedule_rates(compose.compose(["scheduler=cosine"]), steps=100, epochs=10)
    assert cosine == pytest.approx([(1 + math.cos(math.pi * k / 100)) / 2 for k in range(100)])
    plateau = schedule_rates(compose.compose(["scheduler=plateau"]), steps=100, epochs=10)
    assert plateau[0] == 1 and plateau[-1] < 1 and sorted(plateau, reverse=True) == plateau
