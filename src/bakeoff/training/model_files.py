"""Writes the trained net of a run into its folder, to be exported: by the process that trained, which has torch loaded.

`python -m bakeoff.training.model_files RUN_DIR` does it for a run whose process could not.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bakeoff.errors import BakeoffError, echo
from bakeoff.run_files.run_dir import EXPORTED_NET, EXPORTED_WEIGHTS, RunDir

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn


def write_model_files(run_dir: RunDir, net: nn.Module, *, input_shape: Sequence[int]) -> None:
    """Write a net's weights, the net traced for batches of any size, and the version of torch; a kill leaves all of it or nothing.

    Args:
        run_dir: The run's folder.
        net: The trained net on the CPU in eval mode: float32 (N, C, H, W) to (N, classes).
        input_shape: (C, H, W) of one image.
    """
    import torch
    from safetensors.torch import save_file

    draft = run_dir.path / f".{run_dir.export.name}.{os.getpid()}"
    try:
        (draft / EXPORTED_NET).parent.mkdir(parents=True)
        weights = {name: tensor.detach().contiguous().clone() for name, tensor in net.state_dict().items()}
        save_file(weights, draft / EXPORTED_WEIGHTS)
        # Two images: torch.export takes a batch of one as a constant, and the model would accept no other.
        program = torch.export.export(net, (torch.zeros(2, *input_shape),), dynamic_shapes=[{0: torch.export.Dim.AUTO}])
        torch.export.save(program, draft / EXPORTED_NET)
        (draft / "torch_version").write_text(str(torch.__version__))
        shutil.rmtree(run_dir.export, ignore_errors=True)
        os.rename(draft, run_dir.export)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def write_trained_model(run_dir: RunDir) -> None:
    """Write the files of a run's trained net, from its frozen config and its checkpoints."""
    from bakeoff import builders
    from bakeoff.config.compose import load_frozen

    run = load_frozen(run_dir.read_config(), origin=str(run_dir.config))
    net = builders.load_trained_model(run_dir.path)
    write_model_files(run_dir, net, input_shape=(run.data.channels, run.data.size, run.data.size))


def main(path: str) -> int:
    """Write the files of the run in a folder, and say in one line what is in the way."""
    try:
        write_trained_model(RunDir(Path(path)))
    except BakeoffError as error:
        echo(str(error), err=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
