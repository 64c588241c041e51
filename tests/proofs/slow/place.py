"""The application in gunicorn's processes, at default settings, before a provider that is slow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flask_tokenrotate.testing import FakeProvider
from tests.servers.rows import claim_holder, set_remaining
from tests.servers.visitors import Visitor, eventually
from tests.servers.web import APPLICATION, Running, gunicorn_process, settings

AHEAD = 200.0
"""Seconds that a token lives for which is fresh, but in the ahead window."""

THREADS = ("--threads", "8")
SYNC = ("--worker-class", "sync")


@dataclass(frozen=True)
class User:
    """A user who has signed in; ``url`` of the visitor is that of the first server."""

    visitor: Visitor
    grant: str
    is_expired: bool


class Place:
    """A folder with the application's database, and its provider. The server may come and go."""

    def __init__(self, folder: Path, provider: FakeProvider, *options: str) -> None:
        self.folder = folder
        self.provider = provider
        self.database = f"sqlite:///{folder}/grants.sqlite3"
        self._options = options

    @contextmanager
    def served(self) -> Iterator[Running]:
        """Serve the application by two workers."""
        environment = settings(self.database, {"fake": self.provider.registration()})
        with gunicorn_process(APPLICATION, self.folder, *self._options, **environment) as running:
            yield running

    def sign_in(self, url: str, *, expired: int, ahead: int = 0) -> list[User]:
        """Sign users in whose tokens have expired, and others whose tokens are in the ahead window."""
        users = []
        for number in range(expired + ahead):
            visitor = Visitor(url)
            grant = visitor.sign_in(self.provider.mint(f"user{number}", expires_in=3600))
            users.append(User(visitor, grant, is_expired=number < expired))
        for user in users:
            set_remaining(self.database, user.grant, -1.0 if user.is_expired else AHEAD)
        return users

    def holders(self, users: list[User]) -> set[int]:
        """Return the processes that hold the users' claims, once all have been taken."""
        return {eventually(lambda user=user: claim_holder(self.database, user.grant)) for user in users}
