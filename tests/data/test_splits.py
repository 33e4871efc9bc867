"""Splits: disjoint, stratified, a function of their own seed, nested over subsets, and clear where they cannot be made."""

from __future__ import annotations

import pytest
import torch

from bakeoff.data.splits import apportion, fixed_test_split, stratified_split
from bakeoff.errors import DataError

LABELS = torch.tensor([0] * 100 + [1] * 50 + [2] * 30)[torch.randperm(180, generator=torch.Generator().manual_seed(0))]


def test_parts_are_disjoint_complete_and_proportional() -> None:
    train, val = stratified_split(LABELS, val_fraction=0.1, seed=0)
    assert sorted([*train.tolist(), *val.tolist()]) == list(range(180))
    assert torch.bincount(LABELS[val]).tolist() == [10, 5, 3]


def test_split_depends_on_its_seed_only() -> None:
    first = stratified_split(LABELS, val_fraction=0.1, seed=0)
    torch.manual_seed(99)
    again = stratified_split(LABELS, val_fraction=0.1, seed=0)
    other = stratified_split(LABELS, val_fraction=0.1, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[1], other[1])


def test_split_is_pinned() -> None:
    _, val = stratified_split(torch.arange(40) % 4, val_fraction=0.2, seed=0)
    assert val.tolist() == [0, 2, 3, 17, 22, 25, 27, 32]


def test_smaller_subsets_are_nested_and_never_mix() -> None:
    train, val = stratified_split(LABELS, val_fraction=0.2, seed=3)
    small_train, small_val = stratified_split(LABELS, val_fraction=0.2, seed=3, subset=60)
    assert len(small_train) + len(small_val) == 60 and len(small_val) == 12
    assert set(small_train.tolist()) <= set(train.tolist())
    assert set(small_val.tolist()) <= set(val.tolist())


def test_apportioned_counts_add_up_by_largest_remainder() -> None:
    assert apportion(10, [1, 1, 1]) == [4, 3, 3]
    assert apportion(7, [50, 30, 20]) == [4, 2, 1]
    assert sum(apportion(13, [3, 99, 7, 41])) == 13


@pytest.mark.parametrize(
    ("kwargs", "key"),
    [
        ({"val_fraction": 0.0}, "val_fraction=0.0"),
        ({"val_fraction": 1.0}, "val_fraction=1.0"),
        ({"val_fraction": float("nan")}, "val_fraction=nan"),
        ({"val_fraction": 0.1, "subset": 181}, "subset=181"),
        ({"val_fraction": 0.1, "subset": 0}, "subset=0"),
        ({"val_fraction": 0.1, "subset": 4}, "subset=4"),
        ({"val_fraction": 0.001}, "val_fraction=0.001"),
        ({"val_fraction": 0.999}, "val_fraction=0.999"),
    ],
)
def test_impossible_splits_name_the_argument(kwargs: dict[str, float], key: str) -> None:
    with pytest.raises(DataError) as error:
        stratified_split(LABELS, seed=0, **kwargs)  # type: ignore[arg-type]
    assert key in str(error.value)


def test_the_fixed_test_split_takes_a_fifth_of_each_class() -> None:
    train, test = fixed_test_split(LABELS)
    assert torch.bincount(LABELS[test]).tolist() == [20, 10, 6]
    assert sorted([*train.tolist(), *test.tolist()]) == list(range(180))
