"""Nothing in a run folder or a store names code, reads files of the user, or gets the user's tokens."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from bakeoff.errors import StoreError
from bakeoff.run_files.run_dir import EXPORTED_NET, EXPORTED_WEIGHTS, RunDir, iter_run_dirs
from bakeoff.tracking import store
from bakeoff.tracking.client import check_artifact_address
from bakeoff.tracking.replay import replay_run
from bakeoff.training.writer import sync_runs


def append(folder: RunDir, **line: Any) -> None:
    with open(folder.journal, "a", encoding="utf-8") as file:
        file.write(json.dumps({"ts": 1, **line}) + "\n")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A file of the user's that no run may take."""
    path = tmp_path / "home" / "id_rsa"
    path.parent.mkdir()
    path.write_text("PRIVATE")
    return path


@pytest.fixture
def stored(tmp_path: Path) -> Callable[[], list[Path]]:
    """The artifacts in the store that hold the user's key."""
    return lambda: [path for path in (tmp_path / "mlartifacts").rglob("*") if path.is_file() and b"PRIVATE" in path.read_bytes()]


@pytest.mark.parametrize("kind", ["absolute", "relative", "link", "folder with a link", "link to a folder"])
def test_artifacts_stay_inside_the_run_folder(
    kind: str, written: Callable[..., RunDir], uri: str, key: Path, stored: Callable[[], list[Path]]
) -> None:
    folder = written()
    if kind == "link":
        (folder.path / "taken").symlink_to(key)
    elif kind == "folder with a link":
        (folder.path / "taken").mkdir()
        (folder.path / "taken" / "id_rsa").symlink_to(key)
    elif kind == "link to a folder":
        (folder.path / "taken").symlink_to(key.parent)
    path = {"absolute": str(key), "relative": "../../../home/id_rsa"}.get(kind, "taken")
    append(folder, kind="artifact", path=path, artifact_path="")
    append(folder, kind="artifact", path="config.yaml", artifact_path="")
    progress = replay_run(folder, uri=uri)
    assert progress.problems == [f"{folder.journal}: artifact {path}: leads out of the run's folder and is not stored"]
    assert stored() == []
    assert store.download_artifact(uri, progress.mlflow_id, "config.yaml").read_text() == "seed: 1\n"


@pytest.mark.parametrize("artifact_path", ["../../elsewhere", "/elsewhere"])
def test_artifacts_stay_inside_the_store(artifact_path: str, written: Callable[..., RunDir], uri: str, tmp_path: Path) -> None:
    folder = written()
    append(folder, kind="artifact", path="config.yaml", artifact_path=artifact_path)
    assert len(replay_run(folder, uri=uri).problems) == 1
    assert not list(tmp_path.rglob("elsewhere"))


def test_a_journal_names_no_builder_and_no_packages(written: Callable[..., RunDir], uri: str, tmp_path: Path) -> None:
    """`site:addsitedir` runs every .pth file of a folder."""
    folder = written(end=False)
    (folder.path / "run.pth").write_text(f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()\n")
    append(folder, kind="model", name="model", builder="site:addsitedir", input_shape=[1, 8, 8], classes=10, requirements=["evil==1"])
    append(folder, kind="end", status="FINISHED", reason="")
    (progress,) = sync_runs(tmp_path / "runs", uri=uri)
    assert not (tmp_path / "ran").exists()
    assert "was not exported" in progress.problems[0]


@pytest.mark.parametrize("kind", ["linked weights", "linked folder", "code beside the net"])
def test_files_of_a_net_are_taken_as_they_are_written_here(
    kind: str, written: Callable[..., RunDir], uri: str, tmp_path: Path, key: Path, stored: Callable[[], list[Path]]
) -> None:
    folder = written(end=False)
    (folder.export / EXPORTED_NET).parent.mkdir(parents=True)
    (folder.export / EXPORTED_NET).write_bytes(b"net")
    (folder.export / "torch_version").write_text("2.14.1")
    if kind == "linked weights":
        (folder.export / EXPORTED_WEIGHTS).symlink_to(key)
    elif kind == "linked folder":
        (folder.export / "model" / "input_example.json").symlink_to(key)
    else:
        (folder.export / EXPORTED_WEIGHTS).write_bytes(b"weights")
        (folder.export / "model" / "loader.py").write_text("PRIVATE")
    append(folder, kind="model", name="model", input_shape=[1, 8, 8], classes=10, requirements=[])
    append(folder, kind="end", status="FINISHED", reason="")
    (progress,) = sync_runs(tmp_path / "runs", uri=uri)
    assert "was not exported" in progress.problems[0] and stored() == [] and key.read_text() == "PRIVATE"


@pytest.fixture
def server() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """The address of a server, and the headers that it has been sent."""
    headers: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers.append(dict(self.headers))
            self.send_error(404)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    http = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{http.server_port}", headers
    http.shutdown()
    http.server_close()


def test_a_foreign_artifact_address_gets_no_token(
    written: Callable[..., RunDir], uri: str, tmp_path: Path, server: tuple[str, list[dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "hidden")
    address, headers = server
    run = replay_run(written(), uri=uri).mlflow_id
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("UPDATE runs SET artifact_uri = ?", (f"{address}/artifacts",))
        database.execute("UPDATE experiments SET artifact_location = ?", (f"{address}/artifacts",))
    with pytest.raises(StoreError, match="are not on the server of tracking"):
        store.download_artifact(uri, run, "config.yaml")
    other = written(name="other")
    append(other, kind="artifact", path="config.yaml", artifact_path="")
    with pytest.raises(StoreError, match="are not on the server of tracking"):
        replay_run(other, uri=uri)
    begun = next(folder for folder in iter_run_dirs(tmp_path / "runs") if folder.cursor.exists())
    append(begun, kind="artifact", path="config.yaml", artifact_path="")
    with pytest.raises(StoreError, match="are not on the server of tracking"):
        replay_run(begun, uri=uri)
    assert headers == []


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("sqlite:///a.db", "ftp://host/a"),
        ("sqlite:///a.db", "mlflow-artifacts:/a"),
        ("sqlite:///a.db", "sftp://user:hidden@host/a"),
        ("http://host:5000", "http://host:5001/a"),
        ("http://host:5000", "mlflow-artifacts://other/a"),
        ("https://host", "http://host/a"),
        ("postgresql://host/db", "http://host/a"),
    ],
)
def test_artifacts_are_read_from_the_configured_server_alone(uri: str, address: str) -> None:
    with pytest.raises(StoreError, match=r"^artifacts at ") as error:
        check_artifact_address(uri, address)
    assert "hidden" not in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("sqlite:///a.db", "/a/b"),
        ("sqlite:///a.db", "file:///a/b"),
        ("http://host:5000", "mlflow-artifacts:/0/a"),
        ("http://host:5000", "mlflow-artifacts://host:5000/0/a"),
        ("https://user:password@host/", "https://host:443/a"),
        ("http://host:5000", "s3://bucket/a"),
    ],
)
def test_usual_artifact_addresses_are_read(uri: str, address: str) -> None:
    check_artifact_address(uri, address)
