"""Checks of the data: how even the classes are, whether an image is in two splits, and whether the net's input is normalized."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from bakeoff.data.datamodule import load_source
from bakeoff.data.sources import Images
from bakeoff.data.splits import split
from bakeoff.diagnostics.checks.context import CheckContext, CheckResult

UNEVEN = 10.0
ALLOWED = 1e-3
"""Of a split: the share of its images that may be in the training images too; published sets have some."""
FILES = 2000
"""Of a split of image files, so many are looked for among the training images."""
MEAN, STD = 0.15, (0.8, 1.25)


def check_images(bench: CheckContext) -> Iterator[CheckResult]:
    """All findings about the images."""
    images, _ = load_source(bench.data.source)
    data = bench.data
    settings = {"val_fraction": data.val_fraction, "seed": data.split_seed, "subset": data.subset, "folds": data.folds, "fold": data.fold}
    train, val = split(images.train_y, **settings)  # type: ignore[arg-type]
    yield balance(images.train_y[train], images.classes)
    if isinstance(images, Images):
        yield duplicates(digests(images.train_x[train]), {"validation": digests(images.train_x[val]), "test": digests(images.test_x)})
    else:
        own = [images.train[i] for i in train.tolist()]
        others = {"validation": [images.train[i] for i in val.tolist()], "test": list(images.test)}
        yield duplicate_files(own, others)
    yield normalization(bench)


def balance(labels: Tensor, classes: tuple[str, ...]) -> CheckResult:
    """How many training images each class has."""
    counts = torch.bincount(labels, minlength=len(classes))
    least, most = int(counts.argmin()), int(counts.argmax())
    few, many = int(counts[least]), int(counts[most])
    found = f"{few:,} ({classes[least]}) to {many:,} ({classes[most]}) training images a class"
    rule = f"every class, at most {UNEVEN:g} to 1"
    series = {"training images": {float(i): float(n) for i, n in enumerate(counts.tolist())}}
    if few == 0:
        return CheckResult("class balance", "wrong", found, rule, "a class without images cannot be learnt: check the split and the labels")
    uneven = many / few > UNEVEN
    advice = "accuracy hides the small classes: look at the confusion matrix of diagnostics=full" if uneven else ""
    return CheckResult("class balance", "look" if uneven else "ok", found, rule, advice, {"class_ratio": many / few}, series)


def digests(images: Tensor) -> list[bytes]:
    """One hash an image of uint8 [n, C, H, W]: BLAKE2b over its pixels."""
    rows = images.contiguous().numpy().reshape(len(images), -1)
    return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows]


def duplicates(train: Iterable[bytes], others: Mapping[str, list[bytes]], *, seen: str = "") -> CheckResult:
    """Images of the other splits that are among the training images, pixel by pixel."""
    known = set(train)
    shared = {name: sum(image in known for image in images) for name, images in others.items()}
    shares = {name: count / max(1, len(others[name])) for name, count in shared.items()}
    found = ", ".join(f"{count:,} of {len(others[name]):,} {name} images" for name, count in shared.items())
    worst = max(shares.values())
    state, advice = "ok", ""
    if worst > 0:
        state = "wrong" if worst > ALLOWED else "look"
        advice = "duplicate images across splits: the score there is partly memory; take them out of one split"
    figures = {f"duplicates_{name}": float(count) for name, count in shared.items()}
    return CheckResult(
        "duplicates",
        "wrong" if state == "wrong" else "look" if advice else "ok",
        f"{found} are in training too{seen}",
        "none",
        advice,
        figures,
    )


def duplicate_files(train: list[Path], others: Mapping[str, list[Path]]) -> CheckResult:
    """As `duplicates`, of image files: the first ones of each split, against the training files of the same size in bytes."""
    looked = {name: paths[:: max(1, len(paths) // FILES)] for name, paths in others.items()}
    sizes = {os.stat(path).st_size for paths in looked.values() for path in paths}
    suspects = (path for path in train if os.stat(path).st_size in sizes)
    hashed = {name: [contents(path) for path in paths] for name, paths in looked.items()}
    return duplicates((contents(path) for path in suspects), hashed, seen=" (files, byte by byte)")


def contents(path: Path) -> bytes:
    """A hash of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").digest()


def normalization(bench: CheckContext) -> CheckResult:
    """Mean and standard deviation of the net's input, by channel."""
    values = bench.images.float()
    mean, std = values.mean((0, 2, 3)).tolist(), values.std((0, 2, 3)).tolist()
    told = " ".join(f"{m:.2f}" for m in mean), " ".join(f"{s:.2f}" for s in std)
    found = f"mean {told[0]}, std {told[1]} over {len(values)} training images"
    raw = bench.run.data.normalize == "mean"  # centred pixels of 0..255
    good = all(abs(m) <= MEAN * (255 if raw else 1) for m in mean) and (raw or all(STD[0] <= s <= STD[1] for s in std))
    advice = "" if good else "data.normalize=true centres and scales each channel" if not bench.run.data.normalize else "look at the images"
    figures = {"input_mean": mean[0], "input_std": std[0]}
    return CheckResult("normalization", "ok" if good else "look", found, "mean 0" if raw else "mean 0, std 1", advice, figures)
