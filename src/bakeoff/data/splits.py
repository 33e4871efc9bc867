"""Stratified splits into training and validation, from a seed of their own: a fraction held out, or one of k folds."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bakeoff.errors import DataError
from bakeoff.seeds import make_generator


@dataclass(frozen=True)
class SplitSpec:
    """How the images are split into training and validation.

    Attributes:
        val_fraction: Share of the images that validates; not used beside `folds`.
        seed: Seed of the split.
        subset: Images of both parts together; None for all.
        folds: Number of cross-validation folds; None for a split by `val_fraction`.
        fold: Number of the fold that validates, from 0.
    """

    val_fraction: float
    seed: int
    subset: int | None = None
    folds: int | None = None
    fold: int = 0


def split(labels: Tensor, spec: SplitSpec) -> tuple[Tensor, Tensor]:
    """Split images by `stratified_folds` where the spec has a number of folds, else by `stratified_split`.

    Args:
        labels: int64[N].
        spec: How to split.

    Returns:
        Sorted indices, int64, of the training and of the validation images.

    Raises:
        DataError: There are too few images, or a number is out of range; a fold without folds is an error too.
    """
    if spec.folds is not None:
        return stratified_folds(labels, folds=spec.folds, fold=spec.fold, seed=spec.seed, subset=spec.subset)
    if spec.fold != 0:
        raise DataError(f"fold={spec.fold}: needs `folds`, the number of folds; it is null")
    return stratified_split(labels, val_fraction=spec.val_fraction, seed=spec.seed, subset=spec.subset)


def stratified_split(labels: Tensor, *, val_fraction: float, seed: int, subset: int | None = None) -> tuple[Tensor, Tensor]:
    """Hold out a fraction of the images, each class in its own proportion; arguments and results are those of `split`.

    Each class is shuffled once by (seed, "split"); of all N, validation takes the front of each class and training the rest. A subset
    keeps the beginnings of these two parts (see `stratified_order`): with one seed, a smaller subset's training images are among a
    larger one's, and so are its validation images, so the two parts of any two subsets never mix.

    Raises:
        DataError: A part would be empty, or a class would have no training image.
    """
    n = len(labels)
    _check_subset(subset, n)
    if not 0.0 < val_fraction < 1.0:
        raise DataError(f"val_fraction={val_fraction}: must lie between 0 and 1, both excluded")
    kept = n if subset is None else subset
    n_val = round(kept * val_fraction)
    where = f"val_fraction={val_fraction} of {f'the {n}' if subset is None else f'subset={subset}'} images"
    if n_val == 0:
        raise DataError(f"{where} leaves no image for validation: raise one of the two")
    by_class = shuffle_classes(labels, seed=seed)
    val_counts = apportion(round(n * val_fraction), [len(indices) for indices in by_class])
    val = [indices[:count] for indices, count in zip(by_class, val_counts, strict=True)]
    rest = [indices[count:].flip(0) for indices, count in zip(by_class, val_counts, strict=True)]
    train = stratified_order(rest)[: kept - n_val]
    if len(torch.unique(labels[train])) < len(by_class):
        raise DataError(
            f"{where} leaves one of the {len(by_class)} classes without a training image: raise `subset` or lower `val_fraction`"
        )
    return train.sort().values, stratified_order(val)[:n_val].sort().values


def stratified_folds(labels: Tensor, *, folds: int, fold: int, seed: int, subset: int | None = None) -> tuple[Tensor, Tensor]:
    """Hold out fold number `fold` of `folds`; arguments and results are those of `split`.

    Each class is shuffled by (seed, "split") and dealt out to the folds in turn, one class going on where the one before it stopped:
    every image is in exactly one fold, and the folds' sizes differ by at most 1, in each class and in all. A subset keeps the beginnings
    of the classes (see `stratified_order`), and each kept image stays in its fold: for each fold, a smaller subset's training images are
    among a larger one's, and so are its validation images; the folds' sizes still differ by at most 1 in each class.
    Source: R. Kohavi, A study of cross-validation and bootstrap for accuracy estimation and model selection (1995).

    Raises:
        DataError: A fold would be empty, or a class would have no training image.
    """
    n = len(labels)
    if folds < 2:
        raise DataError(f"folds={folds}: must be 2 or more")
    if not 0 <= fold < folds:
        raise DataError(f"fold={fold}: must be at least 0 and below folds={folds}")
    _check_subset(subset, n)
    by_class = shuffle_classes(labels, seed=seed)
    fold_of = torch.empty(n, dtype=torch.int64)
    fold_of[torch.cat(by_class)] = torch.arange(n) % folds
    kept = (stratified_order(by_class)[:subset] if subset is not None else torch.arange(n)).sort().values
    where = f"folds={folds} of {f'the {n}' if subset is None else f'subset={subset}'} images"
    train, val = kept[fold_of[kept] != fold], kept[fold_of[kept] == fold]
    if len(val) == 0:
        raise DataError(f"{where} leaves no image for validation in fold={fold}: raise `subset` or lower `folds`")
    if len(torch.unique(labels[train])) < len(by_class):
        raise DataError(
            f"{where} leaves one of the {len(by_class)} classes without a training image in fold={fold}: "
            "raise `subset`, or leave out classes of one image"
        )
    return train, val


def shuffle_classes(labels: Tensor, *, seed: int) -> list[Tensor]:
    """Return the indices of each class, in increasing order of its label, shuffled by (seed, "split")."""
    _, counts = torch.unique(labels, return_counts=True)
    by_class = torch.split(torch.argsort(labels, stable=True), counts.tolist())
    generator = make_generator(seed, "split")
    return [indices[torch.randperm(len(indices), generator=generator)] for indices in by_class]


def stratified_order(by_class: list[Tensor]) -> Tensor:
    """Return all indices in one order whose every beginning holds each class in its own proportion, as whole numbers allow.

    Index j of a class of c comes at (2j + 1) / 2c, so that the shares of a beginning of n are those of Webster's (Sainte-Lague's)
    method: no class has fewer in a longer beginning. Source: M. L. Balinski, H. P. Young, Fair Representation (1982).

    Args:
        by_class: The indices of each class, in the order in which they are to come.
    """
    positions = [(2 * torch.arange(len(indices), dtype=torch.float64) + 1) / (2 * len(indices)) for indices in by_class]
    return torch.cat(by_class)[torch.argsort(torch.cat(positions), stable=True)]


def apportion(total: int, counts: list[int]) -> list[int]:
    """Divide `total` among classes in proportion to `counts`, by largest remainder (Hamilton's method), ties to the first."""
    n = sum(counts)
    quotas = [divmod(total * count, n) for count in counts]
    missing = total - sum(quotient for quotient, _ in quotas)
    largest = set(sorted(range(len(counts)), key=lambda i: (-quotas[i][1], i))[:missing])
    return [quotient + (i in largest) for i, (quotient, _) in enumerate(quotas)]


def fixed_test_split(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return sorted indices of a training part and of a stratified fifth: the 5th, 10th, ... image of each class in the file's order.

    No random number takes part, so that the test set depends on no seed and on no library's generator.
    """
    is_test = torch.zeros(len(labels), dtype=torch.bool)
    for label in torch.unique(labels):
        is_test[torch.nonzero(labels == label).squeeze(1)[4::5]] = True
    return torch.nonzero(~is_test).squeeze(1), torch.nonzero(is_test).squeeze(1)


def _check_subset(subset: int | None, n: int) -> None:
    if subset is not None and not 1 <= subset <= n:
        raise DataError(f"subset={subset}: must lie between 1 and the {n} images that the dataset has for training and validation")
