"""How many workers, with how many threads and which GPUs each."""

from __future__ import annotations

from dataclasses import dataclass

from bakeoff.config.schema import RunConfig
from bakeoff.machine import available_cores, visible_gpus

MOST = 8
"""Workers that are started where nobody says how many: more rarely pays, for they share memory bandwidth."""
MEMORY = 1.5 * 2**30
"""Bytes that a worker with its trial is reckoned to need."""


@dataclass(frozen=True)
class Resources:
    """`workers` processes at a time with `threads` CPU threads for each device's process; `gpus` lists each worker's, None without any."""

    workers: int
    threads: int
    gpus: tuple[tuple[str, ...], ...] | None


def allot_resources(run: RunConfig, *, workers: int | None, jobs: int) -> Resources:
    """Cores and GPUs of this machine shared out: as many workers as fit, unless the user says how many."""
    import psutil

    settings = run.trainer
    devices, cores = settings.devices, available_cores()
    gpus = [] if settings.accelerator == "cpu" else visible_gpus()
    if workers is None:
        fit = len(gpus) // devices if gpus else min(cores // devices, int(psutil.virtual_memory().available / (MEMORY * devices)))
        workers = max(1, min(fit, jobs, MOST))
    shares = None
    if gpus:
        shares = tuple(tuple(gpus[(index * devices + at) % len(gpus)] for at in range(devices)) for index in range(workers))
    return Resources(workers=workers, threads=settings.threads or max(1, cores // (workers * devices)), gpus=shares)
