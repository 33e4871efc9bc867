from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import psutil
import pytest
from torch import nn

from bakeoff.errors import PortError, StoreError
from bakeoff.run_files.journal import Journal
from bakeoff.run_files.predictions import PREDICTIONS_FILE, write_predictions
from bakeoff.run_files.run_dir import RunDir
from bakeoff.tracking import store
from bakeoff.tracking.client import default_uri
from bakeoff.tracking.replay import replay_run
from bakeoff.tracking.ui import open_ui, serve_ui
from bakeoff.training.model_files import write_model_files


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


def in_session(pid: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == pid and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def test_taken_port_is_told_before_anything_starts(uri: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        with pytest.raises(PortError, match=rf"^port={number}: cannot be used on 127\.0\.0\.1: Address already in use"):
            open_ui(uri, port=number)
    with pytest.raises(PortError, match=r"^port=70000: expected 1 to 65535$"):
        open_ui(uri, port=70000)


def test_no_store_no_pages(tmp_path: Path, port: int) -> None:
    with pytest.raises(StoreError, match="there is no such file"):
        open_ui(default_uri(tmp_path), port=port)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_pages_show_a_run_and_a_late_server_takes_a_journal(
    written: Callable[..., RunDir], uri: str, port: int, tmp_path: Path, template: Path
) -> None:
    folder = written(steps=3, end=False, experiment="shown")
    with Journal(folder.journal) as journal:
        journal.metrics({"odd": float("nan"), "third": 1 / 3}, step=1)
        journal.artifact("config.yaml")
        journal.end("FINISHED")
    run = replay_run(folder, uri=uri).mlflow_id
    with serve_ui(uri, port=port) as (url, process):
        answer = json.load(urllib.request.urlopen(f"{url}/api/2.0/mlflow/runs/get?run_id={run}"))
        assert answer["run"]["info"]["status"] == "FINISHED"
        shown = urllib.request.urlopen(f"{url}/get-artifact?path=config.yaml&run_uuid={run}").read()
        assert shown == b"seed: 1\n"
        listening = {
            connection.laddr.ip
            for member in in_session(process.pid)
            for connection in member.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }
        assert listening == {"127.0.0.1"}
        for name, content in (("Host", "evil.example"), ("Origin", "http://evil.example")):
            foreign = urllib.request.Request(f"{url}/api/2.0/mlflow/experiments/create", b'{"name": "evil"}', {name: content})
            foreign.add_header("Content-Type", "application/json")
            with pytest.raises(urllib.error.HTTPError, match="403"):
                urllib.request.urlopen(foreign)
        # The same folder by way of the server, which was not there when the journal was written.
        late = written(steps=1500, experiment="late")
        with Journal(late.journal) as journal:
            journal.metrics({"odd": float("nan"), "big": float("inf")}, step=1)
            journal.artifact("config.yaml")
            write_predictions(late.path / PREDICTIONS_FILE, predicted=np.arange(9, dtype=np.uint8), target=np.zeros(9, np.uint8))
            journal.artifact(PREDICTIONS_FILE)
            write_model_files(late, nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval(), input_shape=(1, 4, 4))
            journal.model(input_shape=(1, 4, 4), classes=3, requirements=[])
        told = replay_run(late, uri=url, write_model=lambda path: pytest.fail("nothing is missing"))
        (model,) = mlflow.MlflowClient(url).search_logged_models([str(store.experiment_id(url, name="late"))])
        assert (str(model.status), model.source_run_id, told.pending, told.problems) == ("READY", told.mlflow_id, 0, [])
        assert [v for _, v, _ in store.metric_history(url, told.mlflow_id, "train/loss")] == [1 / (s + 1) for s in range(1500)]
        assert str(store.metric_history(url, told.mlflow_id, "odd")[0][1]) == "nan"
        assert store.metric_history(url, told.mlflow_id, "big")[0][1] == float("inf")
        assert store.download_artifact(url, told.mlflow_id, "config.yaml").read_text() == "seed: 1\n"
        assert [predicted.tolist() for predicted, _ in store.test_predictions(url, [told.mlflow_id]).values()] == [list(range(9))]
        assert store.resolve_run(url, late.read_job().id[:8]).info.run_id == told.mlflow_id and len(store.runs_table(url)) == 2
    assert process.poll() is not None and in_session(process.pid) == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_all_children(written: Callable[..., RunDir], uri: str, port: int, number: signal.Signals) -> None:
    replay_run(written(experiment="newest"), uri=uri)
    experiment = store.experiment_id(uri, name="newest")
    code = "import sys; from bakeoff.tracking.ui import open_ui; open_ui(sys.argv[1], port=int(sys.argv[2]))"
    shell = subprocess.Popen([sys.executable, "-c", code, uri, str(port)], stdout=subprocess.PIPE, text=True)
    assert shell.stdout is not None
    assert (
        shell.stdout.readline()
        == f"http://127.0.0.1:{port}/#/experiments/{experiment}/runs?workflowType=machine_learning&compareRunsMode=CHART\n"
    )
    children = psutil.Process(shell.pid).children(recursive=True)
    assert children
    shell.send_signal(number)
    assert shell.wait(30) == 0
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.slow
def test_plain_mlflow_finds_the_store_and_its_artifacts(
    written: Callable[..., RunDir], tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`mlflow server` with no arguments, started in the working folder."""
    monkeypatch.chdir(tmp_path)
    folder = written(end=False)
    with Journal(folder.journal) as journal:
        journal.artifact("config.yaml", artifact_path="recipe")
    run = replay_run(folder).mlflow_id
    assert Path("mlflow.db").is_file() and Path("mlartifacts").is_dir() and not Path("mlruns").exists()
    settings = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")} | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    command = [sys.executable, "-m", "mlflow", "ui", "--port", str(port), "--workers", "1"]
    process = subprocess.Popen(command, env={**settings, "MLFLOW_DISABLE_TELEMETRY": "true"}, start_new_session=True)
    try:
        from bakeoff.tracking.ui import wait_ready

        with open(os.devnull, "rb") as log:
            wait_ready(f"http://127.0.0.1:{port}", process, log)
        address = f"http://127.0.0.1:{port}/get-artifact?path=recipe/config.yaml&run_uuid={run}"
        assert urllib.request.urlopen(address).read() == b"seed: 1\n"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
