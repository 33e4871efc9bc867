"""Durable checkpoints: a kill, a torn write or a full disk at any moment leaves the last good one readable.

A checkpoint file is `MAGIC`, the SHA-256 of the payload, and the payload: what `torch.save` makes of a dictionary of tensors and plain
types, so that it loads with `weights_only=True`. The one before the last is kept as `last-1.ckpt`.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

    Raises:
        FolderError: The file cannot be opened, or is whole and yet no checkpoint.
    """
    import torch

    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FolderError(f"{path}: the checkpoint cannot be read ({error.strerror or error})") from error
    payload = memoryview(raw)[HEADER_BYTES:]
    if raw[:HEADER_BYTES] != MAGIC + hashlib.sha256(payload).digest():
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an unusual pickle, which is refused
            state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises exceptions of all kinds
        raise FolderError(f"{path}: no checkpoint: only tensors and plain values are loaded ({type(error).__name__})") from error
    if not isinstance(state, dict):
        raise FolderError(f"{path}: no checkpoint: it holds a {type(state).__name__}, not a mapping")
    return state


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
    return weights_of(state, folder)


def weights_of(state: dict[str, Any], place: Path) -> dict[str, Tensor]:
    """Return the weights of the net in a checkpoint's state; `place` is for the message.

    Raises:
        FolderError: It holds none.
    """
    import torch

    net = state.get("net")
    if not isinstance(net, dict) or not all(isinstance(name, str) and isinstance(weight, torch.Tensor) for name, weight in net.items()):
        raise FolderError(f"{place}: the checkpoint holds no weights, which are tensors by name under the key net")
    return net
