"""Stored JSON that is nested without end, or of another shape: one line that names the file, or a line of a journal that is left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bakeoff.commands.main import main
from bakeoff.diagnostics.layer_stats import load_layer_stats
from bakeoff.errors import BakeoffError, FolderError, StoreError
from bakeoff.run_files.journal import Journal, read_journal
from bakeoff.run_files.run_dir import RunDir, RunManifest
from bakeoff.run_files.settling import settle_run
from bakeoff.run_files.stored_plan import read_stored_plan
from bakeoff.sweep.interim import LOOKS, reached
from bakeoff.sweep.plan import make_plan
from bakeoff.sweep.sweep_dir import siblings
from bakeoff.tracking import store
from bakeoff.tracking.replay import replay_run
from bakeoff.tracking.trained_weights import load_trained_weights

DEEP = '{"a": ' * 100_000
RESULTS: dict[str, Any] = {
    "a list": [],
    "no status": {"id": "a", "name": "b"},
    "another status": {"id": "a", "name": "b", "status": "FINISHED"},
    "status of a list": {"id": "a", "name": "b", "status": ["finished"]},
    "no name": {"id": "a", "status": "finished"},
    "metrics of a list": {"id": "a", "name": "b", "status": "finished", "metrics": [1]},
    "metrics of text": {"id": "a", "name": "b", "status": "finished", "metrics": {"val/loss": "low"}},
    "best of a number": {"id": "a", "name": "b", "status": "finished", "best": 3},
    "seconds of text": {"id": "a", "name": "b", "status": "finished", "seconds": "many"},
    "steps of a mapping": {"id": "a", "name": "b", "status": "finished", "steps": {}},
}
MANIFESTS: dict[str, Any] = {
    "a list": [],
    "nothing": {},
    "id of a number": {"id": 3},
    "another id": {"id": "../../../etc", "name": "b", "experiment": "c"},
    "name of a list": {"id": "0" * 12, "name": ["b"], "experiment": "c"},
    "tags of a list": {"id": "0" * 12, "name": "b", "experiment": "c", "tags": ["x"]},
    "address of a number": {"id": "0" * 12, "name": "b", "experiment": "c", "tracking_uri": 3},
    "another kind": {"id": "0" * 12, "name": "b", "experiment": "c", "kind": "own"},
}
LINES = [
    {"kind": "metrics"},
    {"kind": "metrics", "ts": 1, "step": "1", "values": {"val/loss": 1.0}},
    {"kind": "metrics", "ts": 1, "step": 1, "values": ["val/loss"]},
    {"kind": "metrics", "ts": 1, "step": 1, "values": {"val/loss": [1.0]}},
    {"kind": "metrics", "ts": 1, "step": 10**400, "values": {"val/loss": 1.0}},
    {"kind": "metrics", "ts": 1, "step": 1, "values": {"val/loss": 10**400}},
    {"kind": "metrics", "ts": None, "step": 1, "values": {"val/loss": 1.0}},
    {"kind": "params", "values": {"cpu_threads": 3}},
    {"kind": "tags", "values": None},
    {"kind": "start"},
    {"kind": "end", "ts": 1},
    {"kind": "end", "ts": 1, "status": 3, "reason": ""},
]


def one_line(error: BaseException) -> str:
    text = str(error)
    assert "\n" not in text and len(text) < 600
    return text


@pytest.mark.parametrize("text", [DEEP, *map(json.dumps, RESULTS.values())], ids=["deep", *RESULTS])
def test_a_result(text: str, written: Callable[..., RunDir], capsys: pytest.CaptureFixture[str]) -> None:
    folder = written()
    folder.result.write_text(text)
    with pytest.raises(FolderError, match=r"result\.json: ") as caught:
        folder.read_result()
    one_line(caught.value)
    assert main(["clean", f"tracking.folder={folder.path.parents[1]}"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("text", [DEEP, *map(json.dumps, MANIFESTS.values())], ids=["deep", *MANIFESTS])
def test_a_manifest(text: str) -> None:
    with pytest.raises(FolderError, match=r"^job\.json is damaged: ") as caught:
        RunManifest.from_json(text)
    one_line(caught.value)


CURSORS = {
    "deep": DEEP,
    "a list": "[]",
    "a number": '{"URI": 3}',
    "offset of text": '{"URI": {"offset": "x"}}',
    "run of a list": '{"URI": {"offset": 3, "run": [], "status": "RUNNING"}}',
    "pending of text": '{"URI": {"offset": 3, "run": "a", "status": "RUNNING", "pending": "own"}}',
}


@pytest.mark.parametrize("text", CURSORS.values(), ids=list(CURSORS))
def test_a_cursor_is_made_again(text: str, written: Callable[..., RunDir], uri: str) -> None:
    folder = written()
    folder.cursor.write_text(text.replace("URI", uri))
    assert replay_run(folder, uri=uri).status == "FINISHED"
    assert store.runs_table(uri)["status"].tolist() == ["FINISHED"]


def test_malformed_lines_of_a_journal_are_left_out(written: Callable[..., RunDir]) -> None:
    folder = written(end=False)
    good = list(read_journal(folder.journal))
    with open(folder.journal, "a", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in LINES)
        file.write(f'{{"kind": "tags", "values": {DEEP}\n')
    assert list(read_journal(folder.journal)) == good
    with Journal(folder.journal) as journal:
        journal.metrics({"val/loss": float("nan")}, step=1)
    assert list(read_journal(folder.journal))[-2]["values"] == {"val/loss": "nan"}


def test_a_malformed_last_line_settles_nothing(written: Callable[..., RunDir]) -> None:
    folder = written(end=False)
    folder.write_result({"id": "a", "name": "b", "status": "finished"})
    with open(folder.journal, "a", encoding="utf-8") as file:
        file.write('{"kind": "end"}\n')
    assert settle_run(folder) and list(read_journal(folder.journal))[-1]["status"] == "FINISHED"


DAMAGED = {"job": b"\xff", "result": DEEP.encode(), "cursor": None, "journal": None}


@pytest.mark.parametrize(("name", "content"), DAMAGED.items(), ids=list(DAMAGED))
def test_a_damaged_run_folder_keeps_no_other_from_the_store(
    name: str,
    content: bytes | None,
    written: Callable[..., RunDir],
    uri: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    damaged, whole = written(), written()
    file = getattr(damaged, name)
    file.unlink(missing_ok=True)
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    assert main(["sync"]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and str(file.relative_to(tmp_path) if name != "job" else damaged.path.relative_to(tmp_path)) in err, err
    assert whole.read_job().id in set(store.runs_table(uri)["id"])


def test_clean_removes_nothing_that_a_link_names(
    written: Callable[..., RunDir], uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder, elsewhere = written(), tmp_path / "home"
    folder.write_result({"id": "a", "name": "b", "status": "finished"})
    elsewhere.mkdir()
    (elsewhere / "last.ckpt").write_text("mine")
    folder.checkpoints.rmdir()
    folder.checkpoints.symlink_to(elsewhere)
    assert main(["sync"]) == 0 and main(["clean"]) == 0
    assert (elsewhere / "last.ckpt").exists()


def test_a_plan_and_what_lies_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.yaml").write_text("question: which?\nfactors: {optimizer: [sgd, adam]}\nmetric: val/accuracy\n")
    plan = make_plan("own.yaml")
    for name, text in {"deep": DEEP, "list": "[]", "other": '{"version": 1}'}.items():
        folder = Path("runs") / f"own-{name}"
        folder.mkdir(parents=True)
        (folder / "plan.json").write_text(text)
        with pytest.raises(StoreError, match=r"plan\.json: ") as caught:
            read_stored_plan(folder / "plan.json")
        one_line(caught.value)
        (note,) = siblings(plan, root=Path("runs"))
        assert note.startswith(f"{plan.title} is a new plan beside own-{name}: ")
        (folder / "plan.json").unlink()
    (tmp_path / LOOKS).write_text(DEEP)
    with pytest.raises(FolderError, match="damaged; it must hold what --more has queued"):
        reached(plan, folder=tmp_path)


def test_statistics_of_layers(tmp_path: Path) -> None:
    file = tmp_path / "layers.jsonl"
    good = {"step": 1, "layers": [], "more": {}}
    file.write_text("\n".join([DEEP, "[]", "3", '{"step": 1}', '{"step": "1", "layers": [], "more": {}}', json.dumps(good)]) + "\n")
    assert [stats.step for stats in load_layer_stats(file, last_step=5)] == [1]


@pytest.mark.parametrize("header", [DEEP.encode(), b"[]", b'{"a": 3}', b"\xff"], ids=["deep", "list", "number", "no text"])
def test_weights_in_the_store(header: bytes, written: Callable[..., RunDir], uri: str, tmp_path: Path) -> None:
    folder = written(end=False)
    weights = folder.path / "weights.safetensors"
    weights.write_bytes(len(header).to_bytes(8, "little") + header)
    with Journal(folder.journal) as journal:
        for name in ("config.yaml", weights.name):
            journal.artifact(name)
        journal.end("FINISHED")
    run = replay_run(folder, uri=uri).mlflow_id
    with pytest.raises(BakeoffError, match=r"weights\.safetensors in the store is damaged") as caught:
        load_trained_weights(run, root=tmp_path / "none", uri=uri)
    one_line(caught.value)
