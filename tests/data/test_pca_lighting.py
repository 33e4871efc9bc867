"""Moments of the colours are exact; the lighting is the 2012 paper's as its author's code has it, once each time an image is shown."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from bakeoff.data.batches import Augmentation, Normalizer, TrainBatches
from bakeoff.data.epoch_sampler import BatchPlan, Shard
from bakeoff.data.memory import channel_moments
from bakeoff.data.pca_lighting import ChannelStatistics, Lighting

N = 60
DRAW = torch.Generator().manual_seed(1)
GREY = torch.randint(40, 200, (N, 1, 8, 8), generator=DRAW)
IMAGES = (GREY + torch.randint(-40, 40, (N, 3, 8, 8), generator=DRAW)).to(torch.uint8)
LABELS = torch.arange(N)


def covariance() -> np.ndarray:
    """The independent formula: numpy's covariance of the pixels in float64."""
    return np.cov(IMAGES.double().div(255).movedim(1, 0).reshape(3, -1).numpy(), bias=True)


def test_channel_statistics_are_exact_in_whatever_parts_images_come() -> None:
    at_once, in_parts = ChannelStatistics(3), ChannelStatistics(3)
    at_once.add(IMAGES)
    for part in torch.split(IMAGES, 7):
        in_parts.add(part)
    assert (at_once.mean, at_once.std) == (in_parts.mean, in_parts.std) == channel_moments(IMAGES)
    assert torch.equal(at_once.covariance, in_parts.covariance)
    assert np.allclose(at_once.covariance.numpy(), covariance(), rtol=0, atol=1e-14)


def test_lighting_has_the_covariance_of_the_pixels() -> None:
    std, draws = 0.1, 200_000
    lighting = Lighting(torch.from_numpy(covariance()), std=std)
    alphas = std * torch.randn(draws, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    shift = lighting.shift(alphas).numpy()
    # sum_i alpha_i s_i p_i with independent alpha_i of variance std^2: that of the pixels, times std^2
    expected = std**2 * covariance()
    observed = np.cov(shift.T, bias=True)
    assert np.abs(observed - expected).max() < 5 * np.abs(expected).max() / math.sqrt(draws)
    assert np.abs(shift.mean(0)).max() < 5 * std * math.sqrt(covariance().max()) / math.sqrt(draws)


def test_lighting_takes_each_alpha_along_its_own_component() -> None:
    lighting = Lighting(torch.from_numpy(covariance()), std=0.1)
    values, vectors = np.linalg.eigh(covariance())
    for i in range(3):
        along = vectors[:, i] * np.sign(vectors[np.abs(vectors[:, i]).argmax(), i])
        alpha = torch.zeros(1, 3, dtype=torch.float64)
        alpha[0, i] = 0.7
        assert np.allclose(lighting.shift(alpha)[0].numpy(), 0.7 * math.sqrt(values[i]) * along, atol=1e-12)


def test_lighting_on_imagenets_colours_is_its_authors_in_grey_levels() -> None:
    # cuda-convnet2's make-data/input_meta: standard deviations along the principal axes of ImageNet's pixels, and these axes in columns.
    spread = np.array([19.72083305, 37.09388853, 121.78006099])
    axes = np.array([[0.41795513, -0.71257945, -0.56351045], [-0.81698062, -0.02354167, -0.5761844], [0.39731118, 0.70119634, -0.59200296]])
    lighting = Lighting(torch.from_numpy((axes * (spread / 255) ** 2) @ axes.T), std=0.1)
    assert np.allclose(lighting.shift(torch.eye(3, dtype=torch.float64)).norm(dim=1).numpy() * 255, spread, rtol=1e-6)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("normalize", [False, True])
def test_each_presentation_is_lit_once_and_all_its_pixels_alike(last: bool, normalize: bool) -> None:
    mean, std = channel_moments(IMAGES) if normalize else (None, None)
    normalizer = Normalizer(channels=3, size=8, mean=mean, std=std, channels_last=last)
    statistics = ChannelStatistics(3)
    statistics.add(IMAGES)
    lighting = Lighting(statistics.covariance, std=2.0)
    plan, augmentation = BatchPlan(12, seed=4), Augmentation(crop=1, flip=True)
    plain = TrainBatches(IMAGES, LABELS, normalizer=normalizer, plan=plan, augmentation=augmentation)
    lit = TrainBatches(IMAGES, LABELS, normalizer=normalizer, plan=plan, augmentation=augmentation, lighting=lighting)
    shifts = []
    for epoch in range(2):
        plain.set_epoch(epoch)
        lit.set_epoch(epoch)
        for (a, y), (b, z) in zip(plain, lit, strict=True):
            assert torch.equal(y, z)  # and the same cuts and mirrors, or the difference would not be flat
            difference = b - a
            assert torch.allclose(difference, difference[:, :, :1, :1].expand_as(difference), atol=1e-5)
            shifts.append(difference[:, :, 0, 0])
    shift = torch.cat(shifts)
    assert len(torch.unique(shift, dim=0)) == 120
    alphas = torch.cat([lit.alphas(e, s, channels=3, std=2.0) for e in range(2) for s in range(5)])
    unit = torch.tensor(std or (1.0,) * 3, dtype=torch.float64)
    assert torch.allclose(shift.double(), lighting.shift(alphas) / unit, atol=1e-5)


@pytest.mark.parametrize(("world", "accumulate"), [(2, 1), (1, 2), (3, 2)])
def test_lighting_is_the_same_whatever_the_devices(world: int, accumulate: int) -> None:
    normalizer, plan = Normalizer(channels=3, size=8), BatchPlan(12, seed=4)
    lighting = Lighting(torch.eye(3, dtype=torch.float64), std=0.1)
    single_device = torch.cat([x for x, _ in TrainBatches(IMAGES, LABELS, normalizer=normalizer, plan=plan, lighting=lighting)])
    order = torch.cat([y for _, y in TrainBatches(IMAGES, LABELS, normalizer=normalizer, plan=plan)])
    gathered = torch.empty_like(single_device)
    for rank in range(world):
        plan, shard = BatchPlan(12, seed=4, accumulate=accumulate), Shard(rank, world)
        share = TrainBatches(IMAGES, LABELS, normalizer=normalizer, plan=plan, lighting=lighting, shard=shard)
        for x, y in share:
            gathered[[int((order == label).nonzero()) for label in y]] = x
    assert torch.equal(gathered, single_device)
