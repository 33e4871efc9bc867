"""From journals written by hand through a real MLflow store to the report, and the shell command on top."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bakeoff.commands import main as shell
from bakeoff.errors import NotFoundError, StoreError
from bakeoff.report import build_report
from bakeoff.report.results import load_sweep
from bakeoff.report.verdict import compute_verdict
from bakeoff.run_files.journal import Journal
from bakeoff.run_files.predictions import PREDICTIONS_FILE, write_predictions
from bakeoff.run_files.run_dir import RunDir, RunManifest
from bakeoff.tracking.client import default_uri, ensure_schema
from bakeoff.tracking.replay import replay_run

SEEDS = 3


def confirm_predictions(arm: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """What a confirm run predicts: the run of adam with the last seed has kept nothing, that of sgd was tested on other images."""
    target = np.arange(20_000, dtype=np.uint32).astype(np.uint8) % 10
    difficulty = np.random.default_rng(0).random(len(target)) + np.random.default_rng([seed, len(arm)]).normal(0, 0.01, len(target))
    predicted = np.where(difficulty < {"sgd": 0.79, "adam": 0.89}[arm], target, (target + 1) % 10).astype(np.uint8)
    if seed == 1000 + SEEDS:
        return (predicted[:0], target[:0]) if arm == "adam" else (predicted, target[::-1])
    return predicted, target


def record(root: Path, job: RunManifest, *, lr: float, value: float, end: str = "FINISHED", diverged: bool = False) -> None:
    """One run, as training writes it."""
    folder = RunDir.create(root, config_text="seed: 0\n", job=job)
    with Journal(folder.journal) as journal:
        journal.start(job)
        journal.params({"optimizer": job.tags["arm"], "optimizer.lr": lr, "seed": job.tags["seed"], "parameters": 1234})
        journal.tags({"git.commit": "abc", "version.torch": "2.14.1", "bakeoff.folder": "/somewhere"})
        for epoch in range(1, 4):
            journal.metrics({"val/accuracy": value - 0.1 / epoch + 0.1 / 3, "train/loss": 1 / epoch}, step=10 * epoch)
        if end == "FINISHED":
            if job.kind == "confirm":
                journal.metrics({"test/accuracy": value - 0.01}, step=30)
                predicted, target = confirm_predictions(job.tags["arm"], int(job.tags["seed"]))
                if predicted.size:
                    write_predictions(folder.path / PREDICTIONS_FILE, predicted=predicted, target=target)
                    journal.artifact(PREDICTIONS_FILE)
            journal.tags({"diverged": str(diverged).lower()})
            journal.metrics({"seconds": 2.0}, step=30)
        journal.end(end, reason="" if end == "FINISHED" else "ValueError: no")  # type: ignore[arg-type]
    replay_run(folder, uri=folder.read_job().tracking_uri)


def open_summary(root: Path, uri: str, tree: dict[str, Any], *, ident: str) -> None:
    job = RunManifest(
        id=ident, name="summary", experiment=f"{tree['name']}-{tree['hash'][:8]}", kind="summary",
        tags={"sweep": tree["name"], "sweep.hash": tree["hash"]}, tracking_uri=uri,
    )  # fmt: skip
    folder = RunDir.create(root, config_text="", job=job)
    (folder.path / "plan.json").write_text(json.dumps(tree))
    with Journal(folder.journal) as journal:
        journal.start(job)
        journal.artifact("plan.json")
    replay_run(folder, uri=folder.read_job().tracking_uri)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, plan_of: Callable[..., dict[str, Any]]) -> Path:
    """A working folder with a store that holds the sweep `duel` (two arms, one failed and one diverged trial) and an older plan of it."""
    folder = tmp_path_factory.mktemp("store")
    uri, root = default_uri(folder), folder / "runs"
    ensure_schema(uri)
    older = {**plan_of(["sgd", "adam"], trials=1, seeds=1), "name": "duel", "hash": "b" * 64}
    open_summary(root, uri, older, ident="b" * 12)
    other = {**plan_of(["sgd", "adam"], trials=1, seeds=1), "name": "rematch", "hash": "c" * 64}
    open_summary(root, uri, other, ident="c" * 12)
    stray = {"sweep": "rematch", "sweep.hash": "d" * 64, "arm": "sgd", "block": "all", "seed": "1001", "stage": "confirm"}
    record(
        root,
        RunManifest(id="d" * 12, name="stray", experiment="rematch-cccccccc", kind="confirm", tags=stray, tracking_uri=uri),
        lr=0.7,
        value=0.5,
    )
    tree = {**plan_of(["sgd", "adam"], trials=3, seeds=SEEDS), "name": "duel", "hash": "a" * 64}
    open_summary(root, uri, tree, ident="a" * 12)
    for a, arm in enumerate(["sgd", "adam"]):
        for i in range(3 + SEEDS):
            tune = i < 3
            seed = 0 if tune else 1001 + i - 3
            tags = {"sweep": "duel", "sweep.hash": "a" * 64, "arm": arm, "block": "all", "seed": str(seed)}
            tags["stage"] = "tune" if tune else "confirm"
            job = RunManifest(
                id=f"{a:06x}{i:06x}", name=f"{arm}-{i}", experiment="duel-aaaaaaaa", kind="trial" if tune else "confirm",
                tags=tags | ({"point": str(i)} if tune else {}), tracking_uri=uri,
            )  # fmt: skip
            bad = tune and a == 0
            value = 0.8 + 0.1 * a + 0.001 * (i * (a + 1) % 4)
            end = "FAILED" if bad and i == 1 else "FINISHED"
            record(root, job, lr=[0.9, 0.01, 0.1][i % 3], value=value, end=end, diverged=bad and i == 2)
    return folder


def test_runs_are_read_as_they_were(store: Path) -> None:
    made = load_sweep("duel", uri=default_uri(store))
    assert made.title == "duel-aaaaaaaa"
    assert made.score_metric == "test/accuracy"
    assert made.runs.groupby(["arm", "stage"]).size().to_dict() == {(a, s): 3 for a in ("sgd", "adam") for s in ("tune", "confirm")}
    sgd = made.runs[(made.runs["arm"] == "sgd") & (made.runs["stage"] == "tune")]
    assert list(sgd["state"]) == ["finished", "failed", "diverged"]
    assert sgd["score"].isna().tolist() == [False, True, False]
    assert list(sgd["optimizer.lr"]) == [0.9, 0.01, 0.1]
    assert sgd["reason"].iloc[1] == "ValueError: no"
    best = made.best_trial("sgd", "all")
    assert best is not None
    assert best["optimizer.lr"] == 0.9
    assert set(made.scores()["all"]["adam"]) == {1001, 1002, 1003}
    assert made.scores()["all"]["adam"][1001] == pytest.approx(0.9 + 0.001 * (3 * 2 % 4) - 0.01)
    assert made.origin["git.commit"] == ("abc",)
    assert not any("folder" in key for key in made.origin)
    curve = made.curves[(made.curves["metric"] == "val/accuracy") & (made.curves["arm"] == "adam")]
    assert len(curve) == SEEDS * 3
    assert (made.runs["parameters"] == 1234).all()
    assert (made.runs.loc[made.runs["state"] == "finished", "seconds"] == 2.0).all()


def test_the_correct_test_images_of_each_confirm_run_are_read(store: Path) -> None:
    sweep = load_sweep("duel", uri=default_uri(store))
    correct = sweep.test_correct
    assert set(correct) == {"all"} and set(correct["all"]) == {"sgd", "adam"}
    for arm, runs in correct["all"].items():
        assert list(runs) == [1001, 1002], "one run has no predictions, and one was tested on other images"
        for seed, images in runs.items():
            predicted, target = confirm_predictions(arm, seed)
            assert images.dtype == np.bool_ and images.tolist() == (predicted == target).tolist()
    assert [list(runs) for runs in sweep.first_seeds(1).test_correct["all"].values()] == [[1001], [1001]]


def test_report_from_the_store_alone(store: Path, tmp_path: Path) -> None:
    report = build_report("duel", uri=default_uri(store), out=tmp_path)
    assert report.verdict.winner == "adam"
    assert "sgd: 1 of 3 tuning runs failed; they have no score." in report.verdict.caveats
    assert any(line.startswith("Edge of the space: sgd's chosen optimizer.lr is 0.9") for line in report.verdict.caveats)
    text = (tmp_path / "report.md").read_text()
    assert f"tracking.uri=sqlite:///{store}/mlflow.db" in text  # the store is not the working folder's: commands name it


def test_a_plan_is_chosen_by_hash_or_title(store: Path) -> None:
    uri = default_uri(store)
    assert load_sweep("duel", uri=uri, sweep_hash="b" * 8).title == "duel-bbbbbbbb"
    assert load_sweep("duel-bbbbbbbb", uri=uri).runs.empty
    with pytest.raises(NotFoundError, match=r"sweep duel: no plan cccccccc in the store \(there are: aaaaaaaa, bbbbbbbb\)"):
        load_sweep("duel", uri=uri, sweep_hash="c" * 8)


def test_unknown_sweep_names_the_near_miss(store: Path) -> None:
    with pytest.raises(NotFoundError, match=r"sweep deul: not in the store \(did you mean duel\?\); sweeps in the store: duel, rematch"):
        load_sweep("deul", uri=default_uri(store))


def test_command(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(store)
    assert shell.main(["report", "duel", "--json", "--out", str(tmp_path)]) == 0
    out, _ = capsys.readouterr()
    told = json.loads(out)
    assert (told["winner"], told["page"]) == ("adam", str(tmp_path / "index.html"))
    assert told["commands"]["report"] == "bakeoff report duel-aaaaaaaa"
    assert shell.main(["report", "duel"]) == 0
    out, _ = capsys.readouterr()
    assert "adam beats sgd" in out
    assert (store / "reports" / "duel-aaaaaaaa" / "index.html").is_file()
    assert shell.main(["report", "deul"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "did you mean duel?" in err


def test_one_figure_by_its_line(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(store)
    assert shell.main(["report", "duel", "--figure", "scores-all", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / f"scores-all.{ending}") for ending in ("png", "svg", "csv")]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scores-all.csv", "scores-all.png", "scores-all.svg"]
    assert shell.main(["report", "duel", "--figure", "score-all"]) == 2
    assert "did you mean scores-all?" in capsys.readouterr().err


def test_runs_by_a_query_are_grouped_by_what_differs(store: Path, tmp_path: Path) -> None:
    report = build_report(query="params.optimizer = 'adam'", uri=default_uri(store), out=tmp_path / "one")
    assert report.sweep.design.arms == ("lr=0.01", "lr=0.1", "lr=0.9")  # confirm runs that differ in nothing else
    report = build_report(query="tags.kind = 'confirm' and params.optimizer.lr = '0.1'", uri=default_uri(store), out=tmp_path / "two")
    assert report.sweep.design.arms == ("adam", "sgd")
    assert (report.verdict.grade, report.verdict.winner) == ("exploratory", None)
    assert {d.grade for d in report.verdict.differences} <= {"exploratory"}
    assert report.sweep.score_metric == "test/accuracy"
    assert "--query" in report.plain()["commands"]["report"]
    with pytest.raises(NotFoundError, match="selects no run that trained"):
        build_report(query="params.optimizer = 'lion'", uri=default_uri(store), out=tmp_path / "three")
    with pytest.raises(StoreError):
        build_report(query="this is no filter", uri=default_uri(store), out=tmp_path / "four")


def test_several_sweeps_are_exploratory(store: Path, tmp_path: Path) -> None:
    report = build_report(["duel-aaaaaaaa", "rematch"], uri=default_uri(store), out=tmp_path)
    assert report.sweep.design.arms == ("sgd (duel-aaaaaaaa)", "adam (duel-aaaaaaaa)", "sgd (rematch-cccccccc)", "adam (rematch-cccccccc)")
    assert (report.verdict.grade, report.verdict.winner) == ("exploratory", None)
    assert "6 runs with a score in 4 groups" in report.verdict.headline
    page = report.page.read_text(encoding="utf-8")
    assert "adam beats sgd" in page  # each sweep's own verdict stands
    assert report.plain()["commands"]["report"].startswith("bakeoff report duel-aaaaaaaa rematch-cccccccc")
    with pytest.raises(StoreError, match="stands there twice"):
        build_report(["duel", "duel-aaaaaaaa"], uri=default_uri(store), out=tmp_path)


def test_runs_off_the_plan_are_left_out_and_counted(store: Path) -> None:
    made = load_sweep("rematch", uri=default_uri(store))
    assert made.unplanned_runs == 1
    assert made.runs.empty
    assert any("1 run of this experiment is no part of the plan and is left out" in line for line in compute_verdict(made).caveats)


def test_the_command_wants_names_or_a_query(store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(store)
    assert shell.main(["report"]) == 2
    assert shell.main(["report", "duel", "--query", "params.optimizer = 'adam'"]) == 2
    assert shell.main(["report", "duel", "rematch", "--hash", "aaaaaaaa"]) == 2
    assert capsys.readouterr().err.count("\n") == 3


def test_reading_makes_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert shell.main(["report", "duel"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"name": "x"}, r"plan\.json: not a plan of this version: version: this key is missing"),
        ({"version": 2, "name": "x"}, r"plan\.json: not a plan of this version: hash: this key is missing"),
        ({"version": 3, "name": "x"}, r"plan\.json: version=3: this bakeoff reads version 2; use the one that wrote the file"),
    ],
)
def test_a_foreign_plan_is_told_in_one_line(tree: dict[str, Any], message: str) -> None:
    from bakeoff.run_files.stored_plan import parse_stored_plan

    with pytest.raises(StoreError, match=message):
        parse_stored_plan(tree)
