"""`bakeoff reproduce RUN_ID`: trains a logged run again from its logged config and says whether the result is the same.

Exit code 0 for identical and within --tolerance, 1 for a run that differs from the logged one.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bakeoff.commands.arguments import parse_arguments
from bakeoff.errors import BakeoffError, ConfigError, StoreError, echo
from bakeoff.run_files.provenance import GIT

KEYS = ("tracking.uri", "tracking.folder", "tracking.experiment", "data.root", "data.download", "trust")


def main(argv: list[str]) -> int:
    """Fetch a logged run, validate it, train it again, and compare."""
    args, composed = parse_arguments("reproduce", __doc__, argv, add_flags=add_flags, keys=KEYS)
    if not args.tolerance >= 0:
        raise ConfigError(f"--tolerance={args.tolerance}: must be 0 or more")
    from bakeoff.config.targets import trust_modules
    from bakeoff.tracking.store import default_uri

    trust_modules(composed.trust)
    uri = composed.run.tracking.uri or default_uri(Path.cwd())
    if args.at_commit:
        return reproduce_at_commit(args.run, uri, argv, run_diff=args.run_diff)
    from bakeoff.builders import validate_run
    from bakeoff.training import reproduction, run_lifecycle
    from bakeoff.training.writer import catch_up

    catch_up(Path(composed.run.tracking.folder), uri=uri)
    logged = reproduction.fetch_logged_run(uri, args.run)
    site = composed.run
    # Reproductions have an experiment of their own, so that they do not mix with the runs of a sweep.
    named = {word.partition("=")[0] for word in args.overrides}
    experiment = site.tracking.experiment if "tracking.experiment" in named else "reproductions"
    tracking = site.tracking.model_copy(update={"uri": uri, "experiment": experiment})
    changes: dict[str, object] = {"tracking": tracking.model_dump(), "name": f"{logged.name} again"[:200], "trainer.progress": True}
    changes |= {key: getattr(site.data, key.removeprefix("data.")) for key in ("data.root", "data.download") if key in named}
    run = logged.run.replace(**changes)
    data = validate_run(run)
    differing = reproduction.environment_differences(logged.tags, digest=data.digest)
    for line in differing:
        echo(f"differs: {line}", err=True)
    if logged.status != "FINISHED":
        echo(f"note: the logged run is {logged.status}; what it logged is compared", err=True)
    outcome = run_lifecycle.train_run_dir(
        run_lifecycle.create_run_dir(run, kind="reproduction", tags={"reproduces": logged.id}), run, progress=True
    )
    curves = reproduction.journal_metrics(outcome.run_dir / "journal.jsonl")
    comparison = reproduction.compare_metrics(logged.curves, curves, tolerance=args.tolerance)
    sentence = comparison.describe(tolerance=args.tolerance)
    lagging = log_verdict(outcome.run_dir, sentence, uri=uri)
    if args.json:
        tree = {
            "run": outcome.result.id,
            "reproduces": logged.id,
            "verdict": comparison.kind,
            "sentence": sentence,
            "step": comparison.step,
            "metric": comparison.metric,
            "worst": comparison.max_difference,
            "compared": comparison.compared,
            "differs": differing,
            "lagging": lagging,
        }
        print(json.dumps(tree))
    else:
        echo(sentence)
        echo(f"  logged  {logged.id}  {logged.name}")
        echo(f"  again   {outcome.result.id}  {outcome.run_dir}")
    return 1 if comparison.kind == "different" else 0


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the run and how strictly to compare."""
    parser.add_argument("run", metavar="RUN_ID", help="id of a logged run, ours or MLflow's")
    parser.add_argument("--tolerance", type=float, default=0.0, help="largest absolute difference of a value that still counts as the same")
    parser.add_argument("--at-commit", action="store_true", help="use the code of the logged commit and diff, in a git worktree")
    parser.add_argument("--run-diff", action="store_true", help="with --at-commit: run the logged diff without asking")


def log_verdict(folder: Path, sentence: str, *, uri: str) -> bool:
    """Tag the new run with the verdict; return whether the store lags behind it."""
    from bakeoff.run_files.journal import Journal
    from bakeoff.run_files.run_dir import RunDir
    from bakeoff.tracking.replay import replay_run

    with Journal(RunDir(folder).journal) as journal:
        journal.tags({"reproduction": sentence})
    try:
        replay_run(RunDir(folder), uri=uri)
    except StoreError as error:
        echo(f"bakeoff: {error}; bakeoff sync brings the verdict to the store", err=True)
        return True
    return False


def reproduce_at_commit(run_id: str, uri: str, argv: list[str], *, run_diff: bool) -> int:
    """Run the same command with the code of the logged commit; return its exit code. `run_diff`: do not ask before the diff is run."""
    from bakeoff.tracking import store

    stored = store.resolve_run(uri, run_id)
    commit = stored.data.tags.get("git.commit")
    if commit is None:
        raise ConfigError(f"--at-commit: run {run_id} was trained by an installed package, not from a checkout; leave --at-commit out")
    if not re.fullmatch(r"[0-9a-f]{40,64}", commit):
        raise ConfigError(f"--at-commit: {commit[:80]}: is not the full name of a commit, which has 40 hexadecimal digits or more")
    if stored.data.tags.get("git.diff_cut") == "True":
        raise ConfigError(f"--at-commit: the changes on top of {commit[:12]} were too large to be logged in full")
    diff = None
    if stored.data.tags.get("git.dirty") == "True":
        try:
            diff = store.download_artifact(uri, stored.info.run_id, "git.diff")
        except BakeoffError:
            echo("note: the logged checkout had files that no commit knew, and no other changes", err=True)
    if diff is not None:
        confirm_diff(diff, run_id, run_diff=run_diff)
    with worktree(commit, diff) as top:
        words = [word for word in argv if word not in ("--at-commit", "--run-diff")]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(top / "src"), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)}
        # By a pipe, since the address of the store may hold a password.
        code = "import json, sys; from bakeoff.commands.main import main; sys.exit(main(json.loads(sys.stdin.readline())))"
        line = json.dumps(["reproduce", *words]) + "\n"
        return subprocess.run([sys.executable, "-P", "-c", code], env=env, input=line, text=True, check=False).returncode


def confirm_diff(diff: Path, run_id: str, *, run_diff: bool) -> None:
    """Show the changes that a store holds, whose code would run here, and ask for them to be run.

    Raises:
        ConfigError: The user said no, or cannot be asked and has not said yes by --run-diff.
    """
    echo(diff.read_text(encoding="utf-8", errors="replace"), err=True)
    if run_diff:
        return
    question = f"The changes above are logged with run {run_id}. Run this code? [y/N] "
    if not sys.stdin.isatty():
        raise ConfigError("--at-commit: the changes above would be run; read them, and add --run-diff")
    print(question, end="", file=sys.stderr, flush=True)
    if input().strip().lower() not in ("y", "yes"):
        raise ConfigError("--at-commit: the logged changes were not run")


@contextmanager
def worktree(commit: str, diff: Path | None) -> Iterator[Path]:
    """Make a git worktree of `commit` with `diff` applied, and remove it at the end; `ConfigError` where there is no such commit."""
    top = Path(__file__).resolve().parents[3]
    if git(top, "cat-file", "-e", f"{commit}^{{commit}}").returncode:
        raise ConfigError(f"--at-commit: {top} is no checkout that has commit {commit[:12]}")
    with tempfile.TemporaryDirectory(prefix="bakeoff-") as folder:
        place = Path(folder) / "tree"
        try:
            added = git(top, "worktree", "add", "--detach", str(place), commit)
            if added.returncode:
                raise ConfigError(f"--at-commit: git worktree add failed: {added.stderr.strip()}")
            if diff is not None:
                applied = git(place, "apply", "--whitespace=nowarn", str(diff.resolve()))
                if applied.returncode:
                    raise ConfigError(f"--at-commit: the logged changes do not apply to {commit[:12]}: {applied.stderr.strip()}")
            yield place
        finally:
            git(top, "worktree", "remove", "--force", str(place))


def git(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run one git command and capture its output."""
    return subprocess.run([*GIT, *words], cwd=folder, capture_output=True, text=True, check=False)
