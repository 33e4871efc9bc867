"""The sentence that says what a verdict is about."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pandas as pd

from bakeoff.report.results import SweepResults
from bakeoff.report.scope import read_scope, scope_sentence
from bakeoff.report.verdict import compute_verdict

FRAME = pd.DataFrame(
    {
        "kind": ["trial", "confirm", "confirm"],
        "params.model": ["vgg16", "vgg11", "alexnet"],
        "params.model.width": ["1.0", "0.25", "0.25"],
        "params.data": ["digits"] * 3,
        "params.data.subset": ["None"] * 3,
        "params.total_steps": ["7", "120", "120"],
        "params.data.batch_size": ["32"] * 3,
    }
)


def test_confirm_runs_alone_make_the_scope() -> None:
    sentence = scope_sentence(read_scope(FRAME))
    assert (
        sentence == "This is about vgg11 and alexnet at width 0.25 on digits, trained for 120 steps of 32 images; nothing else was tried."
    )


def test_full_width_is_not_mentioned_and_a_subset_is() -> None:
    scope = {"model": ("vgg11",), "model.width": ("1.0",), "data": ("fashion_mnist",), "data.subset": ("10000",)}
    assert scope_sentence(scope) == "This is about vgg11 on fashion_mnist (10000 training images); nothing else was tried."
    assert scope_sentence({"data": ("digits",)}) is None


def test_a_verdict_names_its_scope(simulated: Callable[..., SweepResults]) -> None:
    sweep = simulated({"sgd": 0.0, "adam": 0.03}, rng=np.random.default_rng(0))
    verdict = compute_verdict(dataclasses.replace(sweep, scope=read_scope(FRAME)))
    assert verdict.winner == "adam"
    assert any(detail.startswith("This is about vgg11 and alexnet") for detail in verdict.details)
