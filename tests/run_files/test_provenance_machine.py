from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from bakeoff.run_files import provenance as module
from bakeoff.run_files.provenance import collect_provenance, provenance_tags


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    def git(*arguments: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init", "-b", "trunk")
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "code.py").write_text("x = 1\n")
    (tmp_path / ".gitignore").write_text("env/\n")
    git("add", ".")
    git("commit", "-m", "first")
    return tmp_path


def test_clean_then_changed_checkout(checkout: Path) -> None:
    file = checkout / "src" / "code.py"
    clean = module.describe_checkout(file)
    assert clean is not None and (clean["branch"], clean["dirty"], clean["diff"], clean["untracked"]) == ("trunk", False, "", [])
    assert len(clean["commit"]) == 40
    file.write_text("x = 2\n")
    (checkout / "src" / "new file.py").write_text("")
    changed = module.describe_checkout(file)
    assert changed is not None and changed["dirty"] and changed["untracked"] == ["src/new file.py"]
    subprocess.run(["git", "checkout", "src/code.py"], cwd=checkout, check=True, capture_output=True)
    subprocess.run(["git", "apply"], cwd=checkout, check=True, input=changed["diff"].encode())
    assert file.read_text() == "x = 2\n"


def test_environment_within_somebodys_checkout_is_not_ours(checkout: Path) -> None:
    (checkout / "env").mkdir()
    installed = checkout / "env" / "code.py"
    installed.write_text("")
    assert module.describe_checkout(installed) is None


def test_long_diff_is_cut_and_says_so(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DIFF_BYTES", 100)
    (checkout / "src" / "code.py").write_text("y = 1\n" * 1000)
    found = module.describe_checkout(checkout / "src" / "code.py")
    assert found is not None and found["diff_cut"] and len(found["diff"]) == 100


def test_whole_is_json_and_short_has_no_diff() -> None:
    found = json.loads(json.dumps(collect_provenance()))
    assert found["packages"]["torch"] and found["cores"] >= 1 and found["memory_gb"] > 0 and found["cpu"]
    tags = provenance_tags(found)
    assert all(isinstance(v, str) for v in tags.values()) and tags["version.torch"] == found["packages"]["torch"]
    assert "git.diff" not in tags and provenance_tags({**found, "git": None})["python"] == found["python"]


def test_a_worker_describes_the_code_once_for_all_of_its_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_remembered", {})
    first = collect_provenance()
    module.remember_provenance()
    monkeypatch.setattr(module, "describe_checkout", lambda file: pytest.fail("git was asked again"))
    assert collect_provenance() == first
