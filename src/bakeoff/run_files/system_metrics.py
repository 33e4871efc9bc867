"""Samples the machine into the journal, under the names that MLflow's page of system metrics shows."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

from bakeoff.errors import FolderError
from bakeoff.run_files.journal import Journal

LAST = "system/cpu_utilization_percentage"


class SystemMetricsSampler:
    """A thread that logs CPU, memory and GPU use, as a context manager; the step is the sample's index.

    MB are 10^6 bytes, as in MLflow. GPUs are those that NVML sees, where pynvml can be imported.
    """

    def __init__(self, journal: Journal, *, every: float) -> None:
        """Prepare the thread.

        Args:
            journal: Where the samples go.
            every: Seconds between two samples; there is one at the end, too.
        """
        assert every > 0, every
        self._journal, self._every = journal, every
        last = journal.last_step(LAST)
        self._step = 0 if last is None else last + 1
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="system-metrics", daemon=True)

    def start(self) -> None:
        """Begin to sample."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and return when it has written its last line."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def __enter__(self) -> SystemMetricsSampler:
        """Begin to sample."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the thread."""
        self.stop()

    def _run(self) -> None:
        import psutil

        process = psutil.Process()
        psutil.cpu_percent()  # the first call has nothing to compare with and says 0
        with contextlib.ExitStack() as stack:
            nvml, devices = _open_nvml(stack)
            last = False
            while not last:
                # One sample at the end too: a short run has no other.
                last = self._stop.wait(self._every)
                memory = psutil.virtual_memory()
                values = {
                    LAST: psutil.cpu_percent(),
                    "system/system_memory_usage_megabytes": memory.used / 1e6,
                    "system/system_memory_usage_percentage": memory.percent,
                    "system/process_memory_usage_megabytes": process.memory_info().rss / 1e6,
                }
                for i, device in enumerate(devices):
                    values |= _gpu(nvml, device, i)
                try:
                    self._journal.metrics(values, step=self._step)
                except FolderError:
                    return  # the training's own next line meets the same disk, and says so
                self._step += 1


def _open_nvml(stack: contextlib.ExitStack) -> tuple[Any, list[Any]]:
    try:
        import pynvml
    except ImportError:
        return None, []
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None, []  # the library is there, a driver is not
    stack.callback(pynvml.nvmlShutdown)
    return pynvml, [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]


def _gpu(nvml: Any, device: Any, index: int) -> dict[str, float]:
    """Read the state of one device; some models do not report their power or their load."""
    values: dict[str, float] = {}
    with contextlib.suppress(nvml.NVMLError):
        memory = nvml.nvmlDeviceGetMemoryInfo(device)
        values[f"system/gpu_{index}_memory_usage_megabytes"] = memory.used / 1e6
        values[f"system/gpu_{index}_memory_usage_percentage"] = round(100 * memory.used / memory.total, 1)
    with contextlib.suppress(nvml.NVMLError):
        values[f"system/gpu_{index}_utilization_percentage"] = nvml.nvmlDeviceGetUtilizationRates(device).gpu
    with contextlib.suppress(nvml.NVMLError):
        values[f"system/gpu_{index}_power_usage_watts"] = nvml.nvmlDeviceGetPowerUsage(device) / 1000
    return values
