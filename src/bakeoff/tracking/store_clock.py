"""How long stores keep a process waiting: the clock of a writer that must leave a store which hangs, fails or crawls."""

from __future__ import annotations

import sqlite3
import threading
import time
from typing import Any

from bakeoff.tracking import client, sqlite_store

QUICK = 1.0
"""Seconds within which a server's answer counts as one."""


class StoreClock:
    """Runs from the first request that a store has not answered until one that it answers well.

    An answer of a server is good where it comes within `QUICK` seconds and is no error of the server's; an SQLite file may take as long as
    a busy machine needs.
    """

    def __init__(self) -> None:
        """Make a clock that stands still."""
        self._since: float | None = None
        self._guard = threading.Lock()

    def begin(self) -> float:
        """Start the clock, if it does not run yet, and return the time."""
        now = time.monotonic()
        with self._guard:
            self._since = now if self._since is None else self._since
        return now

    def answer(self, begun: float, *, in_time: bool = False) -> None:
        """Stop the clock, if a request begun at a time was answered soon enough (or whenever, with `in_time`)."""
        if in_time or time.monotonic() - begun < QUICK:
            with self._guard:
                self._since = None

    def waiting(self) -> float:
        """Return for how many seconds no store has answered."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since

    def watch(self) -> None:
        """Time from now on how long this process waits for a turn at an SQLite file, and what it asks by MLflow's client."""
        begin_writing = sqlite_store.begin_writing

        def timed_begin(database: sqlite3.Connection) -> None:
            begun = self.begin()
            begin_writing(database)
            self.answer(begun, in_time=True)

        sqlite_store.begin_writing = timed_begin
        client.ON_FIRST_CLIENT.append(self._watch_client)

    def _watch_client(self) -> None:
        """Time every HTTP request and every statement of a database."""
        import requests
        from sqlalchemy import Engine, Pool, event

        send = requests.Session.send

        def timed_send(session: requests.Session, /, request: requests.PreparedRequest, **options: Any) -> requests.Response:
            begun = self.begin()
            response = send(session, request, **options)
            if response.status_code < 500:
                self.answer(begun)
            return response

        requests.Session.send = timed_send  # type: ignore[assignment,method-assign]

        @event.listens_for(Engine, "do_connect")
        def connecting(*_: object) -> None:
            self.begin()

        @event.listens_for(Pool, "connect")
        def connected(*_: object) -> None:
            self.answer(time.monotonic())

        @event.listens_for(Engine, "before_cursor_execute")
        def executing(connection: Any, *_: object) -> None:
            connection.info["bakeoff.begun"] = self.begin()

        @event.listens_for(Engine, "after_cursor_execute")
        def executed(connection: Any, *_: object) -> None:
            self.answer(connection.info["bakeoff.begun"], in_time=connection.dialect.name == "sqlite")
