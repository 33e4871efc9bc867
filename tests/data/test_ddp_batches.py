"""Two real ranks under a Trainer: together they see what one device sees, in training and in validation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

RANK = """
import json, logging, sys
import pytorch_lightning as pl, torch
from bakeoff.data.batches import Augmentation
from bakeoff.data.datamodule import ImageDataModule, InputFormat
from bakeoff.data.epoch_sampler import BatchPlan
from bakeoff.data.sources import Images
from bakeoff.data.splits import SplitSpec
logging.disable(logging.WARNING)

def toy():
    x = torch.arange(101).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 4, 4).contiguous()
    return Images(x, torch.arange(101) % 2, x[:4], torch.arange(4) % 2, ("a", "b"))

class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net, self.seen, self.val = torch.nn.Linear(16, 2), [], []
    def configure_optimizers(self): return torch.optim.SGD(self.net.parameters(), lr=0.01)
    def training_step(self, batch, i):
        self.seen.append([self.current_epoch, self.global_step, (batch[0][:, 0, 1, 1] * 255).round().int().tolist()])
        return self.net(batch[0].flatten(1)).square().mean()
    def validation_step(self, batch, i): self.val += (batch[0][:, 0, 1, 1] * 255).round().int().tolist()

devices, out = int(sys.argv[1]), sys.argv[2]
data = ImageDataModule(toy, input_format=InputFormat(4, "pad", normalize=False), batch_plan=BatchPlan(12, seed=1, eval_batch_size=3),
                       split_spec=SplitSpec(val_fraction=0.11, seed=0), augmentation=Augmentation(crop=1))
trainer = pl.Trainer(max_epochs=2, accelerator="cpu", devices=devices, strategy="ddp" if devices > 1 else "auto", logger=False,
                     enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
                     use_distributed_sampler=False, reload_dataloaders_every_n_epochs=1)
net = Net()
trainer.fit(net, datamodule=data)
json.dump({"seen": net.seen, "val": net.val}, open(f"{out}/{devices}-{trainer.global_rank}.json", "w"))
"""


@pytest.mark.slow
def test_two_ranks_share_what_one_device_sees(tmp_path: Path) -> None:
    script = tmp_path / "rank.py"
    script.write_text(RANK)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script), "2", str(tmp_path)]
    subprocess.run([sys.executable, str(script), "1", str(tmp_path)], check=True, env=environment, timeout=120)
    subprocess.run(launch, check=True, env=environment, timeout=120)
    single, first, second = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("1-0", "2-0", "2-1"))
    assert len(single["seen"]) == len(first["seen"]) == len(second["seen"]) == 14
    for expected, a, b in zip(single["seen"], first["seen"], second["seen"], strict=True):
        assert expected[:2] == a[:2] == b[:2]
        assert sorted(expected[2]) == sorted(a[2] + b[2])
    assert len(first["val"]) != len(second["val"])  # 11 images: the ranks' shares differ, and none is seen twice
    assert sorted(single["val"]) == sorted(first["val"] + second["val"])
