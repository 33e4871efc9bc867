"""Images per second of the input pipeline against torchvision's per-image one, in one run: random cut, mirror, normalize.

Both read the same uint8 images from memory and give the same kind of batch on the CPU, with one thread (OMP_NUM_THREADS=1 for a
process of its own). torchvision's: PIL transforms in a DataLoader, in this process and with workers; the better one counts.

    python benchmarks/input_pipeline.py [--json] [--images 10000] [--repeats 5] [--workers 0 2]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from bakeoff.data.batches import Augmentation, Normalizer, TrainBatches
from bakeoff.data.epoch_sampler import BatchPlan
from bakeoff.data.memory import channel_moments

SIZE, CROP, BATCH = 32, 4, 128


class PerImage(Dataset[tuple[torch.Tensor, int]]):
    """What torchvision's CIFAR10 does: one image at a time, through PIL."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, transform: Callable[[Image.Image], torch.Tensor]) -> None:
        self.images, self.labels, self.transform = images.permute(0, 2, 3, 1).contiguous().numpy(), labels.tolist(), transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[i])), self.labels[i]


def rate(batches: Iterable[Any]) -> float:
    """Images per second of one pass."""
    began, seen = time.perf_counter(), 0
    for x, _ in batches:
        seen += len(x)
    return seen / (time.perf_counter() - began)


def measure(*, images: int, repeats: int, workers: list[int]) -> dict[str, Any]:
    """Medians over `repeats` passes, the pipelines taking turns so that a busy machine slows all of them."""
    torch.set_num_threads(1)
    draw = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (images, 3, SIZE, SIZE), dtype=torch.uint8, generator=draw)
    y = torch.randint(0, 10, (images,), generator=draw)
    mean, std = channel_moments(x)
    cut, mirror = transforms.RandomCrop(SIZE, padding=CROP), transforms.RandomHorizontalFlip()
    per_image = transforms.Compose([cut, mirror, transforms.ToTensor(), transforms.Normalize(mean, std)])
    dataset = PerImage(x, y, per_image)
    loaders: dict[str, Iterable[Any]] = {}
    for name, last in (("bakeoff", False), ("bakeoff channels_last", True)):
        normalizer = Normalizer(channels=3, size=SIZE, mean=mean, std=std, channels_last=last)
        loaders[name] = TrainBatches(x, y, normalizer=normalizer, plan=BatchPlan(BATCH, seed=0), augmentation=Augmentation(CROP, flip=True))
    for count in workers:
        loaders[f"torchvision workers={count}"] = DataLoader(dataset, BATCH, shuffle=True, drop_last=True, num_workers=count)
    rates: dict[str, list[float]] = {name: [] for name in loaders}
    for _ in range(repeats):
        for name, loader in loaders.items():
            rates[name].append(rate(loader))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    best = max(value for name, value in medians.items() if name.startswith("torchvision"))
    return {
        "images_per_second": {name: round(value) for name, value in medians.items()},
        "ratio": round(medians["bakeoff"] / best, 1),
        "images": images,
        "repeats": repeats,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    """Print a table, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2], help="DataLoader workers of torchvision's pipeline")
    arguments = parser.parse_args()
    result = measure(images=arguments.images, repeats=arguments.repeats, workers=arguments.workers)
    if arguments.json:
        print(json.dumps(result))
        return
    for name, value in result["images_per_second"].items():
        print(f"{name:<24} {value:>9,} images/s")
    print(f"{'ratio':<24} {result['ratio']:>9} (bakeoff / the better torchvision one)")


if __name__ == "__main__":
    main()
