"""The handwritten digits that scikit-learn carries."""

from __future__ import annotations

from pathlib import Path

import torch

from bakeoff.data.sources.base import Images
from bakeoff.data.splits import fixed_test_split


def digits(*, root: Path, download: bool) -> Images:
    """Load the handwritten digits: 1,797 grey 8x8 images, 0..16 stretched to 0..255; neither argument is used.

    Test: a fixed stratified fifth, see `fixed_test_split`. Source: E. Alpaydin, C. Kaynak, UCI Optical Recognition of Handwritten
    Digits (1998), its test part.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = torch.from_numpy(bunch.images).mul(255 / 16).round().to(torch.uint8).unsqueeze(1)
    y = torch.from_numpy(bunch.target).to(torch.int64)
    train, test = fixed_test_split(y)
    return Images(x[train], y[train], x[test], y[test], tuple(str(name) for name in bunch.target_names))
