"""The project's optimizers against independent formulas, in float64 if the algorithm is."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bakeoff.components.optimizers import LBFGS, MomentumCaffe, Muon, decayed_parameters, parameter_groups
from bakeoff.config.targets import build_errors
from bakeoff.errors import ChoiceError

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def path(make: Any, *, rates: list[float]) -> list[Tensor]:
    """The path of an optimizer on a quartic of a matrix, at these rates."""
    w = nn.Parameter(torch.linspace(-1, 2, 6, dtype=torch.float64).reshape(2, 3))
    optimizer, weights = make([w]), []
    for rate in rates:
        for group in optimizer.param_groups:
            group["lr"] = rate
        w.grad = 4 * w.detach() ** 3 - w.detach()
        optimizer.step()
        weights.append(w.detach().clone())
    return weights


@pytest.mark.parametrize("decay", [0.0, 5e-2])
def test_the_2012_update_and_torchs_differ_only_after_the_first_drop(decay: float) -> None:
    rates = [0.01] * 8 + [0.001] * 4
    ours = path(lambda w: MomentumCaffe(w, lr=0.01, momentum=0.9, weight_decay=decay), rates=rates)
    torchs = path(lambda w: torch.optim.SGD(w, lr=0.01, momentum=0.9, weight_decay=decay), rates=rates)
    for k in range(8):
        torch.testing.assert_close(ours[k], torchs[k], rtol=1e-13, atol=1e-13)
    for k in range(8, 12):
        assert float((ours[k] - torchs[k]).abs().max()) > 1e-2


def test_the_2012_update_matches_the_paper() -> None:
    rates = [0.02, 0.02, 0.002, 0.05]
    w, expected = torch.linspace(-1, 2, 6, dtype=torch.float64).reshape(2, 3), []
    v = torch.zeros_like(w)
    for rate in rates:
        v = 0.9 * v - 5e-4 * rate * w - rate * (4 * w**3 - w)
        w = w + v
        expected.append(w)
    for ours, papers in zip(path(MomentumCaffe, rates=rates), expected, strict=True):
        torch.testing.assert_close(ours, papers, rtol=1e-13, atol=1e-13)


def newton_schulz(matrix: Tensor) -> Tensor:
    """Five steps of the quintic of Jordan et al., in float64."""
    a, b, c = COEFFICIENTS
    x: Tensor = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / torch.linalg.matrix_norm(x)
    for _ in range(5):
        s = x @ x.T
        x = a * x + (b * s + c * s @ s) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("adjust", "ratio"),
    [("original", 1.0), ("match_rms_adamw", 0.2 * math.sqrt(27)), ("spectral_unclamped", math.sqrt(8 / 27))],
)
def test_muon_reshapes_a_kernel_to_a_matrix(memory: Any, adjust: Any, ratio: float) -> None:
    generator = torch.Generator().manual_seed(0)
    kernel = nn.Parameter(torch.randn(8, 3, 3, 3, generator=generator).contiguous(memory_format=memory))
    head = nn.Parameter(torch.zeros(2, 8))
    optimizer = Muon([kernel, head], lr=0.1, momentum=0.9, weight_decay=0.5, adjust_lr_fn=adjust)
    buffer, w = torch.zeros(8, 27, dtype=torch.float64), kernel.detach().double().reshape(8, 27)
    for _ in range(3):
        grad = torch.randn(8, 3, 3, 3, generator=generator)
        kernel.grad = grad.clone(memory_format=memory)
        optimizer.step()
        g = grad.double().reshape(8, 27)
        buffer = 0.9 * buffer + 0.1 * g
        w = w * (1 - 0.1 * 0.5) - 0.1 * ratio * newton_schulz(0.1 * g + 0.9 * buffer)
    # torch computes the iteration in bfloat16: 8 bits of each update.
    torch.testing.assert_close(kernel.detach().double().reshape(8, 27), w, rtol=0, atol=2e-2 * ratio)
    assert kernel.is_contiguous(memory_format=memory)


def test_muon_updates_hidden_matrices_and_adamw_the_rest() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 8), nn.Linear(8, 3))
    optimizer = Muon(parameter_groups(net, weight_decay=0.1), lr=0.02, adamw_lr=1e-3, weight_decay=0.1)
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    groups = {
        (group["rule"], group["lr"], group["weight_decay"]): [names[id(p)] for p in group["params"]] for group in optimizer.param_groups
    }
    assert groups == {
        ("muon", 0.02, 0.1): ["0.weight", "3.weight"],
        ("adamw", 1e-3, 0.1): ["4.weight"],
        ("adamw", 1e-3, 0.0): ["0.bias", "1.weight", "1.bias", "3.bias", "4.bias"],
    }
    all_muon = Muon(net.parameters(), last="muon")
    assert sum(len(group["params"]) for group in all_muon.param_groups if group["rule"] == "muon") == 3


def test_muons_adamw_rule_is_torchs_adamw() -> None:
    def trained(make: Any) -> Tensor:
        w = nn.Parameter(torch.linspace(-1, 1, 5, dtype=torch.float64))
        optimizer = make([w])
        for _ in range(5):
            w.grad = w.detach() ** 3 + 0.1
            optimizer.step()
        return w.detach()

    ours = trained(lambda w: Muon(w, adamw_lr=0.01, adamw_betas=(0.8, 0.95), weight_decay=0.3))
    torchs = trained(lambda w: torch.optim.AdamW(w, lr=0.01, betas=(0.8, 0.95), weight_decay=0.3))
    torch.testing.assert_close(ours, torchs, rtol=1e-14, atol=0)


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_lbfgs_solves_a_toy_of_any_memory_layout(memory: Any) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(64, 3)).to(memory_format=memory)
    images, targets = torch.randn(20, 2, 4, 4), torch.arange(20) % 3
    optimizer = LBFGS(net.parameters(), line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(images), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    for _ in range(6):
        optimizer.step(closure)
    assert closure().item() < 1e-3


def test_a_penalty_acts_on_what_decays() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.PReLU(), nn.Flatten(), nn.Linear(16, 3))
    assert [id(p) for p in decayed_parameters(net)] == [id(net[0].weight), id(net[4].weight)]
    assert [id(p) for p in decayed_parameters(net, decay_all=True)] == [id(p) for p in net.parameters()]
    assert [id(p) for p in decayed_parameters(net)] == [id(p) for p in parameter_groups(net, weight_decay=0.1)[0]["params"]]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda w: MomentumCaffe(w, lr=0.0), "optimizer.lr=0.0: must be above 0"),
        (lambda w: MomentumCaffe(w, momentum=1.0), "optimizer.momentum=1.0"),
        (lambda w: Muon(w, adamw_lr=-1.0), "optimizer.adamw_lr=-1.0"),
        (lambda w: Muon(w, ns_steps=0), "optimizer.ns_steps=0"),
        (lambda w: Muon(w, adamw_betas=(0.9, 1.0)), r"optimizer.adamw_betas=\[0.9, 1.0\]"),
    ],
)
def test_a_value_out_of_range_is_an_error(make: Any, words: str) -> None:
    with pytest.raises(ChoiceError, match=words), build_errors("optimizer", {}):
        make([nn.Parameter(torch.zeros(2, 2))])
