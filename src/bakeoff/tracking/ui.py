"""MLflow's own pages on the store that runs are replayed into."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import IO

from bakeoff.errors import PortError, StoreError, echo, redact
from bakeoff.machine import SAFE_PATH
from bakeoff.tracking.client import SETTINGS, artifact_root, check_reachable
from bakeoff.tracking.store import experiment_id
from bakeoff.tracking.ui_tags import runs_page

READY = 90.0


def open_ui(uri: str, *, host: str = "127.0.0.1", port: int = 5000) -> None:
    """Show the store until Ctrl-C, and print the address of the newest experiment's runs and curves.

    Args:
        uri: The store. One that is a server has its own pages: only their address is printed.
        host: The interface that the pages are served on.
        port: Their port.

    Raises:
        PortError: The port is taken.
        StoreError: There is no store, or its server does not come up.
    """
    if uri.startswith(("http://", "https://")):
        check_reachable(uri)
        echo(f"{redact(uri).rstrip('/')}/{_page(uri)}")
        return
    try:
        with serve_ui(uri, host=host, port=port) as (url, process):
            echo(f"{url}/{_page(uri)}")
            code = process.wait()
            raise StoreError(f"the MLflow server of {redact(uri)} ended by itself with exit code {code}")
    except KeyboardInterrupt:
        return


@contextlib.contextmanager
def serve_ui(uri: str, *, host: str = "127.0.0.1", port: int = 5000) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run an MLflow server for the block; at its end the server and all its children are gone.

    Args:
        uri: The store.
        host: The interface to serve on.
        port: The port.

    Yields:
        The server's address and process, once it answers.

    Raises:
        PortError: The port is taken.
        StoreError: There is no store, or its server does not come up.
    """
    _check_port(host, port)
    check_reachable(uri)
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]
    # By the environment, since an address may hold a password. The job runner would be eight processes and an API without a lock.
    settings = {**SETTINGS, "MLFLOW_BACKEND_STORE_URI": uri, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    # The server reads artifacts from wherever a store says that they are: no other server gets the user's passwords and tokens.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_TRACKING_")}
    root = artifact_root(uri)
    if root is not None:
        settings["MLFLOW_ARTIFACTS_DESTINATION"] = str(root)
    with _terminable(), tempfile.TemporaryFile() as log, tempfile.TemporaryDirectory() as empty:
        # uvicorn puts a folder of its own choice first on the path: the working folder where it is not given another.
        command += ["--uvicorn-opts", f"--app-dir={empty}"]
        process = subprocess.Popen(
            command, env={**inherited, **settings, **SAFE_PATH}, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        try:
            shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
            url = f"http://{f'[{shown}]' if ':' in shown else shown}:{port}"
            wait_ready(url, process, log)
            yield url, process
        finally:
            _end(process)


def _page(uri: str) -> str:
    experiment = experiment_id(uri)
    return runs_page(experiment) if experiment else ""


def _check_port(host: str, port: int) -> None:
    if not 0 < port < 65536:
        raise PortError(f"port={port}: expected 1 to 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise PortError(f"port={port}: cannot be used on {host}: {error.strerror} (try port={port % 65535 + 1})") from error


def wait_ready(url: str, process: subprocess.Popen[bytes], log: IO[bytes]) -> None:
    """Wait until a server answers.

    Args:
        url: Its address.
        process: Its process.
        log: What it prints, for the message.

    Raises:
        StoreError: It has ended, or does not answer in time.
    """
    until = time.monotonic() + READY
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    log.seek(0)
    printed = [line for line in redact(log.read().decode(errors="replace")).splitlines() if line.strip()]
    raise StoreError(f"the MLflow server did not come up on {url}: {printed[-1] if printed else 'it said nothing'}")


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends the pages as Ctrl-C does, so that no server is left behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(process: subprocess.Popen[bytes]) -> None:
    """The server's whole session: first kindly, then for good."""
    for number, seconds in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
    process.wait()
