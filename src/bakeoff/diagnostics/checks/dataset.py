"""Checks of the data: class balance, duplicates across splits, and normalization of the net's input."""

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
from bakeoff.diagnostics.checks.check_context import CheckContext, CheckResult, State

MAX_CLASS_RATIO = 10.0
MAX_DUPLICATES = 1e-3
"""Acceptable share of a split's images that are also training images; published datasets have some."""
MAX_FILES = 2000
"""Approximate number of image files of a split that are compared with the training images."""
MAX_MEAN, STD_RANGE = 0.15, (0.8, 1.25)


def check_dataset(context: CheckContext) -> Iterator[CheckResult]:
    """Yield the results of the checks of the data."""
    data = context.data
    images, _ = load_source(data.source)
    train, val = split(images.train_y, data.split_spec)
    yield check_balance(images.train_y[train], images.classes)
    if isinstance(images, Images):
        other_digests = {"validation": image_digests(images.train_x[val]), "test": image_digests(images.test_x)}
        yield check_duplicates(image_digests(images.train_x[train]), other_digests)
    else:
        others = {"validation": [images.train[i] for i in val.tolist()], "test": list(images.test)}
        yield check_duplicate_files([images.train[i] for i in train.tolist()], others)
    yield check_normalization(context)


def check_balance(labels: Tensor, classes: tuple[str, ...]) -> CheckResult:
    """Count the training images, with labels int64 `(n,)`, of each class."""
    counts = torch.bincount(labels, minlength=len(classes))
    rarest, commonest = int(counts.argmin()), int(counts.argmax())
    fewest, most = int(counts[rarest]), int(counts[commonest])
    observed = f"{fewest:,} ({classes[rarest]}) to {most:,} ({classes[commonest]}) training images per class"
    expected = f"all classes, at most {MAX_CLASS_RATIO:g} to 1"
    series = {"training images": {float(i): float(n) for i, n in enumerate(counts.tolist())}}
    if fewest == 0:
        advice = "a class without training images cannot be learnt: check the split and the labels"
        return CheckResult("class balance", "wrong", observed, expected, advice)
    ratio = most / fewest
    advice = "accuracy hides the small classes: look at the confusion matrix of diagnostics=full" if ratio > MAX_CLASS_RATIO else ""
    return CheckResult("class balance", "look" if advice else "ok", observed, expected, advice, {"class_ratio": ratio}, series)


def image_digests(images: Tensor) -> list[bytes]:
    """Return the BLAKE2b hash of each image of uint8 `(n, C, H, W)`."""
    rows = images.contiguous().numpy().reshape(len(images), -1)
    return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows]


def check_duplicates(train: Iterable[bytes], others: Mapping[str, list[bytes]], *, note: str = "") -> CheckResult:
    """Count the digests of other splits that are among those of the training images; `note` ends the result's text."""
    train_digests = set(train)
    counts = {name: sum(digest in train_digests for digest in digests) for name, digests in others.items()}
    largest_share = max(count / max(1, len(others[name])) for name, count in counts.items())
    observed = ", ".join(f"{count:,} of {len(others[name]):,} {name} images" for name, count in counts.items())
    state: State = "wrong" if largest_share > MAX_DUPLICATES else "look" if largest_share > 0 else "ok"
    advice = "" if state == "ok" else "duplicate images across splits inflate the score; remove them from one split"
    figures = {f"duplicates_{name}": float(count) for name, count in counts.items()}
    return CheckResult("duplicates", state, f"{observed} are also training images{note}", "none", advice, figures)


def check_duplicate_files(train: list[Path], others: Mapping[str, list[Path]]) -> CheckResult:
    """Compare a sample of the image files of each split byte by byte with the training files of the same size."""
    samples = {name: paths[:: max(1, len(paths) // MAX_FILES)] for name, paths in others.items()}
    sizes = {os.stat(path).st_size for paths in samples.values() for path in paths}
    candidates = (path for path in train if os.stat(path).st_size in sizes)
    digests = {name: [file_digest(path) for path in paths] for name, paths in samples.items()}
    return check_duplicates((file_digest(path) for path in candidates), digests, note=" (files, byte by byte)")


def file_digest(path: Path) -> bytes:
    """Return the BLAKE2b hash of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").digest()


def check_normalization(context: CheckContext) -> CheckResult:
    """Measure the mean and standard deviation of the net's input by channel."""
    images, normalize = context.probe.images.float(), context.run.data.normalize
    means, stds = images.mean((0, 2, 3)).tolist(), images.std((0, 2, 3)).tolist()
    shown_means, shown_stds = (" ".join(f"{value:.2f}" for value in values) for values in (means, stds))
    observed = f"mean {shown_means}, std {shown_stds} over {len(images)} training images"
    centred_only = normalize == "mean"  # pixels 0..255 minus their mean
    good = all(abs(mean) <= MAX_MEAN * (255 if centred_only else 1) for mean in means)
    good = good and (centred_only or all(STD_RANGE[0] <= std <= STD_RANGE[1] for std in stds))
    advice = "" if good else "look at the images" if normalize else "data.normalize=true centres and scales each channel"
    figures = {"input_mean": means[0], "input_std": stds[0]}
    expected = "mean 0" if centred_only else "mean 0, std 1"
    return CheckResult("normalization", "ok" if good else "look", observed, expected, advice, figures)
