"""What this process may use of its machine, found without importing torch."""

from __future__ import annotations

import os
from pathlib import Path

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
