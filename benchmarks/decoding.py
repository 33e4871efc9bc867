"""Images per second from JPEG files against torchvision's ImageFolder in a DataLoader with as many workers, in one run.

torchvision's: RandomResizedCrop, mirror, tensor and normalize for each image in the worker. Ours: the shorter side to 256 and a random
cut in the worker, mirror, lighting and normalize by batches on the device. The JPEGs are written first, in the size of ImageNet's
average. `--device cuda` counts the way to the GPU as well, from pinned memory on both sides.

    python benchmarks/decoding.py [--json] [--images 512] [--repeats 5] [--workers 2] [--device cpu]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from bakeoff.data.batches import Augmentation, Normalizer
from bakeoff.data.decoding import Decoder
from bakeoff.data.epoch_sampler import BatchPlan
from bakeoff.data.file_batches import FileBatches, LabelledFiles
from bakeoff.data.pca_lighting import Lighting

SIZE, BATCH, WIDTH, HEIGHT = 224, 64, 500, 375
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def write(top: Path, *, images: int) -> None:
    """Smooth random pictures with some noise: about 40 kB each at quality 90."""
    draw = np.random.default_rng(0)
    for i in range(images):
        folder = top / str(i % 2)
        folder.mkdir(exist_ok=True)
        coarse = Image.fromarray(draw.integers(0, 256, (12, 16, 3)).astype("uint8")).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        noisy = np.asarray(coarse).astype(int) + draw.integers(-8, 9, (HEIGHT, WIDTH, 1))
        Image.fromarray(noisy.clip(0, 255).astype("uint8")).save(folder / f"{i}.jpg", quality=90)


def rate(batches: Iterator[Any], *, device: torch.device) -> float:
    """Images per second from the second batch on, when the workers are at work; the last one is waited for."""
    next(batches)
    began, seen = time.perf_counter(), 0
    for images, _ in batches:
        seen += len(images)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return seen / (time.perf_counter() - began)


def measure(*, images: int, repeats: int, workers: int, device: torch.device) -> dict[str, Any]:
    """Medians over `repeats` passes, the pipelines taking turns so that a busy machine slows both."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), images=images)
        per_image = transforms.Compose(
            [
                transforms.RandomResizedCrop(SIZE),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )
        dataset = datasets.ImageFolder(folder, per_image)
        loader = DataLoader(
            dataset,
            BATCH,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
        )
        paths, labels = [path for path, _ in dataset.samples], torch.tensor(dataset.targets)
        ours = FileBatches(
            LabelledFiles(paths, labels),
            decoder=Decoder(channels=3, workers=workers, pinned=device.type == "cuda"),
            normalizer=Normalizer(channels=3, size=SIZE, mean=MEAN, std=STD, channels_last=True, device=device),
            plan=BatchPlan(BATCH, seed=0),
            augmentation=Augmentation(flip=True),
            lighting=Lighting(torch.eye(3, dtype=torch.float64) / 20, std=0.1),
        )

        def theirs() -> Iterator[Any]:
            for x, y in loader:
                yield x.to(device, non_blocking=True), y.to(device, non_blocking=True)

        passes: dict[str, Callable[[], Iterator[Any]]] = {"bakeoff": lambda: iter(ours), "torchvision": theirs}
        rates: dict[str, list[float]] = {name: [] for name in passes}
        for epoch in range(repeats + 1):
            ours.set_epoch(epoch)
            for name, begin in passes.items():
                found = rate(begin(), device=device)
                if epoch:  # the first pass starts the workers and reads the files into the page cache
                    rates[name].append(found)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return {
        "images_per_second": {name: round(value, 1) for name, value in medians.items()},
        "ratio": round(medians["bakeoff"] / medians["torchvision"], 2),
        "ratios": [round(a / b, 2) for a, b in zip(rates["bakeoff"], rates["torchvision"], strict=True)],
        "images": images,
        "workers": workers,
        "device": str(device),
        "torch": torch.__version__,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    found = measure(images=options.images, repeats=options.repeats, workers=options.workers, device=torch.device(options.device))
    if options.json:
        print(json.dumps(found))
        return
    print(f"{WIDTH}x{HEIGHT} JPEGs to {SIZE}x{SIZE}, batches of {BATCH}, {options.workers} workers, {options.device}")
    for name, value in found["images_per_second"].items():
        print(f"  {name:12} {value:10,.1f} images/s")
    print(f"  ratio        {found['ratio']:10.2f}   (turn by turn: {', '.join(map(str, found['ratios']))})")


if __name__ == "__main__":
    main()
