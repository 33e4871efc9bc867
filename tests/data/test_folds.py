"""Folds: every image validates exactly once, sizes are even, subsets are nested fold by fold, and wrong numbers are named."""

from __future__ import annotations

import functools
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from bakeoff.builders import make_data
from bakeoff.config import compose
from bakeoff.data.datamodule import ImageDataModule, InputFormat
from bakeoff.data.epoch_sampler import BatchPlan
from bakeoff.data.sources import digits
from bakeoff.data.splits import SplitSpec, split, stratified_folds, stratified_order, stratified_split
from bakeoff.errors import DataError

UNEVEN = torch.tensor([0] * 61 + [1] * 58 + [2] * 23)[torch.randperm(142, generator=torch.Generator().manual_seed(0))]


def parts(folds: int, *, subset: int | None = None, seed: int = 0) -> list[tuple[set[int], set[int]]]:
    splits = [stratified_folds(UNEVEN, folds=folds, fold=fold, seed=seed, subset=subset) for fold in range(folds)]
    return [(set(train.tolist()), set(val.tolist())) for train, val in splits]


@pytest.mark.parametrize("subset", [None, 100, 37])
@pytest.mark.parametrize("folds", [2, 3, 5, 10])
def test_every_image_validates_exactly_once_and_trains_in_all_other_folds(folds: int, subset: int | None) -> None:
    splits = parts(folds, subset=subset)
    everything = set.union(*(val for _, val in splits))
    assert sum(len(val) for _, val in splits) == len(everything) == (subset or len(UNEVEN))
    assert all(train == everything - val for train, val in splits)


@pytest.mark.parametrize("subset", [None, 100])
@pytest.mark.parametrize("folds", [2, 3, 5, 10])
def test_folds_differ_by_at_most_one_image_in_each_class(folds: int, subset: int | None) -> None:
    by_class = torch.stack([torch.bincount(UNEVEN[sorted(val)], minlength=3) for _, val in parts(folds, subset=subset)])
    assert (by_class.amax(0) - by_class.amin(0)).max() <= 1
    if subset is None:
        assert by_class.sum(1).max() - by_class.sum(1).min() <= 1


def test_folds_are_those_of_their_seed() -> None:
    first = parts(5, seed=4)
    torch.manual_seed(11)
    assert first == parts(5, seed=4)
    assert first != parts(5, seed=5)
    _, val = stratified_folds(torch.arange(24) % 3, folds=4, fold=1, seed=0)
    assert val.tolist() == [0, 5, 9, 19, 20, 22]


def test_subsets_are_nested_in_every_fold() -> None:
    sizes = [*range(20, 143), None]
    for smaller, larger in pairwise(parts(3, subset=size) for size in sizes):
        for (train, val), (more_train, more_val) in zip(smaller, larger, strict=True):
            assert train <= more_train and val <= more_val


def test_subsets_of_a_fraction_are_nested_at_every_size() -> None:
    def sets(size: int | None) -> list[set[int]]:
        return [set(part.tolist()) for part in stratified_split(UNEVEN, val_fraction=0.15, seed=2, subset=size)]

    by_size = {size: sets(size) for size in [*range(12, 143), None]}
    for (train, val), (more_train, more_val) in pairwise(by_size.values()):
        assert train <= more_train and val <= more_val
    assert all(len(train) + len(val) == size and len(val) == round(size * 0.15) for size, (train, val) in by_size.items() if size)


def test_a_beginning_has_each_class_in_its_proportion() -> None:
    order = stratified_order([torch.arange(0, 61), torch.arange(61, 119), torch.arange(119, 142)])
    assert sorted(order.tolist()) == list(range(142))
    kind = torch.bucketize(order, torch.tensor([60, 118]))
    for length in range(1, 143):
        exact = torch.tensor([61.0, 58.0, 23.0]) * length / 142
        assert (torch.bincount(kind[:length], minlength=3) - exact).abs().max() < 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"folds": 5, "fold": 5}, "fold=5: must be at least 0 and below folds=5"),
        ({"folds": 5, "fold": -1}, "fold=-1: must be at least 0 and below folds=5"),
        ({"folds": 1}, "folds=1: must be 2 or more"),
        ({"fold": 2}, "fold=2: needs `folds`"),
        ({"folds": 5, "subset": 143}, "subset=143: must lie between 1 and the 142 images"),
        ({"folds": 9, "fold": 8, "subset": 4}, "folds=9 of subset=4 images leaves no image for validation in fold=8"),
        (
            {"folds": 2, "subset": 3},
            "leaves one of the 3 classes without a training image in fold=0",
        ),
    ],
)
def test_impossible_folds_name_the_argument(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError) as error:
        split(UNEVEN, SplitSpec(val_fraction=0.1, seed=0, **changes))
    assert words in str(error.value)


def test_a_run_trains_on_the_folds_of_its_config() -> None:
    run = compose.compose(["data=digits", "data.folds=4", "data.fold=3", "data.split_seed=6"])
    data = make_data(run)
    data.setup("fit")
    train, val = stratified_folds(digits(root=Path(), download=False).train_y, folds=4, fold=3, seed=6)
    assert (data.n_train, data.n_val) == (len(train), len(val)) == (1082, 360)
    assert sorted(y for _, labels in data.val_dataloader() for y in labels.tolist()) == sorted(
        digits(root=Path(), download=False).train_y[val].tolist()
    )
    other = make_data(run.replace(**{"data.fold": 2}))
    other.setup("fit")
    assert other.split_digest != data.split_digest


def test_val_fraction_is_not_used_beside_folds() -> None:
    def digest(val_fraction: float) -> str:
        data = ImageDataModule(
            functools.partial(digits, root=Path(), download=False),
            input_format=InputFormat(8, "pad", normalize=False),
            batch_plan=BatchPlan(8, seed=0),
            split_spec=SplitSpec(val_fraction, seed=0, subset=200, folds=3, fold=1),
        )
        data.setup("fit")
        return data.split_digest

    assert digest(0.1) == digest(0.5)
