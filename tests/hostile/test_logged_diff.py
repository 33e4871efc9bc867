"""`reproduce --at-commit` runs no change that the user has not seen and agreed to, and no program that a repository names."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bakeoff.commands import reproduce
from bakeoff.errors import ConfigError
from bakeoff.run_files.journal import Journal
from bakeoff.run_files.provenance import describe_checkout
from bakeoff.run_files.run_dir import RunDir
from bakeoff.tracking.replay import replay_run

DIFF = "--- a/x.py\n+++ b/x.py\n@@ -0,0 +1 @@\n+evil\x1b[2J\n"


@pytest.fixture
def logged(written: Callable[..., RunDir], uri: str) -> Callable[[str], str]:
    """The id of a run in the store with a logged commit and a diff."""

    def log(commit: str) -> str:
        folder = written(end=False)
        (folder.path / "git.diff").write_text(DIFF)
        with Journal(folder.journal) as journal:
            journal.tags({"git.commit": commit, "git.dirty": "True"})
            journal.artifact("git.diff")
            journal.end("FINISHED")
        replay_run(folder, uri=uri)
        return folder.read_job().id

    return log


@pytest.fixture
def applied(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The diffs that were applied, each of which ends the command."""
    diffs: list[str] = []

    def worktree(commit: str, diff: Path | None) -> None:
        assert diff is not None
        diffs.append(diff.read_text())
        raise KeyboardInterrupt

    monkeypatch.setattr(reproduce, "worktree", worktree)
    return diffs


@pytest.mark.parametrize(("answer", "runs"), [("y", True), ("yes", True), ("", False), ("n", False), (None, False)])
def test_a_logged_diff_is_shown_and_asked_for(
    answer: str | None,
    runs: bool,
    logged: Callable[[str], str],
    uri: str,
    applied: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: answer is not None, raising=False)
    monkeypatch.setattr("builtins.input", lambda: answer)
    with pytest.raises(KeyboardInterrupt if runs else ConfigError):
        reproduce.main([logged("a" * 40), "--at-commit", f"tracking.uri={uri}"])
    shown = capsys.readouterr().err
    assert "+evil" in shown and "\x1b" not in shown
    assert applied == ([DIFF] if runs else [])


def test_a_flag_runs_a_logged_diff(logged: Callable[[str], str], uri: str, applied: list[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        reproduce.main([logged("a" * 40), "--at-commit", "--run-diff", f"tracking.uri={uri}"])
    assert applied == [DIFF]


@pytest.mark.parametrize("commit", ["--upload-pack=touch ran", "HEAD", "main", "a" * 39])
def test_a_logged_commit_is_a_hash(commit: str, logged: Callable[[str], str], uri: str, applied: list[str]) -> None:
    with pytest.raises(ConfigError, match="is not the full name of a commit"):
        reproduce.main([logged(commit), "--at-commit", "--run-diff", f"tracking.uri={uri}"])
    assert applied == []


def test_git_runs_no_program_of_the_repository(tmp_path: Path) -> None:
    top, ran = tmp_path / "top", tmp_path / "ran"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {ran}\n")
    program.chmod(0o755)

    def git(*words: str) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", *identity, *words], cwd=top, check=True, capture_output=True)

    top.mkdir()
    git("init", "-q")
    (top / "x.py").write_text("1\n")
    git("add", "x.py")
    git("commit", "-qm", "x")
    git("config", "core.fsmonitor", str(program))
    (top / ".git" / "hooks").mkdir(exist_ok=True)
    for hook in ("post-checkout", "reference-transaction", "post-index-change"):
        (top / ".git" / "hooks" / hook).symlink_to(program)
    (top / "x.py").write_text("2\n")
    description = describe_checkout(top / "x.py")
    assert description is not None and description["dirty"]
    assert reproduce.git(top, "worktree", "add", "--detach", str(tmp_path / "tree")).returncode == 0
    assert not ran.exists()
    git("status")
    assert ran.exists(), "the programs are such that git would run them"
