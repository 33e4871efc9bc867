"""The data module: what it measures, and what a real Trainer gets from it, also after a kill and with max_steps within an epoch."""

from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from bakeoff.builders import set_up_data
from bakeoff.config.compose import compose
from bakeoff.data import datamodule, sources
from bakeoff.data.batches import Augmentation
from bakeoff.data.datamodule import ImageDataModule, InputFormat, load_source
from bakeoff.data.epoch_sampler import BatchPlan
from bakeoff.data.memory import Fit, channel_moments, choose_placement, fit_images
from bakeoff.data.sources import Images
from bakeoff.data.splits import SplitSpec
from bakeoff.errors import ArgumentError, ChoiceError, DataError

logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
pytestmark = pytest.mark.filterwarnings("ignore:::(pytorch_lightning|lightning_fabric)")


def toy(n: int = 100, *, channels: int = 1, size: int = 6) -> Images:
    draw = torch.Generator().manual_seed(5)
    x = torch.randint(0, 256, (n + 20, channels, size, size), dtype=torch.uint8, generator=draw)
    y = torch.arange(n + 20) % 4
    return Images(x[:n], y[:n], x[n:], y[n:], ("a", "b", "c", "d"))


def image_data(
    source: Callable[[], Images] = toy,
    *,
    fit: Fit = "pad",
    normalize: bool | Literal["mean"] = True,
    crop: int = 1,
    flip: bool = True,
    batch_size: int = 16,
    seed: int = 3,
    accumulate: int = 1,
    max_steps: int | None = None,
    eval_batch_size: int = 512,
    val_fraction: float = 0.1,
    split_seed: int = 0,
    subset: int | None = None,
) -> ImageDataModule:
    return ImageDataModule(
        source,
        input_format=InputFormat(8, fit, normalize),
        batch_plan=BatchPlan(batch_size, seed, accumulate, max_steps, eval_batch_size),
        split_spec=SplitSpec(val_fraction, split_seed, subset),
        augmentation=Augmentation(crop, flip),
    )


def test_setup_measures_the_training_split_and_loads_once() -> None:
    calls = []

    def source() -> Images:
        calls.append(1)
        return toy(channels=3)

    data = image_data(source)
    data.setup()
    data.setup("fit")
    data.setup("test")
    assert len(calls) == 1
    assert (data.n_train, data.n_val, data.n_test, data.steps_per_epoch) == (90, 10, 20, 5)
    assert (data.channels, data.classes) == (3, ("a", "b", "c", "d"))
    assert data.digest == toy(channels=3).digest()
    x = torch.cat([x for x, _ in image_data_without_augmentation(source)])
    assert torch.allclose(x.mean((0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(x.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-5)


def image_data_without_augmentation(source: Callable[[], Images]) -> Any:
    data = image_data(source, crop=0, flip=False, batch_size=90)
    data.setup()
    return data.train_dataloader()


def test_moments_are_those_of_the_pixels() -> None:
    x = torch.randint(0, 256, (40, 3, 5, 5), dtype=torch.uint8)
    mean, std = channel_moments(x)
    exact = x.double() / 255
    assert torch.allclose(torch.tensor(mean, dtype=torch.float64), exact.mean((0, 2, 3)), atol=1e-12)
    assert torch.allclose(torch.tensor(std, dtype=torch.float64), exact.std((0, 2, 3), correction=0), atol=1e-12)


def test_split_digest_follows_the_split_and_nothing_else() -> None:
    digests = []
    variants: list[dict[str, Any]] = [{}, {"seed": 9, "batch_size": 8}, {"split_seed": 1}, {"subset": 50}]
    for changes in variants:
        data = image_data(**changes)
        data.setup()
        digests.append(data.split_digest)
    assert digests[0] == digests[1] and len(set(digests)) == 3


def test_images_are_padded_centred_or_resized() -> None:
    x = torch.full((2, 1, 6, 6), 200, dtype=torch.uint8)
    padded = fit_images(x, size=8, fit="pad")
    assert padded.shape == (2, 1, 8, 8) and (padded[:, :, 1:7, 1:7] == 200).all() and int(padded.sum()) == 200 * 72
    assert (fit_images(x, size=9, fit="resize") == 200).all() and fit_images(x, size=9, fit="resize").dtype == torch.uint8
    assert fit_images(x, size=6, fit="pad") is x
    with pytest.raises(ArgumentError, match=r"^fit=pad: images of 6x6 do not fit into size=4"):
        fit_images(x, size=4, fit="pad")
    with pytest.raises(ArgumentError, match=r"^fit=crop: must be one of resize, pad"):
        fit_images(x, size=8, fit="crop")  # type: ignore[arg-type]


def test_resizing_is_torchvisions_within_rounding() -> None:
    from torchvision.transforms.v2 import functional as F

    x = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8)
    for size in (8, 32):
        assert (fit_images(x, size=size, fit="resize").int() - F.resize(x, [size, size], antialias=True).int()).abs().max() <= 1


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"batch_size": 15, "accumulate": 2}, ArgumentError, "^batch_size=15"),
        ({"batch_size": 96}, DataError, "^batch_size=96: is larger than the 90 training images"),
        ({"subset": 101}, DataError, "^subset=101"),
        ({"val_fraction": 1.5}, DataError, "^val_fraction=1.5"),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        image_data(**changes).setup()


def test_the_mean_alone_is_subtracted_in_steps_of_255() -> None:
    centred, plain = image_data(normalize="mean", crop=0, flip=False), image_data(normalize=False, crop=0, flip=False)
    for data in (centred, plain):
        data.setup()
    for (images, labels), (unnormalized, same_labels) in zip(centred.train_dataloader(), plain.train_dataloader(), strict=True):
        assert torch.equal(labels, same_labels)
        torch.testing.assert_close(images, 255 * (unnormalized - torch.tensor(centred.mean).view(1, -1, 1, 1)), rtol=1e-5, atol=1e-3)


def test_constant_images_cannot_be_normalized() -> None:
    lit = toy()
    dark = Images(torch.zeros_like(lit.train_x), lit.train_y, lit.test_x, lit.test_y, lit.classes)
    with pytest.raises(DataError, match=r"^normalize=true"):
        image_data(lambda: dark, fit="resize").setup()


def test_images_are_kept_on_the_device_only_where_they_leave_half_of_it_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 2000))
    gpu = torch.device("cuda", 0)
    assert choose_placement(gpu, need=500) == gpu
    assert choose_placement(gpu, need=501) == torch.device("cpu")
    with pytest.raises(DataError, match=r"^`size`, `subset`"):
        choose_placement(torch.device("cpu"), need=2**60)


def test_a_source_is_read_once_by_what_it_is_called_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datamodule, "_loaded", {})
    first, _ = load_source(functools.partial(sources.digits, root=Path("a"), download=False))
    assert load_source(functools.partial(sources.digits, root=Path("a"), download=False))[0] is first
    assert load_source(functools.partial(sources.digits, root=Path("b"), download=False))[0] is not first


class Linear(pl.LightningModule):
    """A net that writes down every batch that it is given and when it was validated."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Linear(64, 4)
        self.seen: list[tuple[int, Tensor, Tensor]] = []
        self.validated: list[tuple[int, int]] = []

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.net.parameters(), lr=0.05, momentum=0.9)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        self.seen.append((self.current_epoch, batch[0].clone(), batch[1].clone()))
        return nn.functional.cross_entropy(self.net(batch[0].flatten(1)), batch[1])

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.validated.append((self.current_epoch, len(batch[1])))

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.validated.append((-1, len(batch[1])))


class KillAfter(pl.Callback):
    def __init__(self, batches: int) -> None:
        self.batches = batches

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        if len(pl_module.seen) == self.batches:  # type: ignore[arg-type]
            raise KeyboardInterrupt


def trainer(epochs: int, *callbacks: pl.Callback, accumulate: int = 1) -> pl.Trainer:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pl.Trainer(
            max_epochs=epochs, accelerator="cpu", devices=1, accumulate_grad_batches=accumulate, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, use_distributed_sampler=False,
            reload_dataloaders_every_n_epochs=1, callbacks=list(callbacks),
        )  # fmt: skip


def train(data: ImageDataModule, net: Linear, epochs: int, *callbacks: pl.Callback, epoch: int = 0, momentum: Any = None) -> pl.Trainer:
    fitted_trainer = trainer(epochs, *callbacks, accumulate=data.batch_plan.accumulate)
    for counter in ("ready", "started", "processed", "completed"):
        setattr(fitted_trainer.fit_loop.epoch_progress.current, counter, epoch)
    if momentum is not None:
        net.configure_optimizers = lambda: momentum(net)  # type: ignore[method-assign]
    fitted_trainer.fit(net, datamodule=data)
    return fitted_trainer


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("kill", [2, 6, 8, 14])
def test_a_resumed_fit_sees_exactly_what_remained(kill: int, accumulate: int) -> None:
    uninterrupted = Linear()
    train(image_data(accumulate=accumulate), uninterrupted, 3)
    per_epoch = 5 * accumulate
    assert [e for e, _, _ in uninterrupted.seen] == [e for e in range(3) for _ in range(per_epoch)]

    first = Linear()
    with pytest.raises(SystemExit):  # Lightning's answer to a KeyboardInterrupt
        train(image_data(accumulate=accumulate), first, 3, KillAfter(kill))
    state = first.trainer.optimizers[0].state_dict()
    epoch, skip = divmod(kill, per_epoch)

    second = Linear()
    second.net.load_state_dict(first.net.state_dict())

    def optimizer(net: Linear) -> torch.optim.Optimizer:
        restored = torch.optim.SGD(net.net.parameters(), lr=0.05, momentum=0.9)
        restored.load_state_dict(state)
        return restored

    data = image_data(accumulate=accumulate)
    data.load_state_dict({"epoch": epoch, "skip": skip})
    train(data, second, 3, epoch=epoch, momentum=optimizer)
    seen = first.seen + second.seen
    assert len(seen) == len(uninterrupted.seen)
    for (e, x, y), (f, u, v) in zip(uninterrupted.seen, seen, strict=True):
        assert e == f and torch.equal(x, u) and torch.equal(y, v)
    assert first.validated + second.validated == uninterrupted.validated == [(0, 10), (1, 10), (2, 10)]
    assert all(torch.equal(a, b) for a, b in zip(uninterrupted.net.parameters(), second.net.parameters(), strict=True))


@pytest.mark.parametrize(("max_steps", "epochs"), [(3, 1), (5, 1), (7, 2), (13, 3), (99, 4)])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_max_steps_ends_training_with_a_validation(max_steps: int, epochs: int, accumulate: int) -> None:
    data, net = image_data(max_steps=max_steps, accumulate=accumulate), Linear()
    data.setup()
    assert data.epochs(4) == epochs and data.total_steps(4) == min(max_steps, 20)
    fitted_trainer = train(data, net, data.epochs(4))
    assert fitted_trainer.global_step == data.total_steps(4)
    assert net.validated == [(e, 10) for e in range(epochs)]


def test_a_trainer_tests_on_every_test_image_in_batches() -> None:
    data, net = image_data(eval_batch_size=8), Linear()
    fitted_trainer = train(data, net, 1)
    net.validated.clear()
    fitted_trainer.test(net, datamodule=data, verbose=False)
    assert net.validated == [(-1, 8), (-1, 8), (-1, 4)]


def test_a_second_fit_begins_anew() -> None:
    data, first, second = image_data(), Linear(), Linear()
    train(data, first, 2)
    train(data, second, 2)
    assert all(torch.equal(x, u) for (_, x, _), (_, u, _) in zip(first.seen, second.seen, strict=True))


@pytest.mark.parametrize(
    ("overrides", "error", "words"),
    [
        (["data.augment.scale=[40]"], ChoiceError, r"^data\.augment\.scale=\[40\]: is for image files, .*: use data\.augment\.crop$"),
        (
            ["data.fit=pad", "data.size=6"],
            ChoiceError,
            r"^data\.fit=pad: images of 8x8 do not fit into data\.size=6: use data\.fit=resize$",
        ),
        (["data.views.scales=[8]"], ChoiceError, r"^data\.views\.scales=\[8\]: is for data\.views\.kind=ten_crop or dense"),
        (["data.views.kind=ten_crop", "data.views.flip=true"], ChoiceError, r"^data\.views\.flip=true: the ten crops of data\.views\.kind"),
        (["data.subset=9999"], DataError, r"^data\.subset=9999: must lie between 1 and the 1442 images"),
        (["data.batch_size=9999"], DataError, r"^data\.batch_size=9999: .*\(see data\.subset, data\.val_fraction\)$"),
        (
            ["data=cifar10", "data.root='/no?size=3/a'"],
            DataError,
            r"^data\.root=/no\?size=3/a: holds no cifar10 .*: set data\.download=true, or",
        ),
    ],
)
def test_a_runs_errors_name_the_keys_of_its_config(overrides: list[str], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        set_up_data(compose(overrides))


OWN_SOURCE = """
from bakeoff.errors import ArgumentError

def stripes(*, root, download, images: int = 600):
    raise ArgumentError(f"images={images}: must be 4 or more, see `root` (http://host/?images=3)")
"""


def test_a_source_of_a_users_own_names_its_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_source.py").write_text(OWN_SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("BAKEOFF_TRUST", "own_source")
    run = compose(["data.source._target_=own_source.stripes", "+data.source.images=3"])
    with pytest.raises(ChoiceError, match=r"^data\.source\.images=3: must be 4 or more, see data\.root \(http://host/\?images=3\)$"):
        set_up_data(run)
