"""Batches from files: pure functions of (seed, epoch, step), the same for any workers and devices, and whole after a resume."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from bakeoff.data.batches import Augmentation, Normalizer, TrainBatches
from bakeoff.data.decoding import Decoder, Request, decode
from bakeoff.data.epoch_sampler import BatchPlan, Shard
from bakeoff.data.eval_views import ViewPlan
from bakeoff.data.file_batches import EvalFiles, FileBatches, LabelledFiles, scale_range
from bakeoff.data.file_store import FileStore
from bakeoff.data.pca_lighting import Lighting
from bakeoff.errors import ArgumentError

N, SIZE = 26, 16
LABELS = torch.arange(N)  # each image its own label: a batch says which images it holds
RAW = Normalizer(channels=3, size=SIZE)
Batches = list[tuple[Tensor, Tensor]]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Images that grow brighter to the right (red) and downwards (green), so that a cut says where and how large it was taken."""
    top = tmp_path_factory.mktemp("files")
    paths = []
    for i in range(N):
        width, height = (40, 30) if i % 2 else (30, 45)
        image = np.zeros((height, width, 3), dtype=np.uint8)
        image[..., 0], image[..., 1], image[..., 2] = np.linspace(0, 255, width), np.linspace(0, 255, height)[:, None], 9 * i
        Image.fromarray(image).save(top / f"{i:02}.png")
        paths.append(str(top / f"{i:02}.png"))
    return paths


@pytest.fixture(scope="module")
def workers() -> Decoder:
    return Decoder(channels=3, workers=2)


def batches(
    paths: list[str],
    *,
    loader_class: type[FileBatches] = FileBatches,
    decoder: Decoder | None = None,
    normalizer: Normalizer = RAW,
    seed: int = 7,
    accumulate: int = 1,
    flip: bool = True,
    scale: tuple[int, ...] = (18, 24),
    lighting: Lighting | None = None,
    rank: int = 0,
    world: int = 1,
    epoch: int = 0,
) -> FileBatches:
    loader = loader_class(
        LabelledFiles(paths, LABELS),
        decoder=decoder or Decoder(channels=3, workers=0),
        normalizer=normalizer,
        plan=BatchPlan(6, seed, accumulate),
        augmentation=Augmentation(flip=flip, scale=scale),
        lighting=lighting,
        shard=Shard(rank, world),
    )
    loader.set_epoch(epoch)
    return loader


def same(a: Batches, b: Batches) -> bool:
    return len(a) == len(b) > 0 and all(torch.equal(x, u) and torch.equal(y, v) for (x, y), (u, v) in zip(a, b, strict=True))


def test_the_number_of_workers_changes_no_bit(paths: list[str], workers: Decoder) -> None:
    lighting = Lighting(torch.eye(3, dtype=torch.float64) / 20, std=0.1)
    in_process, in_workers = batches(paths, lighting=lighting), batches(paths, lighting=lighting, decoder=workers)
    seen = []
    for epoch in range(3):
        in_process.set_epoch(epoch)
        in_workers.set_epoch(epoch)
        seen.append(list(in_process))
        assert same(seen[-1], list(in_workers))
    assert not same(seen[0], seen[1])
    assert not same(seen[0], list(batches(paths, lighting=lighting, seed=8)))


@pytest.mark.parametrize("count", [0, 2])
@pytest.mark.parametrize("skip", [0, 1, 3, 7])
def test_a_resumed_epoch_is_its_rest_and_decodes_nothing_else(paths: list[str], workers: Decoder, count: int, skip: int) -> None:
    full_epoch, next_epoch = list(batches(paths, epoch=3, accumulate=2)), list(batches(paths, epoch=4, accumulate=2))
    asked = []

    class Counting(FileBatches):
        def _requests(self, epoch: int, index: list[int], k: int) -> list[Request]:
            asked.append((epoch, k))
            return super()._requests(epoch, index, k)

    decoder = workers if count else Decoder(channels=3, workers=0)
    loader = batches(paths, loader_class=Counting, decoder=decoder, accumulate=2, epoch=3)
    loader.resume(epoch=3, skip=skip)
    assert len(loader) == len(full_epoch) - skip
    assert same(list(loader), full_epoch[skip:])
    assert asked == [(3, k) for k in range(skip, 8)]
    loader.set_epoch(4)
    assert len(loader) == len(next_epoch) and same(list(loader), next_epoch)


@pytest.mark.parametrize(("world", "accumulate"), [(2, 1), (1, 3), (2, 3), (3, 1)])
def test_the_global_batch_is_the_same_whatever_the_devices(paths: list[str], world: int, accumulate: int) -> None:
    single_device = list(batches(paths, epoch=2))
    ranks = [list(batches(paths, epoch=2, rank=r, world=world, accumulate=accumulate)) for r in range(world)]
    seen: list[int] = []
    for step, (x, y) in enumerate(single_device):
        parts = [part for rank in ranks for part in rank[step * accumulate : (step + 1) * accumulate]]
        labels, images = torch.cat([v for _, v in parts]), torch.cat([u for u, _ in parts])
        assert torch.equal(labels.sort().values, y.sort().values)
        assert torch.equal(images[labels.argsort()], x[y.argsort()])
        seen += labels.tolist()
    assert len(seen) == len(set(seen)) == 24  # each image once, less the incomplete batch


def test_the_order_is_that_of_images_in_memory(paths: list[str]) -> None:
    images, normalizer = torch.zeros(N, 3, 4, 4, dtype=torch.uint8), Normalizer(channels=3, size=4)
    memory = TrainBatches(images, LABELS, normalizer=normalizer, plan=BatchPlan(6, seed=7))
    assert [y.tolist() for _, y in memory] == [y.tolist() for _, y in batches(paths)]


def read_off(image: Tensor, width: int, height: int) -> tuple[float, float, bool, float]:
    """(shorter side, left, mirrored, top) of a cut of the fixture's images, from its slopes."""
    red, green = image[0, 8] * 255, image[1, :, 8] * 255
    slope_x, slope_y = float(red[10] - red[4]) / 6, float(green[10] - green[4]) / 6
    side = 255 / (height - 1) / slope_y * min(width, height)
    mirrored, step = slope_x < 0, abs(slope_x)
    first = float(red[11] if mirrored else red[4])
    return side, first / step - 4, mirrored, float(green[4]) / slope_y - 4


def test_scale_offset_and_mirror_are_drawn_for_each_image(paths: list[str]) -> None:
    measured = []
    for epoch in range(40):
        for images, labels in batches(paths, epoch=epoch):
            for image, label in zip(images, labels.tolist(), strict=True):
                width, height = (40, 30) if label % 2 else (30, 45)
                measured.append((*read_off(image, width, height), label))
    n = len(measured)
    short = torch.tensor([f[0] for f in measured])
    assert 17 < short.min() < 18.7 and 23.3 < short.max() < 25
    assert (short.round().clamp(18, 24).long().bincount(minlength=25)[18:] > n / 7 * 0.6).all()
    mirrored = sum(f[2] for f in measured)
    assert abs(mirrored - n / 2) < 4 * (n / 4) ** 0.5
    tall = [f for f in measured if f[4] % 2 == 0]
    assert min(f[3] for f in tall) < 1 and max(f[3] for f in tall) > 16  # at side 24 the height of 36 leaves places 0 to 20


def test_requests_draw_sides_and_offsets_evenly(paths: list[str]) -> None:
    loader = batches(paths)
    wanted = [request for epoch in range(300) for request in loader._requests(epoch, list(range(6)), 0)]
    counts = torch.tensor([r.side for r in wanted]).bincount()[18:]
    assert len(counts) == 7 and (counts - 1800 / 7).abs().max() < 4 * (1800 / 7) ** 0.5
    places = torch.tensor([(r.top, r.left) for r in wanted], dtype=torch.float64)
    assert places.min() >= 0 and places.max() < 1
    assert (places.mean(0) - 0.5).abs().max() < 4 * (1 / 12 / 1800) ** 0.5
    assert abs(float(torch.corrcoef(places.T)[0, 1])) < 4 / 1800**0.5
    assert {r.side for r in batches(paths, scale=(20, 20))._requests(0, list(range(6)), 0)} == {20}


def test_without_flips_an_image_is_its_normalized_crop(paths: list[str]) -> None:
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    for last in (False, True):
        normalizer = Normalizer(channels=3, size=SIZE, mean=mean, std=std, channels_last=last)
        loader = batches(paths, flip=False, normalizer=normalizer)
        for k, (images, labels) in enumerate(loader):
            cuts = np.stack([decode(request, channels=3) for request in loader._requests(0, labels.tolist(), k)])
            raw = torch.from_numpy(cuts).permute(0, 3, 1, 2).double() / 255
            expected = (raw - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
            assert torch.allclose(images.double(), expected, atol=1e-5)
            assert images.is_contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


@pytest.mark.parametrize("world", [1, 3])
def test_evaluation_sees_each_file_once_cropped_from_the_middle(paths: list[str], workers: Decoder, world: int) -> None:
    for rank in range(world):
        share = EvalFiles(LabelledFiles(paths, LABELS), decoder=workers, normalizer=RAW, side=20, batch_size=5, shard=Shard(rank, world))
        batches_of_rank = list(share)
        assert len(batches_of_rank) == len(share)
        assert torch.cat([y for _, y in batches_of_rank]).tolist() == list(range(rank, N, world))
        x = torch.cat([x for x, _ in batches_of_rank])
        for image, label in zip(x, range(rank, N, world), strict=True):
            resized = Image.open(paths[label]).resize((26, 20) if label % 2 else (20, 30), Image.Resampling.BILINEAR)
            left, top = (resized.width - SIZE) // 2, (resized.height - SIZE) // 2
            expected = torch.from_numpy(np.array(resized.crop((left, top, left + SIZE, top + SIZE)))).permute(2, 0, 1)
            assert (image * 255 - expected).abs().max() < 1.5


def test_scale_range_follows_the_papers_where_no_scale_is_given() -> None:
    assert scale_range([], size=224) == (256, 256) and scale_range([], size=32) == (37, 37)
    assert scale_range([384], size=224) == (384, 384) and scale_range([256, 512], size=224) == (256, 512)
    for wrong in ([200], [512, 256], [100, 300]):
        with pytest.raises(ArgumentError, match=r"^scale=.*at least size=224"):
            scale_range(wrong, size=224)
    assert FileStore(decoder=Decoder(channels=3, workers=0), size=224, scale=[256, 512], eval_batch_size=8).eval_side == 384


def test_moments_are_measured_on_crops_from_the_middle(paths: list[str]) -> None:
    store = FileStore(decoder=Decoder(channels=3, workers=2), size=SIZE, scale=[20], eval_batch_size=8)
    statistics = store.channel_statistics(paths, key="test", seed=0)
    raw = Normalizer(channels=3, size=SIZE)
    x = torch.cat([x for x, _ in store.eval_batches(LabelledFiles(paths, LABELS), normalizer=raw)]).double().movedim(1, 0).reshape(3, -1)
    assert torch.allclose(torch.tensor(statistics.mean, dtype=torch.float64), x.mean(1), atol=1e-6)
    assert torch.allclose(statistics.covariance, torch.cov(x, correction=0), atol=1e-6)
    assert store.channel_statistics(["/nowhere.png"], key="test", seed=0) is statistics


def test_views_of_files_come_at_each_scale_in_groups_of_one_shape(paths: list[str], workers: Decoder) -> None:
    store = FileStore(decoder=workers, size=SIZE, scale=[20], eval_batch_size=7)
    files = LabelledFiles(paths, LABELS)
    dense = list(store.views(files, normalizer=RAW, plan=ViewPlan("dense", scales=(16, 24))))
    assert torch.cat([y for _, y in dense]).tolist() == list(range(N))
    for scaled, labels in dense:
        assert len(scaled) == 2
        for q, groups in zip((16, 24), scaled, strict=True):
            assert sorted(tuple(images.shape[2:]) for images, _ in groups) == sorted([(q, q * 4 // 3), (q * 3 // 2, q)])
            assert torch.cat([rows for _, rows in groups]).sort().values.tolist() == list(range(len(labels)))
            for images, rows in groups:
                assert torch.allclose(images[:, 2].mean((1, 2)) * 255, 9.0 * labels[rows], atol=0.01)
    for kind, shape in (("ten_crop", (20, 20)), ("whole", (SIZE, SIZE))):
        plan = ViewPlan(kind, flip=kind == "whole")  # type: ignore[arg-type]
        assert {images.shape[2:] for scaled, _ in store.views(files, normalizer=RAW, plan=plan) for images, _ in scaled[0]} == {shape}
