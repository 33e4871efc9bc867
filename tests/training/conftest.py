"""Runs that are killed at a step, and the comparison of what two runs have left."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bakeoff.run_files import checkpoints
from bakeoff.run_files.run_dir import RunDir
from bakeoff.training.lightning_module import ClassificationModule
from bakeoff.training.reproduction import compare_metrics, journal_metrics
from bakeoff.training.run_training import train_from_dir


class Killed(BaseException):
    """Stands in for a process that is gone."""


@pytest.fixture
def train_until(monkeypatch: pytest.MonkeyPatch) -> Callable[[RunDir, int], None]:
    """Train a run directory up to a step, at which its process is killed."""

    def train(run_dir: RunDir, kill_step: int) -> None:
        training_step = ClassificationModule.training_step

        def killed_step(self: ClassificationModule, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
            if self.step == kill_step:
                raise Killed
            return training_step(self, batch, batch_idx)

        with monkeypatch.context() as patch:
            patch.setattr(ClassificationModule, "training_step", killed_step)
            with pytest.raises(Killed):
                train_from_dir(run_dir.path)
        assert run_dir.read_result() is None

    return train


@pytest.fixture
def assert_same_bits() -> Callable[[RunDir, RunDir], None]:
    """Compare weights, optimizer states and curves of two runs."""

    def compare(first: RunDir, second: RunDir) -> None:
        a, b = (checkpoints.read_latest_checkpoint(run_dir.checkpoints) for run_dir in (first, second))
        assert a is not None and b is not None
        for part in ("net", "training"):
            assert (part in a) == (part in b)
            for name, tensor in a.get(part, {}).items():
                assert torch.equal(tensor, b[part][name]), (part, name)
        for index, entries in a["optimizer"]["state"].items():
            for name, value in entries.items():
                if isinstance(value, Tensor | float | int):
                    assert torch.equal(torch.as_tensor(value), torch.as_tensor(b["optimizer"]["state"][index][name])), (index, name)
        comparison = compare_metrics(journal_metrics(first.journal), journal_metrics(second.journal))
        assert comparison.kind == "identical", comparison
        assert comparison.compared > 10

    return compare
