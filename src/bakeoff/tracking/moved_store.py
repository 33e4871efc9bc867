"""A store whose folder was moved: its database still names the old place of the artifacts, which `bakeoff sync` puts right."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from bakeoff.errors import StoreError, redact
from bakeoff.tracking.client import ARTIFACTS, sqlite_path

ADDRESSES = {"experiments": "artifact_location", "runs": "artifact_uri", "logged_models": "artifact_location"}


def is_moved(named: str, uri: str) -> bool:
    """Return whether a run names an SQLite file that is gone, while there is one at `uri`: the folder of both was moved."""
    old, new = sqlite_path(named), sqlite_path(uri)
    return old is not None and new is not None and not old.exists() and new.is_file()


def repair_artifact_addresses(uri: str) -> str:
    """Let a moved SQLite store find its artifacts, which lie beside its file, again.

    Args:
        uri: The store.

    Returns:
        The old place, where it was still named; '' where there was nothing to put right.

    Raises:
        StoreError: The file cannot be written.
    """
    file = sqlite_path(uri)
    if file is None or not file.is_file() or not (file.parent / ARTIFACTS).is_dir():
        return ""
    moved = ""
    try:
        with contextlib.closing(sqlite3.connect(file, timeout=10)) as database:
            for table, column in ADDRESSES.items():
                for (address,) in database.execute(f"SELECT DISTINCT {column} FROM {table}").fetchall():
                    old, separator, rest = (address or "").partition(f"/{ARTIFACTS}/")
                    is_url = old.startswith("file://")
                    folder = Path(url2pathname(urlsplit(old).path) if is_url else old)
                    if not separator or not folder.is_absolute() or folder == file.parent or (folder / ARTIFACTS).exists():
                        continue
                    new = f"{file.parent.as_uri() if is_url else file.parent}/{ARTIFACTS}/{rest}"
                    database.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (new, address))
                    moved = str(folder)
            database.commit()
    except sqlite3.Error as error:
        raise StoreError(f"tracking.uri={redact(uri)}: {error}") from error
    return moved
