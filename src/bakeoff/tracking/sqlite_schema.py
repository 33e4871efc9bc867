"""The schema of a fresh SQLite store as MLflow makes it, which takes MLflow seconds, and on a busy machine many of them."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from importlib.util import find_spec
from pathlib import Path

from bakeoff.run_files.journal import now

SCHEMA = "dc11669786a5"
"""The version of MLflow's schema that is known here; any other one is left to MLflow."""
SCRIPT = Path(__file__).with_name("mlflow_schema.sql")
REVISION = re.compile(r"^(revision|down_revision)\s*(?::[^=]*)?=\s*[\"'](\w+)[\"']", re.MULTILINE)


def installed_schemas() -> set[str]:
    """Return the newest versions of the schema that the installed MLflow has, usually one; it is not imported."""
    spec = find_spec("mlflow")
    named: dict[str, set[str]] = {"revision": set(), "down_revision": set()}
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        for file in Path(place).glob("store/db_migrations/versions/*.py"):
            for name, revision in REVISION.findall(file.read_text(encoding="utf-8")):
                named[name].add(revision)
    return named["revision"] - named["down_revision"]


def make_store(file: Path, *, artifact_root: Path) -> None:
    """Make a store of the version `SCHEMA`.

    Args:
        file: Where; there is no file yet.
        artifact_root: Where the artifacts of MLflow's default experiment go.
    """
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.executescript(SCRIPT.read_text(encoding="utf-8"))
        columns = "experiment_id, name, artifact_location, lifecycle_stage, creation_time, last_update_time"
        row = ("Default", f"{artifact_root}/0", "active", now(), now())
        database.execute(f"INSERT INTO experiments ({columns}) VALUES (0, ?, ?, ?, ?, ?)", row)
        database.commit()
