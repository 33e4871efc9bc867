"""Stratified train/validation splits from a seed of their own."""

from __future__ import annotations

import torch
from torch import Tensor

from bakeoff.errors import DataError
from bakeoff.seeds import generator


def shares(total: int, counts: list[int]) -> list[int]:
    """Divide `total` among classes in proportion to `counts`; whole numbers by largest remainder (Hamilton's method), ties to the first."""
    n = sum(counts)
    exact = [divmod(total * c, n) for c in counts]
    missing = total - sum(whole for whole, _ in exact)
    largest = sorted(range(len(counts)), key=lambda i: (-exact[i][1], i))[:missing]
    return [whole + (i in largest) for i, (whole, _) in enumerate(exact)]


def stratified_split(labels: Tensor, *, val_fraction: float, seed: int, subset: int | None = None) -> tuple[Tensor, Tensor]:
    """Sorted indices of the training and of the validation images, each class in its own proportion.

    labels: int64[N]. subset: how many images both parts have together; all N where it is None. Each class is shuffled once by
    (seed, "split"), validation takes from the front and training from the back: with one seed, a smaller subset's training
    images are among a larger one's, and so are its validation images, so the two parts of any two subsets never mix.
    Errors: DataError where a part would be empty or a class would have no training image.
    """
    n = len(labels)
    if subset is not None and not 1 <= subset <= n:
        raise DataError(f"data.subset={subset}: must lie between 1 and the {n} images that the dataset has for training and validation")
    if not 0.0 < val_fraction < 1.0:
        raise DataError(f"data.val_fraction={val_fraction}: must lie between 0 and 1, both excluded")
    kept = n if subset is None else subset
    n_val = round(kept * val_fraction)
    where = f"data.val_fraction={val_fraction} of {f'the {n}' if subset is None else f'data.subset={subset}'} images"
    if n_val == 0:
        raise DataError(f"{where} leaves no image for validation: raise one of the two")
    classes = torch.unique(labels).tolist()
    members = [torch.nonzero(labels == c).squeeze(1) for c in classes]
    counts = [len(m) for m in members]
    val_counts = shares(n_val, shares(kept, counts))
    train_counts = [k - v for k, v in zip(shares(kept, counts), val_counts, strict=True)]
    if min(train_counts) < 1:
        raise DataError(
            f"{where} leaves one of the {len(classes)} classes without a training image: raise data.subset or lower data.val_fraction"
        )
    draw = generator(seed, "split")
    train, val = [], []
    for indices, k_train, k_val in zip(members, train_counts, val_counts, strict=True):
        shuffled = indices[torch.randperm(len(indices), generator=draw)]
        val.append(shuffled[:k_val])
        train.append(shuffled[len(shuffled) - k_train :])
    return torch.cat(train).sort().values, torch.cat(val).sort().values


def every_fifth(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Sorted indices of (the rest, a stratified fifth): the 5th, 10th, ... image of each class in the order of the file.

    No random number takes part, so that the test set depends on no seed and on no library's generator.
    """
    held = torch.zeros(len(labels), dtype=torch.bool)
    for c in torch.unique(labels):
        held[torch.nonzero(labels == c).squeeze(1)[4::5]] = True
    return torch.nonzero(~held).squeeze(1), torch.nonzero(held).squeeze(1)
