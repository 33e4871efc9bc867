"""Views of a test image: where the ten crops lie, what the dense net's map holds, and that averages are the papers'."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bakeoff import builders
from bakeoff.builders import validate_run
from bakeoff.config.compose import compose
from bakeoff.config.schema import EvalViews
from bakeoff.data.epoch_sampler import Shard
from bakeoff.data.eval_views import ImageViews, ViewPlan
from bakeoff.errors import ArgumentError
from bakeoff.nets.fully_convolutional import to_fully_convolutional
from bakeoff.training.metrics import LossAccuracyMeter
from bakeoff.training.run_lifecycle import create_run_dir
from bakeoff.training.run_training import train_from_dir
from bakeoff.training.view_scores import ViewScores, ten_crops

SMALL = ["model.width=0.05", "data.subset=160", "data.batch_size=32", "trainer.max_epochs=1", "trainer.threads=1", "test=true"]


class Seen(nn.Module):
    """Writes down what it is shown, and scores an image by the means of its quarters."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.shown.append(images)
        return functional.adaptive_avg_pool2d(images[:, :1], 2).flatten(1)


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def views(net: nn.Module, **changes: Any) -> ViewScores:
    settings: dict[str, Any] = {"size": 6, "probabilities": True}
    plan = EvalViews(**{name: changes.pop(name) for name in ("kind", "flip", "scales") if name in changes})
    return ViewScores(net, plan, **(settings | changes))


def test_ten_crops_lie_at_the_corners_and_in_the_middle_and_are_mirrored() -> None:
    images = torch.arange(2 * 3 * 9 * 11, dtype=torch.float32).view(2, 3, 9, 11)
    crops = ten_crops(images, size=6)
    places = [(0, 0), (0, 5), (3, 0), (3, 5), (1, 2)]
    assert len(crops) == 10
    for (top, left), crop, mirror in zip(places, crops[:5], crops[5:], strict=True):
        assert torch.equal(crop, images[:, :, top : top + 6, left : left + 6])
        assert torch.equal(mirror, torch.flip(images[:, :, top : top + 6, left : left + 6], dims=(3,)))


def test_ten_crops_are_torchvisions() -> None:
    from torchvision.transforms import functional as F

    images = draw(2, 3, 10, 10)
    ours, theirs = ten_crops(images, size=6), list(F.ten_crop(images, 6))  # which cuts the mirrored image in another order
    assert len(theirs) == 10
    assert all(any(torch.equal(crop, other) for other in theirs) for crop in ours)
    assert all(any(torch.equal(crop, other) for other in ours) for crop in theirs)


def test_probabilities_are_averaged_over_the_ten_crops() -> None:
    images, net = draw(4, 3, 9, 9) * 5, Seen()
    scores = views(net, kind="ten_crop")([[(images, torch.arange(4))]], count=4)
    expected = torch.stack([Seen()(crop).double().softmax(1) for crop in ten_crops(images, size=6)]).mean(0)
    assert torch.allclose(scores.double().exp(), expected, atol=1e-6)
    targets = torch.tensor([0, 1, 2, 3])
    nll = -expected[torch.arange(4), targets].log().mean()
    assert torch.allclose(nn.CrossEntropyLoss()(scores, targets).double(), nll, atol=1e-5)


def test_probabilities_near_zero_stay_finite() -> None:
    images = torch.zeros(1, 1, 6, 6)
    images[..., :3, :3] = 4000
    scores = views(Seen(), flip=True)([[(images, torch.arange(1))]], count=1)
    assert torch.isfinite(scores).all()


def test_scores_are_averaged_for_losses_without_softmax_over_mirrors_scales_and_groups() -> None:
    small, large = draw(3, 3, 6, 6), draw(3, 3, 8, 8)
    scaled = [[(small[[2, 0]], torch.tensor([2, 0])), (small[[1]], torch.tensor([1]))], [(large, torch.arange(3))]]
    scores = views(Seen(), flip=True, probabilities=False)(scaled, count=3)
    expected = torch.stack([Seen()(x) for x in (small, small.flip(-1), large, large.flip(-1))]).mean(0)
    assert torch.allclose(scores, expected, atol=1e-6)


def test_at_the_nets_own_size_the_dense_map_is_one_cell_with_its_scores() -> None:
    run = compose(["model=alexnet_mini", "model.width=0.05"])
    net = builders.make_model(run).eval()
    images = draw(2, 1, 32, 32)
    with torch.no_grad():
        assert torch.allclose(to_fully_convolutional(net)(images)[:, :, 0, 0], net(images), atol=1e-5)
        whole = views(to_fully_convolutional(net), kind="dense", size=32)([[(images, torch.arange(2))]], count=2)
        assert torch.allclose(whole, net(images).log_softmax(1), atol=1e-5)


class Slid(nn.Module):
    """A net without padding whose dense form is itself: conv, then a full-size kernel."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 4)

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.last(self.first(images).relu())
        return scores


def test_dense_scores_are_the_mean_over_all_windows_then_softmax_then_the_mean_over_mirrors() -> None:
    net, images = Slid().double(), draw(2, 3, 8, 9).double()
    with torch.no_grad():
        found = views(net, kind="dense", flip=True)([[(images, torch.arange(2))]], count=2)
        sides = []
        for side in (images, images.flip(-1)):
            windows = [net(side[:, :, i : i + 6, j : j + 6])[:, :, 0, 0] for i in range(3) for j in range(4)]
            sides.append(torch.stack(windows).mean(0).softmax(1))
    assert torch.allclose(found.exp(), torch.stack(sides).mean(0), atol=1e-12)


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (ViewPlan("whole", scales=(40,)), r"scales=\[40\]: is for kind=ten_crop or dense"),
        (ViewPlan("ten_crop", flip=True), r"flip=true: the ten crops"),
        (ViewPlan("dense", scales=(31, 40)), r"scales=\[31, 40\]: every scale must be at least size=32"),
    ],
)
def test_views_that_do_not_go_together_are_told(plan: ViewPlan, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        plan.check(size=32)


def test_images_in_memory_are_padded_or_fitted_for_ten_crops() -> None:
    images = torch.full((2, 1, 8, 8), 9, dtype=torch.uint8)

    def fit(x: Tensor, *, size: int) -> Tensor:
        return x.repeat(1, 1, 2, 2)[..., :size, :size]

    (padded,) = ViewPlan("ten_crop").images(images, fit=fit, size=8, crop=2)
    assert padded.shape == (2, 1, 12, 12) and int(padded.sum()) == 2 * 64 * 9 and (padded[:, :, 2:10, 2:10] == 9).all()
    assert [x.shape[-1] for x in ViewPlan("ten_crop", scales=(10, 12)).images(images, fit=fit, size=8, crop=2)] == [10, 12]
    assert [x.shape[-1] for x in ViewPlan("dense").images(images, fit=fit, size=8, crop=2)] == [8]
    with pytest.raises(ArgumentError, match=r"kind=ten_crop: images of size=8 .*scales=\[9\].*`crop`"):
        ViewPlan("ten_crop").check(size=8, crop=0)
    ViewPlan("ten_crop").check(size=8)  # image files are larger than the cut
    ViewPlan("ten_crop", scales=(9,)).check(size=8, crop=0)


def test_view_batches_share_the_images_out_over_ranks() -> None:
    from bakeoff.data.batches import Normalizer

    x, y = torch.randint(0, 256, (11, 3, 8, 8), dtype=torch.uint8), torch.arange(11)
    for last in (False, True):
        normalizer = Normalizer(channels=3, size=6, channels_last=last)
        for rank in range(2):
            loader = ImageViews([x, x[..., :7, :7]], y, normalizer=normalizer, batch_size=4, shard=Shard(rank, 2))
            found = list(loader)
            assert len(found) == len(loader)
            assert torch.cat([labels for _, labels in found]).tolist() == list(range(rank, 11, 2))
            for scaled, labels in found:
                for (images, rows), side in zip((scaled[0][0], scaled[1][0]), (8, 7), strict=True):
                    assert rows.tolist() == list(range(len(labels)))
                    assert torch.allclose(images * 255, x[labels][..., :side, :side].float(), atol=1e-4)


@pytest.mark.parametrize(
    "choice", [["data.views.kind=ten_crop"], ["data.views.kind=dense", "data.views.flip=true", "data.views.scales=[32,40]"]]
)
def test_a_run_is_tested_by_its_views_and_trained_as_without(tmp_path: Path, choice: list[str]) -> None:
    results = []
    for name, views in (("plain", []), ("views", choice)):
        run = compose([*SMALL, *views, f"tracking.folder={tmp_path / name}", f"tracking.uri=sqlite:///{tmp_path / 'mlflow.db'}"])
        validate_run(run)
        results.append(train_from_dir(create_run_dir(run).path).metrics)
    plain, several = results
    assert {k: v for k, v in plain.items() if not k.startswith("test")} == {k: v for k, v in several.items() if not k.startswith("test")}
    assert 0 <= several["test/accuracy"] <= 1 and 0 < several["test/loss"] < 10
    assert several["test/loss"] != plain["test/loss"]


def test_accuracy_within_the_best_five_is_counted_where_asked() -> None:
    scores, targets = draw(50, 120), torch.arange(50)
    with_top_5, plain = LossAccuracyMeter(top_k=5), LossAccuracyMeter()
    for meter in (with_top_5, plain):
        for part in (slice(0, 20), slice(20, 50)):
            meter.update(torch.tensor(1.0), scores[part], targets[part])
    reading = with_top_5.compute()
    assert (reading.loss, reading.accuracy) == (plain.compute().loss, plain.compute().accuracy)
    expected = sum(int(t) in row.argsort(descending=True)[:5].tolist() for row, t in zip(scores, targets, strict=True)) / 50
    assert reading.top_k_accuracy == expected and len(plain.sums) == 3 and plain.compute().top_k_accuracy is None
