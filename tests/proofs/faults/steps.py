"""Stops a worker at a named step of a redemption, so that a fault is placed exactly there.

A test asks for it by a file ``halt`` that names the step and the grant. The worker that reaches the step
takes the file away, says by a file ``halted`` who it is, and goes on when the file ``go`` is
there. All this happens in the application's instance folder.
"""

from __future__ import annotations

import functools
import os
import socket
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

from flask import Response

from flask_tokenrotate.providers.endpoint import OAuthEndpoint
from flask_tokenrotate.rotation.outcomes import Overtaken, SaveOutcome
from flask_tokenrotate.rotation.tokens import Claim, Grant
from flask_tokenrotate.rotation.verdict import Verdict
from flask_tokenrotate.storage.grants import SqlGrantStore

LONGEST_HALT_SECONDS = 30.0
PROVIDER_HOST = "localhost"

HALT, HALTED, GO = "halt", "halted", "go"
NO_DNS = "no-dns"
"""A file of this name makes the provider's host name unknown to all workers."""

CUT_BEFORE, CUT_AFTER = "cut-commit-before", "cut-commit-after"
"""A file of one of these names makes SQLite's next COMMIT fail, before or after it was carried out."""


class Halts:
    """One worker's side of it; ``folder`` is shared by all workers and the test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # A redemption stays on its rotation thread, and another one may be in progress beside it.
        self._redeeming = threading.local()
        self._responded = ""

    def come_to(self, step: str, grant: str) -> None:
        """Halt here if a test asks for this step of this grant."""
        halt = self._folder / HALT
        try:
            if halt.read_text() != f"{step} {grant}":
                return
            halt.unlink()  # succeeds in one worker only
        except FileNotFoundError:
            return
        # Renamed, so that nobody reads a file that is not written to its end.
        written = self._folder / f"{HALTED}.{os.getpid()}"
        written.write_text(str(os.getpid()))
        written.rename(self._folder / HALTED)
        give_up_at = time.monotonic() + LONGEST_HALT_SECONDS
        while not (self._folder / GO).exists() and time.monotonic() < give_up_at:
            time.sleep(0.005)

    def before_response(self, response: Response) -> Response:
        """Note whose token the response is about; a worker responds to one request at a time."""
        self._responded = response.json.get("grant", "") if response.is_json else ""
        return response

    def after_response(self, path: str) -> None:
        """Come to the last step: the response has been sent (`tests.servers.gunicorn_config`)."""
        if path.startswith("/token/"):
            self.come_to("response_sent", self._responded)

    def install(self) -> None:
        """Put the steps into the store and the endpoint of this process."""
        try_claim, save, redeem = SqlGrantStore.try_claim, SqlGrantStore.save, OAuthEndpoint.redeem

        @functools.wraps(try_claim)
        def halting_claim(store: SqlGrantStore, seen: Grant, **rest: Any) -> Claim | Overtaken:
            self._redeeming.grant = seen.id
            self.come_to("before_claim", seen.id)
            claim = try_claim(store, seen, **rest)
            self.come_to("claim_committed", seen.id)
            return claim

        @functools.wraps(redeem)
        def halting_redeem(*args: Any, **rest: Any) -> Verdict:
            verdict = redeem(*args, **rest)
            self.come_to("answer_read", self._redeeming.grant)
            return verdict

        @functools.wraps(save)
        def halting_save(store: SqlGrantStore, seen: Grant, *args: Any, **rest: Any) -> SaveOutcome:
            outcome = save(store, seen, *args, **rest)
            self.come_to("save_committed", seen.id)
            return outcome

        replaced = {"try_claim": halting_claim, "save": halting_save}
        for name, method in replaced.items():
            setattr(SqlGrantStore, name, method)
        setattr(OAuthEndpoint, "redeem", halting_redeem)  # noqa: B010 - mypy forbids to assign to a method


def install_dns(folder: Path) -> None:
    """Let the provider's host name be unknown while the file `NO_DNS` is there."""
    resolve = socket.getaddrinfo

    def getaddrinfo(host: Any, *rest: Any, **more: Any) -> Any:
        if host == PROVIDER_HOST and (folder / NO_DNS).exists():
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolve(host, *rest, **more)

    socket.getaddrinfo = getaddrinfo


class CuttableConnection(sqlite3.Connection):
    """An SQLite connection of which a COMMIT fails when a test asks for it; there is no network to cut."""

    folder: Path

    def commit(self) -> None:
        """Commit, unless it is to fail before or after."""
        if self.in_transaction:
            if self._asked(CUT_BEFORE):
                self.rollback()
                raise _broken()
            if self._asked(CUT_AFTER):
                super().commit()
                raise _broken()
        super().commit()

    def _asked(self, name: str) -> bool:
        try:
            (self.folder / name).unlink()
        except FileNotFoundError:
            return False
        return True


def _broken() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR
    error.sqlite_errorname = "SQLITE_IOERR"
    return error
