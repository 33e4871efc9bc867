"""One rank of a run on several devices, started by torchrun: `python -m bakeoff.training.torchrun_main RUN_DIR [--progress]`."""

from __future__ import annotations

import sys
from pathlib import Path

from bakeoff.training.run_training import train_from_dir

if __name__ == "__main__":
    train_from_dir(Path(sys.argv[1]), progress="--progress" in sys.argv[2:])
