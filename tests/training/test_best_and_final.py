"""The test set is looked at once, with the final net and with the one that validation liked best."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bakeoff import builders
from bakeoff.config.compose import compose
from bakeoff.run_files import checkpoints
from bakeoff.training.run_lifecycle import create_run_dir
from bakeoff.training.run_training import train_from_dir

SMALL = ["model.width=0.05", "data.subset=320", "trainer.max_epochs=3", "trainer.threads=1", "test=true"]


# At the second rate the net is at its best before the last epoch; at the first it is so at the end.
@pytest.mark.parametrize(("rate", "last"), [("0.01", True), ("1.0", False)])
def test_both_nets_are_scored(tmp_path: Path, rate: str, last: bool) -> None:
    run = compose([*SMALL, f"optimizer.lr={rate}", "trainer.divergence=null", "scheduler=constant", f"tracking.folder={tmp_path}"])
    folder = create_run_dir(run)
    result = train_from_dir(folder.path)
    data = builders.make_data(run)
    data.setup("fit")
    for part, file in (("test", "last"), ("test_best", "best")):
        net = builders.make_uninitialized_model(run)
        net.load_state_dict(checkpoints.read_model_weights(folder.checkpoints, name=file))
        net.eval()
        with torch.no_grad():
            hits = sum(int((net(images).argmax(1) == targets).sum()) for images, targets in data.test_dataloader())
        assert result.metrics[f"{part}/accuracy"] == pytest.approx(hits / data.n_test), part
    assert (result.best["step"] == result.steps) is last
