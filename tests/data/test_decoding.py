"""Decoding: pixels are those of a resize and a cut, whatever process makes them; damaged files and dead workers are named at once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from torch import Tensor

from bakeoff.data import decoding
from bakeoff.data.decoding import Decoder, Request, crop_offset, decode, resized_shape
from bakeoff.errors import ArgumentError, DataError


def picture(path: Path, *, width: int, height: int, seed: int, mode: str = "RGB") -> str:
    """A smooth random image, as photographs are, so that JPEG keeps it."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3)).astype("uint8")
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).convert(mode).save(path)
    return str(path)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    top = tmp_path_factory.mktemp("pictures")
    return [picture(top / f"{i}.jpg", width=50 + 7 * (i % 3), height=40 + 5 * (i % 4), seed=i) for i in range(12)]


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return Decoder(channels=3, workers=2)


def batches(paths: list[str]) -> list[list[Request]]:
    wanted = [Request(path, 36 + i, 32, i / 12, 1 - (i + 1) / 12) for i, path in enumerate(paths)]
    return [wanted[:5], wanted[5:10], wanted[10:]]


@pytest.mark.parametrize(("width", "height"), [(50, 40), (40, 50), (41, 41), (64, 37), (37, 97)])
@pytest.mark.parametrize("side", [32, 36, 75])
def test_a_crop_is_torchvisions_resize_and_crop(tmp_path: Path, width: int, height: int, side: int) -> None:
    from torchvision.transforms import functional as F

    path = picture(tmp_path / "a.png", width=width, height=height, seed=1)
    resized = F.resize(Image.open(path), side)
    assert resized_shape(width, height, side=side) == resized.size
    decoded = decode(Request(path, side, 0), channels=3)
    assert np.array_equal(decoded, np.asarray(resized))
    for share in (0.0, 0.3, 0.999999):
        top, left = int(share * (resized.height - 31)), int(share * (resized.width - 31))
        expected = np.asarray(F.crop(resized, top, left, 32, 32)).astype(int)
        difference = np.abs(decode(Request(path, side, 32, share, share), channels=3) - expected)
        assert difference.max() <= 2 and difference.mean() < 0.25  # ties, which either of the two passes may round up or down


def test_a_crop_takes_every_offset_alike_and_the_middle_without_a_fraction() -> None:
    shares = (torch.arange(60, dtype=torch.float64) / 60).tolist()
    assert torch.bincount(torch.tensor([crop_offset(4, share) for share in shares])).tolist() == [12] * 5
    assert [crop_offset(room, None) for room in (0, 1, 2, 5)] == [0, 0, 1, 2]


def test_a_large_jpeg_is_decoded_small_and_looks_the_same(tmp_path: Path) -> None:
    path = picture(tmp_path / "large.jpg", width=640, height=480, seed=3)
    expected = np.asarray(Image.open(path).resize((128, 96), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(decode(Request(path, 96, 0), channels=3) - expected).mean() < 2


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1"])
@pytest.mark.parametrize("channels", [1, 3])
def test_files_of_any_mode_come_with_the_channels_asked_for(tmp_path: Path, mode: str, channels: int) -> None:
    path = picture(tmp_path / "a.png", width=40, height=40, seed=1, mode=mode)
    assert decode(Request(path, 40, 32), channels=channels).shape == (32, 32, channels)


def test_workers_give_what_this_process_gives_epoch_after_epoch(paths: list[str], decoder: Decoder) -> None:
    requests = batches(paths)
    local = list(Decoder(channels=3, workers=0).read(requests, count=3))
    for _ in range(2):
        remote = list(decoder.read(requests, count=3))
        assert [batch.shape for batch in remote if isinstance(batch, Tensor)] == [(5, 32, 32, 3), (5, 32, 32, 3), (2, 32, 32, 3)]
        assert all(torch.equal(a, b) for a, b in zip(local, remote, strict=True) if isinstance(a, Tensor) and isinstance(b, Tensor))


def test_whole_images_keep_their_shapes(paths: list[str], decoder: Decoder) -> None:
    (images,) = decoder.read([[Request(path, 36, 0) for path in paths]], count=1)
    assert isinstance(images, list)
    for path, image in zip(paths, images, strict=True):
        assert np.array_equal(image.numpy(), decode(Request(path, 36, 0), channels=3))


def test_readings_may_be_abandoned_and_may_overlap(paths: list[str], decoder: Decoder) -> None:
    requests = batches(paths)
    expected = list(Decoder(channels=3, workers=0).read(requests, count=3))
    left = decoder.read(requests, count=3)
    assert torch.equal(next(left), expected[0])  # type: ignore[arg-type]
    inner = list(decoder.read(requests[1:], count=2))
    assert torch.equal(inner[0], expected[1])  # type: ignore[arg-type]
    assert torch.equal(next(left), expected[1])  # type: ignore[arg-type]
    last = next(left)
    after = decoder.read(requests, count=3)  # the first reading is done, though nobody asked for its end
    assert torch.equal(next(after), expected[0])  # type: ignore[arg-type]
    left.close()
    assert torch.equal(last, expected[2])  # type: ignore[arg-type]
    assert torch.equal(next(after), expected[1])  # type: ignore[arg-type]


def test_no_more_is_decoded_ahead_than_the_bound(paths: list[str], decoder: Decoder) -> None:
    asked = []

    def requests() -> object:
        for number in range(40):
            asked.append(number)
            yield [Request(paths[0], 36, 32)]

    reading = decoder.read(requests(), count=40)  # type: ignore[arg-type]
    for taken in range(5):
        next(reading)
        time.sleep(0.05)
        assert len(asked) <= taken + 1 + decoding.PREFETCH_FACTOR * decoder.workers
    reading.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_file_is_named_in_one_line(paths: list[str], decoder: Decoder, tmp_path: Path, workers: int) -> None:
    torn = tmp_path / "torn.jpg"
    torn.write_bytes(Path(paths[0]).read_bytes()[:400])
    text = tmp_path / "text.jpg"
    text.write_text("no image")
    reader = decoder if workers else Decoder(channels=3, workers=0)
    for bad in (torn, text, tmp_path / "gone.jpg"):
        began = time.monotonic()
        with pytest.raises(DataError) as error:
            list(reader.read([*batches(paths), [Request(str(bad), 36, 32)]], count=4))
        assert str(bad) in str(error.value) and "cannot be decoded as an image" in str(error.value) and "\n" not in str(error.value)
        assert time.monotonic() - began < 5
    assert len(list(reader.read(batches(paths), count=3))) == 3


@pytest.mark.slow
def test_a_killed_worker_is_an_error_at_once(paths: list[str]) -> None:
    decoder, before = Decoder(channels=3, workers=2), set(multiprocessing.active_children())
    reading = decoder.read([[Request(path, 36, 32) for path in paths]] * 400, count=400)
    next(reading)
    victim, _ = set(multiprocessing.active_children()) - before
    assert victim.pid is not None
    os.kill(victim.pid, signal.SIGKILL)
    began = time.monotonic()
    with pytest.raises(DataError, match=r"^workers=2: a process that decodes images died"):
        list(reading)
    assert time.monotonic() - began < 30
    assert len(list(decoder.read(batches(paths), count=3))) == 3


ORPHAN = """
import os, sys, time
from bakeoff.data.decoding import Decoder, Request
if __name__ == "__main__":
    reading = Decoder(channels=3, workers=2).read([[Request(sys.argv[1], 36, 32)]] * 9, count=9)
    next(reading)
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
def test_workers_end_with_a_killed_training_process(paths: list[str], tmp_path: Path) -> None:
    script = tmp_path / "orphan.py"
    script.write_text(ORPHAN)
    process = subprocess.Popen([sys.executable, str(script), paths[0]], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) >= 3  # a fork server and two workers
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(family, timeout=10)
    for child in alive:
        child.kill()
    assert not alive


def test_too_little_shared_memory_is_an_error_before_anything_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(decoding, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 64 * 2**20})())
    Decoder(channels=3, workers=2).check_shared_memory(batch=64, images=10**6, side=224)
    with pytest.raises(DataError, match=r"^workers=8: .* 294 MiB of shared memory .* has 64: lower `workers`"):
        Decoder(channels=3, workers=8).check_shared_memory(batch=128, images=10**6, side=224)
    Decoder(channels=3, workers=8).check_shared_memory(batch=128, images=100, side=224)
    Decoder(channels=3, workers=0).check_shared_memory(batch=10**6, images=10**6, side=224)


def test_files_have_one_or_three_channels() -> None:
    with pytest.raises(ArgumentError, match=r"^channels=2"):
        Decoder(channels=2, workers=0)
