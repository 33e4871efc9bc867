"""The commands of this checkout as a user starts them: in a folder of their own, which is not on the interpreter's path."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE

import pytest

from bakeoff.config.slots import package_data_dir

MAIN = "import sys; from bakeoff.commands.main import main\nif __name__ == '__main__': sys.exit(main(sys.argv[1:]))"


@pytest.fixture
def tiny() -> list[str]:
    """Settings of a run of some seconds."""
    return ["data.subset=200", "trainer.max_epochs=1", "trainer.accelerator=cpu", "trainer.threads=1", "trainer.progress=false"]


@pytest.fixture
def start(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.Popen[str]]:
    """Start `bakeoff WORDS` in `tmp_path` by a script that lies elsewhere, as the installed one does."""
    script = tmp_path_factory.mktemp("bin") / "bakeoff"
    script.write_text(MAIN)

    def start_command(*words: str, **settings: str) -> subprocess.Popen[str]:
        inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONSAFEPATH", "BAKEOFF_TRUST")}
        source = {"PYTHONPATH": str(package_data_dir("conf").parent / "src"), "NO_COLOR": "1"}
        line = [sys.executable, str(script), *words]
        environment = {**inherited, **source, **settings}
        return subprocess.Popen(line, cwd=tmp_path, env=environment, text=True, stdin=PIPE, stdout=PIPE, stderr=PIPE)

    return start_command


@pytest.fixture
def bakeoff(start: Callable[..., subprocess.Popen[str]]) -> Callable[..., tuple[int, str, str]]:
    """Run `bakeoff WORDS` to its end: exit code, standard output and standard error."""

    def run(*words: str, **settings: str) -> tuple[int, str, str]:
        process = start(*words, **settings)
        out, err = process.communicate(timeout=300)
        return process.returncode, out, err

    return run
