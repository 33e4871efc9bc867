"""Stores that no waiting mends: one line before anything is trained; and a store that was moved, which sync puts right."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bakeoff.commands import main as shell
from bakeoff.errors import StoreError
from bakeoff.run_files.journal import Journal
from bakeoff.run_files.run_dir import RunDir
from bakeoff.tracking import store
from bakeoff.tracking.client import check_usable, default_uri
from bakeoff.training.writer import sync_runs


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("sqlite:////no/such/folder/x.db", "there is no folder /no/such/folder"),
        ("mssql+nodriver://me:secret@127.0.0.1/db", "tracking.uri=mssql+nodriver://***@127.0.0.1/db: "),
        ("mysql+oursql://me:secret@127.0.0.1/db", "tracking.uri=mysql+oursql://***@127.0.0.1/db: "),
        ("mysql://me:secret@127.0.0.1/db", "needs the Python package MySQLdb, which is not installed"),
        ("gopher://127.0.0.1", "expected sqlite:///FILE"),
    ],
)
def test_train_says_so_before_it_trains(
    uri: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert shell.main(["train", "data=digits", "data.subset=200", "model.width=0.125", f"tracking.uri={uri}"]) == 2
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1 and "secret" not in err
    assert not (tmp_path / "runs").exists()


def test_file_that_cannot_be_written(uri: str, tmp_path: Path) -> None:
    check_usable(uri)
    check_usable(default_uri(tmp_path / "..").replace("mlflow.db", "new.db"))
    file = tmp_path / "mlflow.db"
    file.chmod(0o444)
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents[:-2]:
        parent.chmod(parent.stat().st_mode | 0o055)
    code = "import os, sys\nimport sqlalchemy.engine\nfrom bakeoff.errors import StoreError\n"
    code += "from bakeoff.tracking.client import check_usable\nos.geteuid() == 0 and os.setuid(65534)\n"
    code += "try:\n    check_usable(sys.argv[1])\nexcept StoreError as error:\n    print(error)"
    child = subprocess.run([sys.executable, "-c", code, uri], capture_output=True, text=True, check=True, cwd="/")
    assert f"tracking.uri={uri}: {file} cannot be written" in child.stdout
    file.chmod(0o644)


def test_moved_store_finds_its_artifacts_again(
    written: Callable[..., RunDir],
    uri: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = written(end=False, tracking_uri=uri)
    with Journal(folder.journal) as journal:
        journal.artifact("config.yaml")
        journal.end("FINISHED")
    (progress,) = sync_runs(tmp_path / "runs", uri=uri)
    new = tmp_path / "elsewhere with a space"
    new.mkdir()
    for name in ("mlflow.db", "mlartifacts", "runs"):
        shutil.move(tmp_path / name, new / name)
    monkeypatch.chdir(new)
    with pytest.raises((StoreError, LookupError)):
        store.download_artifact(default_uri(new), progress.mlflow_id, "config.yaml")
    assert shell.main(["sync"]) == 0
    assert f"the store was moved from {tmp_path}; it finds its artifacts" in capsys.readouterr().err
    assert store.download_artifact(default_uri(new), progress.mlflow_id, "config.yaml").read_text() == "seed: 1\n"
    assert len(store.runs_table(default_uri(new))) == 1 and not os.path.exists(tmp_path / "mlflow.db")
    assert shell.main(["sync"]) == 0 and "was moved" not in capsys.readouterr().err
