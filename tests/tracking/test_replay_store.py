from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import pandas as pd
import pytest

from bakeoff.errors import StoreError
from bakeoff.run_files.journal import Journal
from bakeoff.run_files.run_dir import RunDir
from bakeoff.tracking import store
from bakeoff.tracking.client import open_client
from bakeoff.tracking.replay import is_behind, replay_run
from bakeoff.training.writer import sync_runs


def losses(uri: str, mlflow_id: str) -> list[tuple[int, float]]:
    return [(step, value) for step, value, _ in store.metric_history(uri, mlflow_id, "train/loss")]


def expected(steps: int) -> list[tuple[int, float]]:
    return [(step, 1 / (step + 1)) for step in range(steps)]


def runs(uri: str) -> pd.DataFrame:
    return store.runs_table(uri)


def test_everything_arrives_exactly_once(written: Callable[..., RunDir], uri: str) -> None:
    folder = written(steps=2500, kind="trial", tags={"sweep": "quickstart"})
    assert is_behind(folder, uri=uri)
    progress = replay_run(folder, uri=uri)
    assert (progress.status, progress.torn, progress.problems) == ("FINISHED", 0, []) and not is_behind(folder, uri=uri)
    assert losses(uri, progress.mlflow_id) == expected(2500)
    row = runs(uri).iloc[0]
    assert (row["id"], row["kind"], row["status"], row["tags.sweep"]) == (folder.read_job().id, "trial", "FINISHED", "quickstart")
    assert row["params.optimizer.lr"] == "0.1" and row["tags.reason"] == "max_epochs reached"
    assert replay_run(folder, uri=uri).lines == 0


def test_lost_cursor_and_second_store(written: Callable[..., RunDir], uri: str, tmp_path: Path, template: Path) -> None:
    folder = written(steps=1200)
    first = replay_run(folder, uri=uri)
    folder.cursor.unlink()
    assert replay_run(folder, uri=uri).mlflow_id == first.mlflow_id
    folder.cursor.write_text('{"torn')
    assert replay_run(folder, uri=uri).mlflow_id == first.mlflow_id
    assert losses(uri, first.mlflow_id) == expected(1200) and len(runs(uri)) == 1
    (tmp_path / "other").mkdir()
    other = store.default_uri(tmp_path / "other")
    (tmp_path / "other" / "mlflow.db").write_bytes(template.read_bytes())
    assert losses(other, replay_run(folder, uri=other).mlflow_id) == expected(1200)
    assert not is_behind(folder, uri=uri) and not is_behind(folder, uri=other)


def test_store_thrown_away_is_filled_again(written: Callable[..., RunDir], uri: str, tmp_path: Path, template: Path) -> None:
    folder = written(steps=5, end=False)
    replay_run(folder, uri=uri)
    (tmp_path / "mlflow.db").write_bytes(template.read_bytes())
    with Journal(folder.journal) as journal:
        journal.metrics({"train/loss": 1 / 6}, step=5)
    assert losses(uri, replay_run(folder, uri=uri).mlflow_id) == expected(6)


def test_torn_lines_and_a_torn_start(written: Callable[..., RunDir], uri: str) -> None:
    folder = written(steps=4, end=False, tags={"sweep": "s"})
    lines = folder.journal.read_bytes().splitlines(keepends=True)
    lines[0] = lines[0][:20] + b"\n"
    lines[3] = lines[3][:-9] + b"\n"
    folder.journal.write_bytes(b"".join(lines)[:-5])
    progress = replay_run(folder, uri=uri)
    assert progress.torn == 2 and losses(uri, progress.mlflow_id) == [expected(4)[0], expected(4)[2]]
    assert runs(uri).iloc[0]["tags.sweep"] == "s"
    with Journal(folder.journal) as journal:
        journal.metrics({"train/loss": 0.25}, step=3)
        journal.end("FINISHED")
    assert replay_run(folder, uri=uri).status == "FINISHED"
    assert losses(uri, progress.mlflow_id)[-1] == (3, 0.25)


def test_resumed_run_is_running_again_and_a_changed_param_is_kept_beside(written: Callable[..., RunDir], uri: str) -> None:
    folder = written(steps=3, end=False)
    with Journal(folder.journal) as journal:
        journal.end("KILLED", reason="SIGTERM")
    assert replay_run(folder, uri=uri).status == "KILLED"
    with Journal(folder.journal) as journal:
        journal.start(folder.read_job())
        journal.params({"optimizer": "adam", "optimizer.lr": 0.2, "new": 1})
    assert replay_run(folder, uri=uri).status == "RUNNING"
    row = runs(uri).iloc[0]
    assert (row["status"], row["params.new"]) == ("RUNNING", "1")
    assert (row["params.optimizer.lr"], row["tags.resumed/optimizer.lr"]) == ("0.1", "0.2")
    with Journal(folder.journal) as journal:
        journal.end("FINISHED")
    replay_run(folder, uri=uri)
    assert runs(uri).iloc[0]["status"] == "FINISHED" and len(runs(uri)) == 1


def test_awkward_names_and_values(make_folder: Callable[..., RunDir], uri: str) -> None:
    folder = make_folder(experiment="a/b: c?", name="lr=3e-4, adam")
    with Journal(folder.journal) as journal:
        journal.start(folder.read_job())
        journal.params({"long": "x" * 9000, "odd[0]{}": 1, **{f"p{i}": i for i in range(250)}})
        journal.tags({"t": "y" * 9000, **{f"t{i}": i for i in range(150)}})
        journal.metrics({"a": float("inf"), "b": float("-inf"), "c": float("nan"), "odd[0]": 5e-324}, step=0)
        journal.artifact("config.yaml", artifact_path="recipe")
        journal.artifact("result.json")  # never written
        journal.dataset("digits", digest="f" * 64, source="scikit-learn", context="training", profile={"images": 1797})
        journal.end("FINISHED")
    progress = replay_run(folder, uri=uri)
    assert len(progress.problems) == 1 and "result.json" in progress.problems[0]
    row = runs(uri).iloc[0]
    assert row["experiment"] == "a/b: c?" and len(row["params.long"]) == 6000 and row["params.p249"] == "249" and row["tags.t149"] == "149"
    assert row["metrics.a"] == float("inf") and row["metrics.b"] == float("-inf") and row["metrics.odd_0_"] == 5e-324
    assert str(store.metric_history(uri, progress.mlflow_id, "c")[0][1]) == "nan" and row["tags.nonfinite/c"] == "0"
    assert store.download_artifact(uri, progress.mlflow_id, "recipe/config.yaml").read_text() == "seed: 1\n"
    told = open_client(uri).get_run(progress.mlflow_id).inputs
    assert told is not None
    inputs = told.dataset_inputs
    assert [(i.dataset.name, json.loads(cast("str", i.dataset.profile))["digest"]) for i in inputs] == [("digits", "f" * 64)]
    assert runs(uri).iloc[0]["id"] in str(folder.path)


def test_two_replays_at_once(written: Callable[..., RunDir], uri: str) -> None:
    folder = written(steps=3000)
    with ThreadPoolExecutor(3) as pool:  # flock parts threads with files of their own as it parts processes
        told = list(pool.map(lambda _: replay_run(folder, uri=uri), range(3)))
    assert sorted(p.lines for p in told) == [0, 0, 3003] and len({p.mlflow_id for p in told}) == 1
    assert len(runs(uri)) == 1 and losses(uri, runs(uri).iloc[0]["mlflow_id"]) == expected(3000)


def test_killed_mid_replay_again_and_again(written: Callable[..., RunDir], uri: str, tmp_path: Path) -> None:
    folder = written(steps=200_000)
    code = (
        "import sys; from pathlib import Path; from bakeoff.run_files.run_dir import RunDir; from bakeoff.tracking import replay\n"
        "print('go', flush=True)\n"
        "replay.replay_run(RunDir(Path(sys.argv[1])), uri=sys.argv[2])"
    )
    cut = 0
    for delay in (0.3, 0.8):
        child = subprocess.Popen([sys.executable, "-c", code, str(folder.path), uri], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None and child.stdout.readline() == "go\n"
        time.sleep(delay)
        os.kill(child.pid, signal.SIGKILL)
        child.communicate()
        cut += is_behind(folder, uri=uri)
    progress = replay_run(folder, uri=uri)
    assert cut >= 1, "no kill came in the middle"
    assert len(runs(uri)) == 1 and losses(uri, progress.mlflow_id) == expected(200_000)
    assert runs(uri).iloc[0]["status"] == "FINISHED"


def test_dead_server_answers_soon_and_without_its_password(written: Callable[..., RunDir]) -> None:
    folder = written(tracking_uri="http://me:secret@127.0.0.1:9")
    start = time.monotonic()
    with pytest.raises(StoreError, match=r"^tracking\.uri=http://\*\*\*@127\.0\.0\.1:9: the store does not answer") as caught:
        replay_run(folder, uri="http://me:secret@127.0.0.1:9")
    assert time.monotonic() - start < 5 and "secret" not in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(StoreError):
        sync_runs(folder.path.parent.parent, uri="http://me:secret@127.0.0.1:9")
    assert not folder.cursor.exists()


def test_deleted_run_stays_deleted(written: Callable[..., RunDir], uri: str) -> None:
    folder = written(end=False)
    client = open_client(uri)
    client.delete_run(replay_run(folder, uri=uri).mlflow_id)
    with Journal(folder.journal) as journal:
        journal.end("FINISHED")
    for _ in range(2):
        (problem,) = replay_run(folder, uri=uri).problems
        assert "was deleted in the store" in problem
        folder.cursor.unlink(missing_ok=True)
    assert len(runs(uri)) == 0


def test_sync_tells_what_lagged_and_says_killed_of_the_dead(written: Callable[..., RunDir], uri: str, tmp_path: Path) -> None:
    done, dead = written(), written(end=False)
    broken = written()
    broken.job.write_text("{")
    with written(end=False).locked():
        told = sync_runs(tmp_path / "runs", uri=uri)
        status = {p.folder: p.status for p in told if not p.problems}
        assert status.pop(done.path) == "FINISHED" and status.pop(dead.path) == "KILLED" and list(status.values()) == ["RUNNING"]
        assert [p.folder for p in told if p.problems] == [broken.path]
        assert [p.folder for p in sync_runs(tmp_path / "runs", uri=uri)] == [broken.path]
    assert sorted(runs(uri)["status"]) == ["FINISHED", "KILLED", "RUNNING"]
    with Journal(dead.journal) as journal:
        journal.start(dead.read_job())
        journal.end("FINISHED")
    assert "FINISHED" in [p.status for p in sync_runs(tmp_path / "runs", uri=uri)]


def test_a_sweeps_experiment_introduces_itself(written: Callable[..., RunDir], uri: str) -> None:
    folder = written(kind="summary", tags={"mlflow.note.content": "Which?", "sweep.tuned": "optimizer.lr"}, experiment="which-0")
    run = replay_run(folder, uri=uri).mlflow_id
    experiment = open_client(uri).get_experiment_by_name("which-0")
    assert experiment is not None
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert experiment.tags["mlflow.note.content"].endswith("Which?")
    assert f"(#/experiments/{experiment.experiment_id}/runs/{run}/artifacts/report/index.html)" in experiment.tags["mlflow.note.content"]
    view = json.loads(experiment.tags["mlflow.sharedViewState.sweep"])
    assert "params.`optimizer.lr`" in view["selectedColumns"]
