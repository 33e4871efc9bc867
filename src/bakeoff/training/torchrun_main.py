"""One rank of a run on several devices: `python -m bakeoff.training.torchrun_main FOLDER`, started by torchrun."""

from __future__ import annotations

import sys
from pathlib import Path

from bakeoff.training.run_training import train_from_dir


def main() -> int:
    """Train the run of the folder named on the command line; the bar only where the caller asked for it."""
    train_from_dir(Path(sys.argv[1]), progress="--progress" in sys.argv[2:])
    return 0


if __name__ == "__main__":
    sys.exit(main())
