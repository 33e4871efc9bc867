"""The password of the store's address is in no file, no tag, no page, no message and no command line; the address is the user's."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen

import psutil
import pytest

from bakeoff.config.compose import compose, compose_config
from bakeoff.errors import BakeoffError, redact, redact_text
from bakeoff.run_files.run_dir import RunDir
from bakeoff.sweep.plan import make_plan
from bakeoff.sweep.sweep_dir import Summary
from bakeoff.tracking.client import pass_on_uri, usable_uri
from bakeoff.tracking.ui import serve_ui
from bakeoff.training.run_lifecycle import create_run_dir

Command = Callable[..., tuple[int, str, str]]
SECRET = "hush4711"
ADDRESS = f"http://me:{SECRET}@127.0.0.1:9"


def leaks(folder: Path) -> list[str]:
    """The files below a folder that hold the secret."""
    return [str(path) for path in folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (f"postgresql://me:{SECRET}@host/db", "postgresql://***@host/db"),
        (f"postgresql://me:a/{SECRET}@host/db", "postgresql://***@host/db"),
        (f"postgresql://me:a {SECRET}@host/db", "postgresql://***@host/db"),
        (f"postgresql://me:1/{SECRET} b@host/db", "postgresql://***@host/db"),
        (f"postgresql://me:a@{SECRET}@host/db", "postgresql://***@host/db"),
        (f"tracking.uri=mysql+pymysql://me:a b/{SECRET}@host", "tracking.uri=mysql+pymysql://***@host"),
        (f"https://{SECRET}@host/a", "https://***@host/a"),
        ("http://host:5000/a", "http://host:5000/a"),
        ("sqlite:////home/me/mlflow.db", "sqlite:////home/me/mlflow.db"),
    ],
)
def test_addresses_are_shown_without_secrets(address: str, shown: str) -> None:
    assert redact(address) == shown
    assert redact(shown) == shown


@pytest.mark.parametrize(
    "name", ["password", "passwd", "pwd", "PWD", "api_key", "apikey", "access_key", "AccessKey", "token", "sslpassword"]
)
def test_secret_arguments_of_addresses_are_not_shown(name: str) -> None:
    assert redact(f"mssql://host/db?x=1&{name}=a {SECRET}&y=2") == f"mssql://host/db?x=1&{name}=***&y=2"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"cannot reach postgresql://me:{SECRET}@host/db, nor a@b", "cannot reach postgresql://***@host/db, nor a@b"),
        (f"at postgresql://me:a {SECRET}@host/db: closed", "at postgresql://***@host/db: closed"),
        (f"api_key={SECRET} is wrong", "api_key=*** is wrong"),
        ("tracking.uri=http://host:5000: no answer for a@b", "tracking.uri=http://host:5000: no answer for a@b"),
    ],
)
def test_texts_are_shown_without_secrets(text: str, shown: str) -> None:
    assert redact_text(text) == str(BakeoffError(text)) == shown


def test_a_run_folder_holds_no_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = compose([f"tracking.uri={ADDRESS}", f"tracking.folder={tmp_path}"])
    folder = create_run_dir(run)
    assert leaks(tmp_path) == []
    assert "***@127.0.0.1:9" in folder.config.read_text() and folder.read_job().tracking_uri == redact(ADDRESS)
    monkeypatch.delenv("BAKEOFF_TRACKING_URI", raising=False)
    assert usable_uri(redact(ADDRESS)) == redact(ADDRESS)
    pass_on_uri(ADDRESS)
    assert usable_uri(redact(ADDRESS)) == ADDRESS and usable_uri("sqlite:///other.db") == "sqlite:///other.db"


def test_the_folder_of_a_sweep_holds_no_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plan = make_plan("quickstart", overrides=[f"tracking.uri={ADDRESS}"])
    Summary(plan, root=tmp_path / "runs", uri=ADDRESS).end("FINISHED")
    assert leaks(tmp_path) == [] and SECRET not in plan.command
    assert plan.site.tracking.uri == ADDRESS


def test_a_grid_leaves_no_password(tmp_path: Path, bakeoff: Command, tiny: list[str]) -> None:
    _, out, err = bakeoff("train", "-m", *tiny, "seed=0", f"tracking.uri={ADDRESS}", "tracking.folder=runs")
    assert list(tmp_path.glob("runs/multirun/*/multirun.yaml")) and list(tmp_path.glob("runs/train/*/result.json")), err
    assert leaks(tmp_path) == [] and SECRET not in out + err


@pytest.mark.slow
def test_a_sweep_and_its_report_leave_no_password(
    tmp_path: Path, template: Path, bakeoff: Command, start: Callable[..., Popen[str]]
) -> None:
    server_folder = tmp_path.with_name(tmp_path.name + "-server")
    server_folder.mkdir()
    shutil.copy(template, server_folder / "mlflow.db")
    words = ["data.subset=200", "trainer.max_epochs=1", "budget.trials=1", "budget.studies=1", "confirm.seeds=2", "workers=1"]
    with serve_ui(f"sqlite:///{server_folder}/mlflow.db", port=5923) as (url, _):
        address = f"tracking.uri={url.replace('://', f'://me:{SECRET}@')}"
        sweep = start("sweep", "quickstart", *words, "optimizer=momentum,adam", address, "margin=0.5")
        lines: set[str] = set()
        while sweep.poll() is None and sweep.stdout is not None:
            for child in psutil.Process(sweep.pid).children(recursive=True) if sweep.poll() is None else ():
                try:
                    lines.add(" ".join(child.cmdline()))
                except psutil.Error:
                    continue
            time.sleep(0.5)
        out, err = sweep.communicate()
        assert sweep.returncode == 0, err
        assert lines and not [line for line in lines if SECRET in line]
        assert SECRET not in out + err
        (page,) = tmp_path.glob("reports/*/index.html")
        code, out, err = bakeoff("report", page.parent.name, address)
        assert code == 0 and SECRET not in out + err, err
        code, out, err = bakeoff("report", "--query", "tags.stage = 'confirm'", address)
        assert code == 0 and SECRET not in out + err, err
    assert leaks(tmp_path) == [] and leaks(server_folder) == []


def test_a_run_folder_does_not_choose_the_store(
    written: Callable[..., RunDir], tmp_path: Path, uri: str, template: Path, bakeoff: Command
) -> None:
    elsewhere = tmp_path / "elsewhere" / "mlflow.db"
    elsewhere.parent.mkdir()
    shutil.copy(template, elsewhere)
    written(tracking_uri=f"sqlite:///{elsewhere}")

    def count(path: Path) -> int:
        with sqlite3.connect(path) as database:
            return int(database.execute("SELECT count(*) FROM runs").fetchone()[0])

    code, _, err = bakeoff("sync")
    assert err.splitlines() == [f"bakeoff: 1 runs name the store sqlite:///{elsewhere}; bakeoff sync tracking.uri=sqlite:///{elsewhere}"]
    assert (count(elsewhere), count(tmp_path / "mlflow.db")) == (0, 0)
    code, out, err = bakeoff("sync", f"tracking.uri={uri}")
    assert code == 0 and out.startswith("1 runs of runs brought up to date"), out + err
    assert (count(elsewhere), count(tmp_path / "mlflow.db")) == (0, 1)


def test_a_resumed_run_goes_where_the_command_line_says(tmp_path: Path, template: Path, bakeoff: Command, tiny: list[str]) -> None:
    for name in ("theirs", "mine"):
        shutil.copy(template, tmp_path / f"{name}.db")
    run = compose_config([*tiny, "tracking.uri=sqlite:///theirs.db", f"tracking.folder={tmp_path / 'runs'}"]).run
    folder = create_run_dir(run)
    code, _, err = bakeoff("train", f"resume={folder.read_job().id}", "tracking.uri=sqlite:///mine.db")
    assert code == 0 and "the run was tracked in sqlite:///theirs.db, and continues in tracking.uri=sqlite:///mine.db" in err, err
    with sqlite3.connect(tmp_path / "mine.db") as mine, sqlite3.connect(tmp_path / "theirs.db") as theirs:
        assert [database.execute("SELECT count(*) FROM runs").fetchone()[0] for database in (mine, theirs)] == [1, 0]
