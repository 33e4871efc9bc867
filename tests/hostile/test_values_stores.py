"""Addresses of stores that cannot work are told before anything is trained."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from bakeoff.commands.main import main
from bakeoff.errors import StoreError
from bakeoff.tracking.client import check_usable

ADDRESSES = {
    "mlflow.db": "expected sqlite:///FILE",
    "localhost:5000": "expected sqlite:///FILE",
    "ftp://x": "expected sqlite:///FILE",
    "databricks": "expected sqlite:///FILE",
    "sqlite://": "expected sqlite:///FILE",
    "http://": "expected sqlite:///FILE",
    "http://host:99999": "ort out of range",
    "http://[::1": "Invalid IPv6",
    "mysql+nosuchdriver://user:secret@host/base": "load plugin: sqlalchemy.dialects:mysql.nosuchdriver",
    "sqlite:////no/such/folder/x.db": "there is no folder /no/such/folder",
    "sqlite:///taken/x.db": "there is no folder",
    "sqlite:///:memory:": "must be the path of a file",
    "sqlite:///mlflow.db?mode=ro": "must be the path of a file",
    "sqlite:///own": "is a folder",
    "sqlite:///taken": "is no SQLite database",
}


@pytest.mark.parametrize(("address", "words"), ADDRESSES.items(), ids=list(ADDRESSES))
def test_an_address_that_cannot_work(
    address: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("taken").write_text("a file of another kind")
    Path("own").mkdir()
    for line in (["train"], ["train", "-m", "seed=1,2"], ["check"], ["sweep", "quickstart"]):
        start = time.process_time()
        assert main([*line, f"tracking.uri='{address}'"]) == 2
        assert time.process_time() - start < 3
        out, err = capsys.readouterr()
        assert (out, err.count("\n"), err[:22]) == ("", 1, "bakeoff: tracking.uri="), err
        assert words in err and "secret" not in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own", "taken"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="cannot be written"):
        check_usable(f"sqlite:///{tmp_path}/mlflow.db")


def test_addresses_that_may_work(tmp_path: Path) -> None:
    for address in (f"sqlite:///{tmp_path}/mlflow.db", "http://127.0.0.1:1", "https://user:word@host.example/mlflow"):
        check_usable(address)
