"""test_predictions.npz: the class that the trained net gives to each test image, beside the image's true class."""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path

import numpy as np

from bakeoff.errors import StoreError
from bakeoff.run_files.atomic import write_atomic

PREDICTIONS_FILE = "test_predictions.npz"


def write_predictions(path: Path, *, predicted: np.ndarray, target: np.ndarray) -> None:
    """Write the predictions of a run; equal arrays give equal bytes.

    Args:
        path: The file.
        predicted: Classes (images,), in the order of the test set.
        target: The true classes (images,), of the same type.
    """
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, predicted=predicted, target=target)
    write_atomic(path, content.getbuffer())


def read_predictions(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read what `write_predictions` wrote.

    Args:
        path: The file.

    Returns:
        (predicted, target): unsigned integers, each (images,).

    Raises:
        FileNotFoundError: There is no such file.
        StoreError: The file is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            predicted, target = arrays["predicted"], arrays["target"]
    except FileNotFoundError:
        raise
    except (OSError, ValueError, EOFError, KeyError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise StoreError(f"{path}: the predictions are damaged: {error}") from error
    if predicted.ndim != 1 or predicted.shape != target.shape or {predicted.dtype.kind, target.dtype.kind} != {"u"}:
        shapes = f"predicted {predicted.dtype}{list(predicted.shape)} and target {target.dtype}{list(target.shape)}"
        raise StoreError(f"{path}: the predictions are damaged: expected two unsigned integer arrays of one length, found {shapes}")
    return predicted, target
