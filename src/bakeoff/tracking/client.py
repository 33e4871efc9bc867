"""The way into a tracking store: its address, its schema, a client with short patience, and errors of one line without secrets."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import secrets
import socket
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from bakeoff.errors import BakeoffError, StoreError, join_choices, redact
from bakeoff.run_files.file_locks import hold_lock
from bakeoff.tracking import sqlite_schema

if TYPE_CHECKING:
    from mlflow import MlflowClient

ARTIFACTS = "mlartifacts"
ID_TAG = "bakeoff.id"
"""The tag under which the store keeps a run's id."""
PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
LOCAL_AND_CLOUD = ("", "file", "s3", "gs", "wasbs", "abfss")
"""Schemes of artifact addresses that are read with no password or token of a tracking server."""
SQLITE_HEADER = b"SQLite format 3\0"
#: Seconds that a server has to take a connection before it counts as away.
PATIENCE = 4.0
#: Seconds that another program has to finish a store that it is making.
COMPLETION = 30.0
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    # MLflow's own patience is about four minutes a call; whoever waits for a store here has a journal to come back to.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
STORE_ERRORS = {"mlflow.exceptions": "MlflowException", "sqlalchemy.exc": "SQLAlchemyError", "requests": "RequestException"}
_INODES: dict[str, int] = {}
"""The files behind the addresses of SQLite stores that this process has opened."""
_INCOMPLETE = "tracking.uri={}: the file is no complete MLflow store (damaged, or its making was interrupted): move it away"
ON_FIRST_CLIENT: list[Callable[[], object]] = []
"""Called once, when this process has loaded MLflow's client for the first time."""
URI_VARIABLE = "BAKEOFF_TRACKING_URI"
"""Environment variable that passes the store's address, which may hold a password, to child processes."""


def default_uri(cwd: Path) -> str:
    """Return the address of the SQLite store that a plain `mlflow ui` in `cwd` opens, too."""
    return f"sqlite:///{Path(cwd).absolute()}/mlflow.db"


def usable_uri(uri: str | None) -> str:
    """Return the store's address by that of a config, whose file holds it without its password; None: the default one."""
    return (os.environ.get(URI_VARIABLE, uri) if "***" in uri else uri) if uri else default_uri(Path.cwd())


def pass_on_uri(uri: str) -> None:
    """Let future child processes have the store's address with its password, which no file and no command line may hold."""
    os.environ[URI_VARIABLE] = uri


def sqlite_path(uri: str) -> Path | None:
    """Return the absolute path of an SQLite store's file; None for other stores."""
    return Path(uri.removeprefix("sqlite:///")).absolute() if uri.startswith("sqlite:///") else None


def absolute_uri(uri: str) -> str:
    """Return an address that means the same in every working folder."""
    file = sqlite_path(uri)
    return f"sqlite:///{file}" if file else uri


def artifact_root(uri: str) -> Path | None:
    """Return where artifacts of new experiments go: beside an SQLite file; None where a server decides."""
    if uri.startswith(("http://", "https://")):
        return None
    file = sqlite_path(uri)
    return (file.parent if file else Path.cwd()) / ARTIFACTS


def local_path(address: str) -> Path | None:
    """Return the folder of artifacts at an address; None where it is not on this machine."""
    if address.startswith("file:"):
        return Path(url2pathname(urlsplit(address).path))
    return None if urlsplit(address).scheme else Path(address)


def quiet_mlflow() -> None:
    """Set MLflow's telemetry, log chatter and long retries off in this process; values that the user has set stay."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    for name in ("mlflow", "alembic", "urllib3.connectionpool"):
        logging.getLogger(name).setLevel(logging.ERROR if name.startswith("urllib3") else logging.WARNING)


def open_client(uri: str, *, create: bool = False) -> MlflowClient:
    """Open a store.

    Args:
        uri: Its address.
        create: Whether a fresh store gets its schema.

    Returns:
        MLflow's client of it.

    Raises:
        StoreError: It is away or not there.
    """
    if create:
        ensure_schema(uri)
    else:
        check_reachable(uri)
    quiet_mlflow()
    with store_errors(uri):
        from mlflow import MlflowClient

        while ON_FIRST_CLIENT:
            ON_FIRST_CLIENT.pop()()
        _leave_replaced_file(uri)
        return MlflowClient(uri)


def _leave_replaced_file(uri: str) -> None:
    """MLflow keeps its connections: one to an SQLite file that was deleted meanwhile would go on with the file that is gone."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    file = sqlite_path(uri)
    if file is not None:
        inode = file.stat().st_ino
        if _INODES.setdefault(uri, inode) != inode and uri in SqlAlchemyStore._engine_map:
            SqlAlchemyStore._engine_map[uri].dispose()
        _INODES[uri] = inode


def check_usable(uri: str) -> None:
    """Check before a training what no waiting mends: the kind of address, the driver of a database, the right to write an SQLite file.

    Args:
        uri: The store's address, which need not answer now.

    Raises:
        StoreError: The store can never take the training's results.
    """
    file, shown = sqlite_path(uri), f"tracking.uri={redact(uri)}"
    if file is not None:
        _check_writable(file, shown)
        return
    try:
        address = urlsplit(uri)
        scheme, has_place = address.scheme, bool(address.hostname) and address.port != 0
    except ValueError as error:
        raise StoreError(f"{shown}: {error}") from None
    if scheme.partition("+")[0] not in PORTS or not has_place:
        raise StoreError(f"{shown}: expected sqlite:///FILE, http(s)://HOST:PORT or a database address")
    if scheme in ("http", "https"):
        return
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    try:
        make_url(uri).get_dialect().import_dbapi()
    except ImportError as error:
        raise StoreError(f"{shown}: needs the Python package {error.name or scheme}, which is not installed") from error
    except (ArgumentError, NoSuchModuleError) as error:
        raise StoreError(f"{shown}: {redact(str(error))}") from error


def _check_writable(file: Path, shown: str) -> None:
    """Check that an SQLite file, which need not be there, is a database that can be written."""
    if file.name == ":memory:" or "?" in file.name:
        raise StoreError(f"{shown}: must be the path of a file, as in sqlite:///mlflow.db")
    try:
        if not file.parent.is_dir():
            raise StoreError(f"{shown}: there is no folder {file.parent}")
        # SQLite makes files of its own beside the database.
        for path in (file.parent, *([file] if file.exists() else [])):
            if not os.access(path, os.W_OK):
                raise StoreError(f"{shown}: {path} cannot be written")
        if file.is_dir():
            raise StoreError(f"{shown}: {file} is a folder")
        if file.exists():
            with open(file, "rb") as content:
                if content.read(len(SQLITE_HEADER)) not in (b"", SQLITE_HEADER):
                    raise StoreError(f"{shown}: {file} is no SQLite database")
    except (OSError, ValueError) as error:
        raise StoreError(f"{shown}: {error}") from None


def check_reachable(uri: str) -> None:
    """Check that a store answers; it is not made.

    Args:
        uri: Its address.

    Raises:
        StoreError: It does not answer within seconds.
    """
    file = sqlite_path(uri)
    if file is not None:
        if not file.is_file():
            raise StoreError(f"tracking.uri={redact(uri)}: there is no such file (nothing has been trained here yet, or it lies elsewhere)")
        if not _complete(file):
            raise StoreError(_INCOMPLETE.format(redact(uri)))
        return
    address = urlsplit(uri)
    scheme = address.scheme.partition("+")[0]
    if scheme not in PORTS or not address.hostname:
        raise StoreError(f"tracking.uri={redact(uri)}: expected sqlite:///FILE, http(s)://HOST:PORT or a database address")
    try:
        socket.create_connection((address.hostname, address.port or PORTS[scheme]), timeout=PATIENCE).close()
    except OSError as error:
        raise StoreError(f"tracking.uri={redact(uri)}: the store does not answer: {error.strerror or error}") from error


def check_artifact_address(uri: str, address: str) -> None:
    """Refuse artifacts on a server other than the configured one, which would get the user's passwords and tokens.

    Args:
        uri: The store.
        address: Where it says that a run's artifacts are.

    Raises:
        StoreError: The address is on another server, or of a kind that is not read here.
    """
    server, place = urlsplit(uri), urlsplit(address)
    own = (server.hostname, server.port or PORTS.get(server.scheme)) if server.scheme in ("http", "https") else None
    if place.scheme in LOCAL_AND_CLOUD or (place.scheme == "mlflow-artifacts" and own and not place.netloc):
        return
    if place.scheme not in ("http", "https", "mlflow-artifacts"):
        raise StoreError(
            f"artifacts at {redact(address)}: cannot be read; the store {redact(uri)} may keep them in a folder, in a cloud's storage "
            f"({join_choices(LOCAL_AND_CLOUD[2:])}) or on the tracking server"
        )
    if (place.hostname, place.port or PORTS.get(place.scheme, own and own[1])) != own:
        raise StoreError(f"artifacts at {redact(address)}: are not on the server of tracking.uri={redact(uri)}, the only one that is asked")


@contextlib.contextmanager
def store_errors(uri: str) -> Iterator[None]:
    """Turn what a store or its client raises in the block into a `StoreError` of one line without secrets."""
    try:
        yield
    except Exception as error:
        # A library that is not loaded has raised nothing, and loading MLflow takes a second.
        known = [getattr(sys.modules[module], name) for module, name in STORE_ERRORS.items() if module in sys.modules]
        if isinstance(error, BakeoffError) or not isinstance(error, (OSError, sqlite3.Error, *known)):
            raise
        message = redact(str(error).replace(uri, redact(uri))).strip() or type(error).__name__
        raise StoreError(f"tracking.uri={redact(uri)}: {message.splitlines()[0][:400]}") from error


def ensure_schema(uri: str) -> None:
    """Make a fresh store ready, safely against other processes that do the same.

    MLflow's migrations race on a fresh database and leave it unusable; so they run under a lock, and for SQLite in a file of another
    name, which is given its own name when it is complete.

    Args:
        uri: The store's address.

    Raises:
        StoreError: It cannot be made.
    """
    file = sqlite_path(uri)
    if file is None:
        check_reachable(uri)
        if artifact_root(uri) is None:
            return
    elif file.is_file() and _complete(file):
        return
    quiet_mlflow()
    name = hashlib.sha256((str(file) if file else redact(uri)).encode()).hexdigest()[:16]
    lock = file.with_name(f".{file.name}.lock") if file else Path(tempfile.gettempdir()) / f"bakeoff-{name}.lock"
    try:
        with hold_lock(lock, timeout=300), store_errors(uri):
            if file is None:
                from mlflow import MlflowClient

                MlflowClient(uri).search_experiments(max_results=1)
            elif not file.exists():
                _make_sqlite(file)
            elif not _wait_complete(file):
                raise StoreError(_INCOMPLETE.format(redact(uri)))
    except OSError as error:
        raise StoreError(f"tracking.uri={redact(uri)}: the store cannot be made: {error}") from error


def _make_sqlite(file: Path) -> None:
    draft = file.with_name(f".{file.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        if sqlite_schema.installed_schemas() == {sqlite_schema.SCHEMA}:
            sqlite_schema.make_store(draft, artifact_root=file.parent / ARTIFACTS)
        else:
            _make_by_mlflow(draft, artifact_root=file.parent / ARTIFACTS)
        # A link fails where another program has made the file meanwhile; a rename would throw that one away.
        os.link(draft, file)
    except FileExistsError:
        _wait_complete(file)
    finally:
        for rest in file.parent.glob(f"{draft.name}*"):
            rest.unlink(missing_ok=True)


def _make_by_mlflow(file: Path, *, artifact_root: Path) -> None:
    # MLflow's public client would make the schema, too, but keep its connections open and its artifacts in the working folder.
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore(f"sqlite:///{file}", str(artifact_root))  # type: ignore[no-untyped-call]
    store.engine.dispose()
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _wait_complete(file: Path) -> bool:
    """Another program (`mlflow ui`, say) may be making the file at this moment."""
    until = time.monotonic() + COMPLETION
    while not _complete(file):
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
    return True


def _complete(file: Path) -> bool:
    """MLflow's last act on a fresh database is its first experiment."""
    try:
        with contextlib.closing(sqlite3.connect(f"{file.as_uri()}?mode=rw", uri=True, timeout=5)) as database:
            version = database.execute("SELECT version_num FROM alembic_version").fetchone()
            return version is not None and database.execute("SELECT 1 FROM experiments LIMIT 1").fetchone() is not None
    except sqlite3.OperationalError as error:
        # Locked for longer than the timeout means that somebody works with it; anything else is a missing table.
        return "locked" in str(error)
    except sqlite3.DatabaseError:
        return False
