"""A command that is printed leads to the same thing when it is typed again."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from bakeoff.commands.main import main
from bakeoff.config.targets import TRUST_VARIABLE, trust_word
from bakeoff.run_files.run_dir import RunDir, RunManifest, new_run_id
from bakeoff.sweep.plan import make_plan
from bakeoff.tracking.client import default_uri
from bakeoff.training.run_lifecycle import way_back


def test_the_line_of_a_plan_plans_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "my conf" / "optimizer"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text("_target_: torch.optim.SGD\nlr: 0.1\nspace: {lr: {low: 0.001, high: 1, log: true}}\n", encoding="utf-8")
    (own.parent / "sweeps").mkdir()
    sheet = "question: Which?\nmetric: val/accuracy\nfactors: {optimizer: [mine, adam]}\ntune: {optimizer.lr: space}\n"
    (own.parent / "sweeps" / "own.yaml").write_text(sheet, encoding="utf-8")
    plan = make_plan("own", overrides=["budget.trials=3", "trust=[json]"], config_dir="my conf")
    words = shlex.split(plan.command)
    assert words[:2] == ["bakeoff", "sweep"] and words[3:5] == ["--config-dir", "my conf"]
    again = make_plan(words[2], overrides=words[5:], config_dir=words[4])
    assert again.hash == plan.hash and again.trust == ("json",)


def test_the_way_back_names_the_trusted_modules_the_store_and_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(TRUST_VARIABLE, raising=False)
    assert trust_word() == ""
    manifest = RunManifest(new_run_id(), "vgg11 adam", "train", tracking_uri=default_uri(tmp_path))
    plain = RunDir.create(Path("runs"), config_text="seed: 1\n", job=manifest)
    assert way_back(plain) == f"bakeoff train resume={manifest.id} continues it"
    monkeypatch.setenv(TRUST_VARIABLE, "json,my.nets")
    elsewhere = RunDir.create(tmp_path / "my runs", config_text="seed: 1\n", job=manifest)
    words = shlex.split(way_back(elsewhere).removesuffix(" continues it"))
    assert words[3:] == [f"tracking.folder={tmp_path / 'my runs'}", "trust=[json,my.nets]"]
    monkeypatch.setenv(TRUST_VARIABLE, "json")
    words = shlex.split(way_back(elsewhere).removesuffix(" continues it"))
    assert main(words[1:]) == 2 and "config.yaml: " in capsys.readouterr().err, "the folder is found, whose config is none"


def test_git_ignores_what_the_commands_leave_in_a_checkout(tmp_path: Path) -> None:
    ignored = Path(__file__).resolve().parents[2] / ".gitignore"
    (tmp_path / ".gitignore").write_bytes(ignored.read_bytes())
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    left = ["mlflow.db", ".mlflow.db.lock", ".mlflow.db.sync", "mlartifacts/1/x", "runs/a/x", "reports/b/x", "pictures/c.html", "data/x"]
    answer = subprocess.run(["git", "-C", str(tmp_path), "check-ignore", *left], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == left
