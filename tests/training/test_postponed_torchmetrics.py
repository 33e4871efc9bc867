"""Lightning without most of torchmetrics, and the real torchmetrics for whoever asks for more."""

from __future__ import annotations

import importlib
import subprocess
import sys

POSTPONED = """
import sys
import bakeoff.training.postponed_torchmetrics
import bakeoff.training.run_lifecycle
loaded = {"torchvision", "scipy", "sklearn", "pandas", "torchmetrics.functional", "torchmetrics.classification"} & set(sys.modules)
assert not loaded, loaded

import torch, torchmetrics
from pytorch_lightning.core.module import Metric
assert torchmetrics.Metric is Metric is torchmetrics.metric.Metric and torchmetrics.__version__
accuracy = torchmetrics.Accuracy(task="multiclass", num_classes=3)
assert isinstance(accuracy, Metric) and accuracy(torch.tensor([0, 1, 2]), torch.tensor([0, 1, 1])) > 0.6
assert "torchmetrics.functional" in sys.modules and "Accuracy" in torchmetrics.__all__
assert torchmetrics.Metric is Metric
"""
OTHER_VERSION = """
import sys
from bakeoff.training import postponed_torchmetrics
postponed_torchmetrics.CLASSES["MeanOfTomorrow"] = "torchmetrics.metric"

import torchmetrics
from pytorch_lightning.core.module import Metric, MetricCollection
assert "torchmetrics.functional" in sys.modules and type(torchmetrics).__name__ == "module"
assert torchmetrics.Metric is Metric is sys.modules["torchmetrics.metric"].Metric
assert torchmetrics.MetricCollection is MetricCollection and torchmetrics.utilities is sys.modules["torchmetrics.utilities"]
assert not hasattr(torchmetrics, "MeanOfTomorrow")
"""


def run_script(script: str) -> None:
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr


def test_a_run_loads_little_and_torchmetrics_is_whole_once_it_is_used() -> None:
    run_script(POSTPONED)


def test_a_torchmetrics_of_another_build_is_imported_as_usual() -> None:
    run_script(OTHER_VERSION)


def test_caches_of_finders_can_be_dropped() -> None:
    """As whoever writes a module and imports it does."""
    importlib.invalidate_caches()
