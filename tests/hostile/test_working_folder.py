"""No process imports a module from the working folder, whatever its files are called."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

MODULES = ("argparse", "json", "mlflow", "multiprocessing", "signal", "sklearn", "torch", "uvicorn", "bakeoff/__init__")
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def traps(tmp_path: Path) -> Path:
    """The folder in which a planted module leaves its name when it is imported."""
    folder = tmp_path / "imported"
    folder.mkdir()
    for name in MODULES:
        module = tmp_path / f"{name}.py"
        module.parent.mkdir(exist_ok=True)
        module.write_text(f"open({str(folder / name.replace('/', '.'))!r}, 'w').close()\n")
    return folder


def imported(traps: Path) -> list[str]:
    return sorted(path.name for path in traps.iterdir())


def test_a_run_and_its_writer_import_nothing_from_the_working_folder(traps: Path, bakeoff: Command, tiny: list[str]) -> None:
    code, _, err = bakeoff("train", *tiny, "data.workers=1")
    assert imported(traps) == []
    assert code == 0 and "catching up" not in err, err


@pytest.mark.slow
@pytest.mark.parametrize("words", [("-m", "seed=0,1"), ("trainer=ddp", "trainer.devices=2")], ids=["fork server", "torchrun"])
def test_children_import_nothing_from_the_working_folder(traps: Path, bakeoff: Command, tiny: list[str], words: tuple[str, ...]) -> None:
    code, _, err = bakeoff("train", *tiny, *words)
    assert imported(traps) == []
    assert code == 0, err


@pytest.mark.slow
def test_the_pages_import_nothing_from_the_working_folder(
    traps: Path, tmp_path: Path, template: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    (tmp_path / "mlflow.db").write_bytes(template.read_bytes())
    process = start("ui", "--port", "5917")
    try:
        assert process.stdout is not None and process.stdout.readline().startswith("http://127.0.0.1:5917/")
        assert imported(traps) == []
    finally:
        process.terminate()
        process.communicate(timeout=30)
