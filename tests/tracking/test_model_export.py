from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from bakeoff.run_files.journal import Journal
from bakeoff.run_files.run_dir import EXPORTED_WEIGHTS, RunDir
from bakeoff.tracking import model_export, store
from bakeoff.tracking.client import open_client
from bakeoff.tracking.replay import is_behind, replay_run
from bakeoff.training.model_files import write_model_files


def trained_net(run_dir: Path) -> Any:
    import torch
    from torch import nn

    assert (run_dir / "config.yaml").is_file()
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 10)).eval()


def write_net(run_dir: Path) -> None:
    write_model_files(RunDir(run_dir), trained_net(run_dir), input_shape=(1, 8, 8))


def torn_net(run_dir: Path) -> NoReturn:
    raise RuntimeError("checkpoint is torn")


@pytest.fixture
def exporting(written: Callable[..., RunDir]) -> Callable[[], RunDir]:
    def make() -> RunDir:
        folder = written(steps=2, end=False)
        with Journal(folder.journal) as journal:
            journal.model(input_shape=(1, 8, 8), classes=10, requirements=["torch", "bakeoff"])
            journal.end("FINISHED")
        return folder

    return make


def test_model_of_any_batch_without_pickles(exporting: Callable[[], RunDir], uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from safetensors.torch import load_file

    folder = exporting()
    waiting = replay_run(folder, uri=uri)
    assert (waiting.status, waiting.pending) == ("FINISHED", 1)
    assert is_behind(folder, uri=uri) and not is_behind(folder, uri=uri, models=False)
    progress = replay_run(folder, uri=uri, write_model=write_net)
    assert (progress.pending, progress.problems) == (0, []) and not is_behind(folder, uri=uri)
    client = open_client(uri)
    run = client.get_run(progress.mlflow_id)
    assert run.outputs is not None
    (output,) = run.outputs.model_outputs
    assert run.data.tags[model_export.DONE_TAG] == output.model_id and run.info.status == "FINISHED"
    model = client.get_logged_model(output.model_id)
    assert (model.experiment_id, str(model.status), model.name) == (run.info.experiment_id, "READY", "model")

    import mlflow.pyfunc
    import mlflow.pytorch

    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    x = torch.randn(7, 1, 8, 8)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with torch.no_grad():
        net = trained_net(folder.path)
        loaded = mlflow.pytorch.load_model(f"models:/{output.model_id}")
        for n in (1, 7):
            torch.testing.assert_close(loaded(x[:n]), net(x[:n]), rtol=0, atol=1e-6)
        served = mlflow.pyfunc.load_model(f"models:/{output.model_id}")
        assert served.predict(x.numpy()).shape == (7, 10)
        assert [s.shape for s in (*served.metadata.signature.inputs, *served.metadata.signature.outputs)] == [(-1, 1, 8, 8), (-1, 10)]
    weights = load_file(store.download_artifact(uri, progress.mlflow_id, EXPORTED_WEIGHTS))
    assert weights.keys() == net.state_dict().keys() and all(torch.equal(weights[k], v) for k, v in net.state_dict().items())

    folder.cursor.unlink()  # told once more, exported no second time
    assert replay_run(folder, uri=uri, write_model=write_net).pending == 0
    assert len(client.search_logged_models([run.info.experiment_id])) == 1


def test_half_made_export_is_replaced(exporting: Callable[[], RunDir], uri: str) -> None:
    folder = exporting()
    run = replay_run(folder, uri=uri).mlflow_id
    client = open_client(uri)
    experiment = client.get_run(run).info.experiment_id
    client.create_logged_model(experiment, name="model", source_run_id=run)  # what a kill in the middle leaves
    replay_run(folder, uri=uri, write_model=write_net)
    assert [str(m.status) for m in client.search_logged_models([experiment])] == ["READY"]


def test_net_that_cannot_be_built_is_told_and_does_not_block(exporting: Callable[[], RunDir], uri: str) -> None:
    folder = exporting()
    progress = replay_run(folder, uri=uri, write_model=torn_net)
    assert progress.pending == 0 and progress.status == "FINISHED" and "checkpoint is torn" in progress.problems[0]
    tags = open_client(uri).get_run(progress.mlflow_id).data.tags
    assert "checkpoint is torn" in tags[f"{model_export.DONE_TAG}.problem"] and model_export.DONE_TAG not in tags


def test_builder_named_by_an_earlier_journal_is_ignored(exporting: Callable[[], RunDir], uri: str) -> None:
    folder = exporting()
    lines = [json.loads(line) for line in folder.journal.read_text(encoding="utf-8").splitlines()]
    named = [{**line, "builder": "no.such.module:load"} if line["kind"] == "model" else line for line in lines]
    folder.journal.write_text("".join(json.dumps(line) + "\n" for line in named), encoding="utf-8")
    progress = replay_run(folder, uri=uri, write_model=write_net)
    assert (progress.pending, progress.problems) == (0, [])
