"""MLflow's pages in a real browser, where this machine has Chromium: what a user sees on the page that `bakeoff ui` names."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bakeoff.run_files.run_dir import RunDir
from bakeoff.tracking.replay import replay_run
from bakeoff.tracking.store import experiment_id
from bakeoff.tracking.ui import serve_ui
from bakeoff.tracking.ui_tags import runs_page

CHROMIUM = shutil.which("chromium")
QUIET = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_first_page_shows_runs_and_their_curves(written: Callable[..., RunDir], uri: str, tmp_path: Path) -> None:
    for name in ("adam-p00", "momentum-p00"):
        replay_run(written(name=name, experiment="shown"), uri=uri)
    summary = replay_run(written(name="summary", kind="summary", tags={"mlflow.note.content": "Which?"}, experiment="shown"), uri=uri)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with serve_ui(uri, port=port) as (url, _):
        page = f"{url}/{runs_page(str(experiment_id(uri, name='shown')))}"
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        command = [str(CHROMIUM), "--headless", *QUIET, profile, "--virtual-time-budget=60000", "--dump-dom", page]
        seen = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True).stdout
    for text in ("adam-p00", "momentum-p00", "train/loss", f"/runs/{summary.mlflow_id}/artifacts/report/index.html"):
        assert text in seen, text
    assert "js-plotly-plot" in seen  # curves are drawn, not only named
