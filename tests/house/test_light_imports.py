"""Commands that must answer at once import nothing heavy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "pytorch_lightning", "torchvision", "mlflow", "optuna", "scipy", "sklearn", "plotly", "pandas", "numpy")
LOADED = "import sys; loaded = sorted({name.split('.')[0] for name in sys.modules} & set(%r)); print(*loaded)" % (HEAVY,)  # noqa: UP031


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("--help", 0),
        ("--version", 0),
        ("list", 0),
        ("list optimizer --json", 0),
        ("schema run", 0),
        ("schema sweep", 0),
        ("train --cfg job", 0),
        ("train optimizer=adamm", 2),
        ("train optimizer.lr=-1", 2),
        ("train data.batch_sise=3", 2),
        ("sweep nothing", 2),
        ("sweep quickstart optimizer=adamm", 2),
        ("show", 0),
        ("show nothing", 2),
        ("show activations reach=0", 2),
        ("trian", 2),
    ],
)
def test_light_commands_load_nothing_heavy(line: str, code: int, tmp_path: Path) -> None:
    script = f"""
import contextlib, io
from bakeoff.commands.main import main
err = io.StringIO()
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(err):
    try:
        exit_code = main({line.split()!r})
    except SystemExit as stop:
        exit_code = int(stop.code or 0)
assert exit_code == {code}, (exit_code, err.getvalue())
assert {code} == 0 or err.getvalue().count("\\n") == 1, err.getvalue()
{LOADED}
"""
    finished = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.split() == []
    assert not list(tmp_path.iterdir()), "a command that starts nothing leaves nothing behind"


def test_the_package_is_light() -> None:
    finished = subprocess.run([sys.executable, "-c", f"import bakeoff; {LOADED}"], capture_output=True, text=True, timeout=60)
    assert (finished.returncode, finished.stdout.split()) == (0, []), finished.stderr
