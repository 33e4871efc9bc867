"""The handwritten digits that scikit-learn carries."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from bakeoff.data.sources.base import Images
from bakeoff.data.splits import fixed_test_split

if TYPE_CHECKING:
    import numpy.typing as npt


def digits(*, root: Path, download: bool) -> Images:
    """Load the handwritten digits: 1,797 grey 8x8 images, 0..16 stretched to 0..255; neither argument is used.

    Test: a fixed stratified fifth, see `fixed_test_split`. Source: E. Alpaydin, C. Kaynak, UCI Optical Recognition of Handwritten
    Digits (1998), its test part.
    """
    table = _read_table()
    x = torch.from_numpy(table[:, :-1].reshape(-1, 8, 8)).mul(255 / 16).round().to(torch.uint8).unsqueeze(1)
    y = torch.from_numpy(table[:, -1]).to(torch.int64)
    train, test = fixed_test_split(y)
    return Images(x[train], y[train], x[test], y[test], tuple(map(str, range(10))))


def _read_table() -> npt.NDArray[np.float64]:
    """Return (1797, 65): the 64 pixels and the class of each image, from scikit-learn's file; importing it takes a second more."""
    spec = importlib.util.find_spec("sklearn")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(folder, "datasets", "data", "digits.csv.gz")
        if path.is_file():
            return np.loadtxt(path, delimiter=",")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return np.column_stack([bunch.data, bunch.target])
