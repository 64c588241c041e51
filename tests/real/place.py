"""An application in processes of its own, whose rows and workers a test can look at."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Row, create_engine, select
from sqlalchemy.pool import NullPool

from flask_tokenrotate.storage.database.schema import grants
from flask_tokenrotate.testing import FakeProvider

from .storm import Visitor, gunicorn, settings

APPLICATION = "tests.real.application:create_app()"


@dataclass(frozen=True)
class Place:
    """An application in several processes of one thread each, and its provider."""

    url: str
    folder: Path
    database: str
    provider: FakeProvider

    def visitor(self, provider: str, **tokens: Any) -> tuple[Visitor, str]:
        """Return a visitor and their grant; the access token has run out unless ``expires_in`` is given."""
        visitor = Visitor(self.url)
        return visitor, visitor.sign_in(self.provider.mint(**{"expires_in": -1, **tokens}), provider)

    def row(self, grant: str) -> Row[Any]:
        """Return the grant's row."""
        with create_engine(self.database, poolclass=NullPool).connect() as connection:
            return connection.execute(select(grants).where(grants.c.id == grant)).one()

    def holder(self, grant: str) -> int:
        """Return the process that holds the claim."""
        return int(self.row(grant).claim_holder.split(":")[1])

    def stopped_holder(self, grant: str) -> int | None:
        """Return the process that holds the claim if it has been stopped."""
        if self.row(grant).claim_holder is None:
            return None
        pid = self.holder(grant)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return pid if state == "T" else None


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Keep a process stopped for the time of the block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def application(folder: Path, *, workers: int, **seconds: float) -> Iterator[Place]:
    """Serve the application, with the same provider under three policies."""
    database = f"sqlite:///{folder}/grants.sqlite3"
    with FakeProvider() as provider:
        profiles = {
            "strict": provider.registration(),
            "graceful": provider.registration(grace_seconds=20),
            "reauthorize": provider.registration(on_unknown="reauthorize"),
        }
        environment = settings(database, profiles, **seconds)
        with gunicorn(APPLICATION, folder, "--preload", workers=workers, **environment) as url:
            yield Place(url, folder, database, provider)
