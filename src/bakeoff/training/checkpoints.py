"""Durable checkpoints: a kill, a torn write or a full disk at any moment leaves the last good one readable.

A checkpoint is written beside its place, flushed to the disk, and renamed; the one before it is kept as `last-1.ckpt`. A SHA-256 in front
of the payload tells a torn file. Only tensors and plain types are inside, so that it loads with `weights_only=True`.
"""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from bakeoff import builders
from bakeoff.config.compose import load_frozen
from bakeoff.errors import FolderError
from bakeoff.tracking.trained_weights import MAGIC, read_checkpoint, read_latest_checkpoint

__all__ = ["load_trained_model", "net_weights", "read_checkpoint", "read_latest_checkpoint", "save_checkpoint"]


def save_checkpoint(folder: Path, state: dict[str, Any], *, name: str = "last") -> None:
    """Put `state` at `folder/name.ckpt`; for `last`, the one that was there becomes `last-1.ckpt`.

    Raises `FolderError` where it cannot be written (a full disk, say); the earlier checkpoints are then as they were.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getbuffer()
    path = folder / f"{name}.ckpt"
    draft = folder / f".{name}.ckpt.draft"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(draft, "wb") as file:
            file.write(MAGIC + hashlib.sha256(payload).digest())
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        if name == "last" and path.exists():
            os.replace(path, folder / "last-1.ckpt")
        os.replace(draft, path)
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise FolderError(f"{path}: the checkpoint cannot be written ({error.strerror or error})") from error


def net_weights(folder: Path, *, name: str = "last") -> dict[str, torch.Tensor]:
    """The net's weights in `last` or `best`; `FolderError` where there are none."""
    state = read_latest_checkpoint(folder) if name == "last" else read_checkpoint(folder / f"{name}.ckpt")
    if state is None:
        raise FolderError(f"{folder}: no readable checkpoint")
    return cast("dict[str, torch.Tensor]", state["net"])


def load_trained_model(folder: Path) -> nn.Module:
    """The trained net of a run folder, on the CPU in eval mode: the weights of its last checkpoint."""
    run = load_frozen((folder / "config.yaml").read_text(encoding="utf-8"), origin=str(folder / "config.yaml"))
    net = builders.make_uninitialized_model(run)
    net.load_state_dict(net_weights(folder / "checkpoints"))
    return net.eval()
