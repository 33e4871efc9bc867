"""Damaged and hostile checkpoints get one line; a torn one gives way to the one before it."""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path

import pytest
import torch

from bakeoff.config.compose import compose
from bakeoff.errors import FolderError
from bakeoff.run_files.checkpoints import MAGIC, read_latest_checkpoint, read_model_weights
from bakeoff.training.run_lifecycle import create_run_dir
from bakeoff.training.run_training import train_from_dir


class Payload:
    """Would make a file when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, ("taken", "w")


def saved(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


TORN = {"empty": b"", "short": b"bake", "garbage": b"x" * 500, "header only": MAGIC + bytes(32)}
WHOLE = {
    "no content": b"",
    "garbage": b"garbage",
    "pickle": pickle.dumps({"net": {}}),
    "payload": pickle.dumps(Payload()),
    "payload in torch": saved({"net": Payload()}),
    "cut archive": saved({"net": {}})[:-50],
    "a list": saved([1]),
    "no net": saved({"step": 1}),
    "a list as net": saved({"step": 1, "net": [1]}),
    "numbers as net": saved({"step": 1, "net": {"a": 1}}),
    "no step": saved({"net": {"a": torch.ones(1)}}),
    "step of text": saved({"step": "1", "net": {}}),
    "another net": saved({"step": 1, "net": {"a": torch.ones(1)}}),
}


@pytest.mark.parametrize("content", TORN.values(), ids=list(TORN))
def test_a_torn_checkpoint_counts_as_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_bytes(content)
    assert read_latest_checkpoint(tmp_path) is None
    with pytest.raises(FolderError, match="no readable checkpoint"):
        read_model_weights(tmp_path)


def test_a_whole_file_that_is_no_checkpoint_gets_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = compose(["model.width=0.05", "data.subset=320", "trainer.max_epochs=1", "trainer.threads=1", "trainer.accelerator=cpu"])
    for name, content in WHOLE.items():
        run_dir = create_run_dir(run)
        file = run_dir.checkpoints / "last.ckpt"
        file.write_bytes(MAGIC + hashlib.sha256(content).digest() + content)
        with pytest.raises(FolderError) as caught:
            train_from_dir(run_dir.path)
        assert "checkpoint" in str(caught.value) and len(str(caught.value)) < 600, name
    assert not Path("taken").exists()
