"""Durable checkpoints: a kill, a torn write or a full disk at any moment leaves the last good one readable.

A checkpoint file is `MAGIC`, the SHA-256 of the payload, and the payload: what `torch.save` makes of a dictionary of tensors and plain
types, so that it loads with `weights_only=True`. The one before the last is kept as `last-1.ckpt`.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bakeoff.errors import FolderError
from bakeoff.run_files.atomic import write_atomic

if TYPE_CHECKING:
    from torch import Tensor

MAGIC = b"bakeoff1"
HEADER_BYTES = len(MAGIC) + hashlib.sha256().digest_size


def save_checkpoint(folder: Path, state: dict[str, Any], *, name: str = "last") -> None:
    """Put `state` at `folder/name.ckpt`; for `last`, the checkpoint that was there becomes `last-1.ckpt`.

    Args:
        folder: The run's folder of checkpoints; it is made where it is missing.
        state: Tensors and plain types. The weights of the net are under the key `net`.
        name: `last` or `best`.

    Raises:
        FolderError: It cannot be written (the disk is full, say). The earlier checkpoints are then as they were.
    """
    import torch

    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getbuffer()
    path = folder / f"{name}.ckpt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        backup = folder / "last-1.ckpt" if name == "last" else None
        write_atomic(path, MAGIC, hashlib.sha256(payload).digest(), payload, draft=folder / f".{name}.ckpt.draft", backup=backup)
    except OSError as error:
        raise FolderError(f"{path}: the checkpoint cannot be written ({error.strerror or error})") from error


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """Read one checkpoint file.

    Args:
        path: The file.

    Returns:
        The state, with its tensors on the CPU; None where the file is missing or torn.
    """
    import torch

    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    payload = memoryview(raw)[HEADER_BYTES:]
    if raw[:HEADER_BYTES] != MAGIC + hashlib.sha256(payload).digest():
        return None
    return cast("dict[str, Any]", torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True))


def read_latest_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Read the newest checkpoint that is not torn.

    Args:
        folder: The run's folder of checkpoints.

    Returns:
        The state, with its tensors on the CPU; None where there is none.
    """
    for name in ("last", "last-1"):
        state = read_checkpoint(folder / f"{name}.ckpt")
        if state is not None:
            return state
    return None


def read_model_weights(folder: Path, *, name: str = "last") -> dict[str, Tensor]:
    """Read the weights of the net from a folder of checkpoints.

    Args:
        folder: The run's folder of checkpoints.
        name: `last` (or the one before it, where that is torn) or `best`.

    Returns:
        The weights by name, on the CPU.

    Raises:
        FolderError: There is no such checkpoint that can be read.
    """
    state = read_latest_checkpoint(folder) if name == "last" else read_checkpoint(folder / f"{name}.ckpt")
    if state is None:
        raise FolderError(f"{folder}: no readable checkpoint")
    return cast("dict[str, Tensor]", state["net"])
