"""What this process may use of its machine, and which errors are the machine's and not the code's, found without importing torch."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Literal

FaultKind = Literal["disk", "memory", "device", "peer", "killed"]
"""Faults of the machine: its disk, its memory, a device, another rank of the run, or a signal from outside."""

DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ESTALE})
MEMORY_ERRORS = frozenset({errno.ENOMEM, errno.EMFILE, errno.ENFILE})
FAULT_TEXTS: dict[FaultKind, tuple[str, ...]] = {
    "disk": ("database or disk is full", "disk i/o error", "no space left on device"),
    "memory": (
        "out of memory",
        "t allocate memory",
        "alloc_failed",
        "bad_alloc",
        "can't start new thread",
        "insufficient shared memory",
        "is killed by signal: killed",
    ),
    "device": (
        "ecc error",
        "unspecified launch failure",
        "launch timed out",
        "no cuda-capable device",
        "devices are busy or unavailable",
        "gpu is lost",
        "fallen off the bus",
        "cuda error: unknown error",
    ),
    "peer": ("gloo/transport", "connection closed by peer", "connection reset by peer", "nccl error", "nccl communicator was aborted"),
}
"""What libraries say, in lower case, where they raise a RuntimeError or the like for a fault of the machine."""
TORCH_FAULTS: dict[str, FaultKind] = {"OutOfMemoryError": "memory", "DistBackendError": "peer", "DistNetworkError": "peer"}
"""torch's exceptions that are of one kind whatever they say."""
CUDA_FAULTS: dict[FaultKind, tuple[int, ...]] = {"memory": (2,), "device": (46, 100, 214, 220, 702, 714, 719, 802, 999)}
"""`error_code` of torch.AcceleratorError, a cudaError_t; others, such as 710 of a failed assertion, are the code's own."""

SAFE_PATH = {"PYTHONSAFEPATH": "1"}
"""Environment of the Python processes that are started here: no file of the working folder is a module to them."""


def available_cores() -> int:
    """Return the number of CPU cores that this process may use, which a container or a cluster's job may have cut."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """Return the NVIDIA GPUs that child processes may use, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name.strip() not in ("", "-1")]
    return [str(index) for index, _ in enumerate(sorted(Path("/proc/driver/nvidia/gpus").glob("*")))]


def fault_of(error: BaseException) -> FaultKind | None:
    """Return which fault of the machine an error reports, itself or by its cause; None where it is of the code's own.

    Args:
        error: An error of Python, torch, a database or the system.
    """
    if isinstance(error, MemoryError):
        return "memory"
    if isinstance(error, OSError) and not isinstance(error, shutil.Error):
        if error.errno in DISK_ERRORS:
            return "disk"
        if error.errno in MEMORY_ERRORS:
            return "memory"
    elif (kind := _torch_fault(error)) is not None:
        return kind
    elif type(error).__module__ != "bakeoff.errors":
        text = str(error).lower()
        for kind, words in FAULT_TEXTS.items():
            if (isinstance(error, RuntimeError) or kind == "disk") and any(word in text for word in words):
                return kind
    return None if error.__cause__ is None else fault_of(error.__cause__)


def _torch_fault(error: BaseException) -> FaultKind | None:
    """Return what the type of torch's own exception, or its code, says."""
    kinds = {kind.__name__ for kind in type(error).__mro__ if kind.__module__.partition(".")[0] == "torch"}
    code = getattr(error, "error_code", None) if "AcceleratorError" in kinds else None
    by_code = next((fault for fault, codes in CUDA_FAULTS.items() if code in codes), None)
    return by_code or next((TORCH_FAULTS[name] for name in sorted(kinds & TORCH_FAULTS.keys())), None)


def full_disk(path: Path) -> str:
    """Return the words for a disk that takes nothing more: where it is mounted, and what is free.

    Args:
        path: A file or folder on the disk, which need not exist.
    """
    place = Path(path).absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    while not place.is_mount():
        place = place.parent
    return f"the disk at {place} cannot be written ({free / 1e6:,.1f} MB free)"
