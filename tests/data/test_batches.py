"""Batches: pure functions of (seed, epoch, step), the same images whatever the devices, every image cut and flipped on its own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bakeoff.data.batches import Augmentation, EvalBatches, Normalizer, TrainBatches
from bakeoff.data.epoch_sampler import BatchPlan, Shard, micro_batch_size
from bakeoff.errors import ArgumentError, DataError

N, C, S = 50, 3, 8
IMAGES = torch.randint(1, 256, (N, C, S, S), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(N)  # each image its own label: a batch says which images it holds
RAW = Normalizer(channels=C, size=S)


def batches(
    *,
    normalizer: Normalizer = RAW,
    batch_size: int = 12,
    seed: int = 7,
    accumulate: int = 1,
    max_steps: int | None = None,
    crop: int = 2,
    flip: bool = True,
    rank: int = 0,
    world: int = 1,
    epoch: int = 0,
) -> TrainBatches:
    plan = BatchPlan(batch_size, seed, accumulate, max_steps)
    loader = TrainBatches(IMAGES, LABELS, normalizer=normalizer, plan=plan, augmentation=Augmentation(crop, flip), shard=Shard(rank, world))
    loader.set_epoch(epoch)
    return loader


def listed(loader: TrainBatches) -> list[tuple[Tensor, Tensor]]:
    return list(loader)


def same(a: list[tuple[Tensor, Tensor]], b: list[tuple[Tensor, Tensor]]) -> bool:
    return len(a) == len(b) and all(torch.equal(x, u) and torch.equal(y, v) for (x, y), (u, v) in zip(a, b, strict=True))


def test_an_epoch_is_a_function_of_seed_and_epoch_alone() -> None:
    first = listed(batches())
    torch.manual_seed(123)
    assert same(first, listed(batches()))
    assert not same(first, listed(batches(seed=8)))
    loader = batches()
    loader.set_epoch(1)
    second = listed(loader)
    assert not same(first, second)
    assert same(second, listed(batches(epoch=1)))


def test_order_is_pinned_and_drops_the_incomplete_batch() -> None:
    loader = batches()
    assert len(loader) == 4 and [len(y) for _, y in loader] == [12] * 4
    order = torch.cat([y for _, y in loader]).tolist()
    assert len(set(order)) == 48
    assert order[:12] == [15, 31, 25, 35, 12, 26, 28, 39, 10, 30, 43, 37]


@pytest.mark.parametrize(("world", "accumulate"), [(2, 1), (1, 3), (2, 3), (4, 1)])
def test_the_global_batch_is_the_same_whatever_the_devices(world: int, accumulate: int) -> None:
    single_device = listed(batches(epoch=2))
    ranks = [listed(batches(epoch=2, rank=r, world=world, accumulate=accumulate)) for r in range(world)]
    assert all(len(rank) == len(single_device) * accumulate for rank in ranks)
    for step, (x, y) in enumerate(single_device):
        parts = [part for rank in ranks for part in rank[step * accumulate : (step + 1) * accumulate]]
        labels = torch.cat([v for _, v in parts])
        images = torch.cat([u for u, _ in parts])
        assert torch.equal(labels.sort().values, y.sort().values)
        assert torch.equal(images[labels.argsort()], x[y.argsort()])


@pytest.mark.parametrize("skip", [0, 1, 3, 4, 7, 8])
def test_a_resumed_epoch_is_the_rest_of_it_and_the_next_is_complete(skip: int) -> None:
    full_epoch, next_epoch = listed(batches(epoch=3, accumulate=2)), listed(batches(epoch=4, accumulate=2))
    loader = batches(epoch=3, accumulate=2)
    loader.resume(epoch=3, skip=skip)
    assert len(loader) == len(full_epoch) - skip
    assert same(listed(loader), full_epoch[skip:])
    loader.set_epoch(4)
    assert len(loader) == len(next_epoch) and same(listed(loader), next_epoch)


def test_max_steps_shortens_the_last_epoch_only() -> None:
    loader = batches(max_steps=6)
    lengths = []
    for epoch in range(3):
        loader.set_epoch(epoch)
        lengths.append(len(loader))
    assert lengths == [4, 2, 0]
    assert same(listed(batches(max_steps=6, epoch=1)), listed(batches(epoch=1))[:2])


def test_every_image_is_cropped_and_mirrored_on_its_own() -> None:
    padded = torch.nn.functional.pad(IMAGES, (2, 2, 2, 2)).float().div(255)
    sides = {False: padded, True: padded.flip(-1)}
    seen = set()
    for epoch in range(6):
        for images, labels in batches(epoch=epoch):
            for image, label in zip(images, labels.tolist(), strict=True):
                cuts = [
                    (dy, dx, mirrored)
                    for mirrored, side in sides.items()
                    for dy in range(5)
                    for dx in range(5)
                    if torch.allclose(image, side[label, :, dy : dy + S, dx : dx + S], atol=1e-6)
                ]
                assert len(cuts) == 1
                seen.add(cuts[0])
    assert len(seen) == 50  # 288 draws from 50 equally likely cuts: all are met, so none is left out and none is shared by a batch


def test_nothing_is_copied_where_nothing_is_augmented() -> None:
    loader = batches(crop=0, flip=False)
    assert loader._windows.data_ptr() == IMAGES.data_ptr()
    for images, labels in loader:
        assert torch.allclose(images, IMAGES[labels].float() / 255)


@pytest.mark.parametrize(("crop", "flip"), [(2, True), (0, True), (1, False), (0, False)])
def test_channels_last_gives_the_same_pixels_in_another_layout(crop: int, flip: bool) -> None:
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    usual = listed(batches(normalizer=Normalizer(channels=C, size=S, mean=mean, std=std), crop=crop, flip=flip))
    last = listed(batches(normalizer=Normalizer(channels=C, size=S, mean=mean, std=std, channels_last=True), crop=crop, flip=flip))
    assert same(usual, last)
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x, _ in last)
    assert all(x.is_contiguous() for x, _ in usual)


def test_pixels_are_normalized() -> None:
    normalizer = Normalizer(channels=C, size=S, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    expected = (IMAGES.double() / 255 - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / torch.tensor([0.5, 0.6, 0.7]).view(3, 1, 1)
    assert torch.allclose(normalizer(IMAGES).double(), expected, atol=1e-5)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_evaluation_sees_each_image_once_in_order(world: int) -> None:
    shares = [EvalBatches(IMAGES, LABELS, normalizer=RAW, batch_size=7, shard=Shard(r, world)) for r in range(world)]
    for rank, share in enumerate(shares):
        assert len(share) == len(list(share))
        assert torch.cat([y for _, y in share]).tolist() == list(range(rank, N, world))
        for images, labels in share:
            assert torch.allclose(images, IMAGES[labels].float() / 255)


@pytest.mark.parametrize(("size", "devices", "accumulate"), [(12, 5, 1), (12, 1, 5), (12, 3, 8), (0, 1, 1), (-4, 2, 1)])
def test_a_batch_that_does_not_divide_names_the_three_arguments(size: int, devices: int, accumulate: int) -> None:
    with pytest.raises(ArgumentError) as error:
        micro_batch_size(size, devices=devices, accumulate=accumulate)
    parts = (f"batch_size={size}:", f"devices={devices} ", f"accumulate={accumulate} ")
    assert all(part in str(error.value) for part in parts)


def test_a_batch_larger_than_the_split_is_an_error() -> None:
    with pytest.raises(DataError, match=r"^batch_size=51: is larger than the 50 training images"):
        batches(batch_size=51)
