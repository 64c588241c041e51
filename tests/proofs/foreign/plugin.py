"""A pytest plugin for another project's tests: every application in them has our session interface.

``TOKENROTATE_FOREIGN_OUTCOMES`` names a file that is written with the outcome of each test, as JSON, and
``TOKENROTATE_FOREIGN_FOLDER`` the folder of the database. With ``TOKENROTATE_FOREIGN_CONTROL`` set, the
applications keep Flask's own sessions.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from weakref import WeakKeyDictionary

import _pytest.monkeypatch
import pytest
from flask import Flask, Response
from flask.sessions import SessionInterface

from flask_tokenrotate.clock import SystemClock
from flask_tokenrotate.errors import TokenRotateError
from flask_tokenrotate.sessions.interface import ServerSessionInterface
from flask_tokenrotate.sessions.store import SqlSessionStore
from flask_tokenrotate.storage.database.engine import Database
from flask_tokenrotate.storage.database.tables import create_tables

_outcomes: dict[str, str] = {}

if not hasattr(_pytest.monkeypatch, "notset"):
    # Flask's tests use this private name, which later versions of pytest do not have.
    _pytest.monkeypatch.notset = _pytest.monkeypatch.NOTSET  # type: ignore[attr-defined]


class OurInterface:
    """In place of `Flask.session_interface`: one interface for each application that has set none."""

    def __init__(self, store: SqlSessionStore) -> None:
        self._store = store
        self._made: WeakKeyDictionary[Flask, SessionInterface] = WeakKeyDictionary()

    def __get__(self, app: Flask, owner: type[Flask]) -> SessionInterface:
        if app not in self._made:
            self._made[app] = ServerSessionInterface(app, self._store, _error_response)
        return self._made[app]


def _error_response(error: TokenRotateError) -> Response:
    return Response(str(error), status=error.status)


def pytest_configure() -> None:
    """Set the interface, on a database of this run's own."""
    if "TOKENROTATE_FOREIGN_CONTROL" not in os.environ:
        database = Database.from_uri(f"sqlite:///{os.environ['TOKENROTATE_FOREIGN_FOLDER']}/sessions.sqlite3")
        create_tables(database.engine())
        Flask.session_interface = OurInterface(SqlSessionStore(database, SystemClock()))  # type: ignore[assignment]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note what a test came to; a failure in its setup or teardown counts."""
    if report.when == "call" or report.outcome != "passed":
        _outcomes[report.nodeid] = report.outcome


def pytest_sessionfinish() -> None:
    """Write the outcomes."""
    Path(os.environ["TOKENROTATE_FOREIGN_OUTCOMES"]).write_text(json.dumps(_outcomes))
