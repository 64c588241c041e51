"""An application in processes of its own, whose rows and workers a test can look at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask_tokenrotate.testing import FakeProvider
from tests.servers.processes import is_stopped
from tests.servers.rows import claim_holder
from tests.servers.visitors import Visitor
from tests.servers.web import APPLICATION, gunicorn, settings


@dataclass(frozen=True)
class Place:
    """An application in several processes of one thread each, and its provider."""

    url: str
    folder: Path
    database: str
    provider: FakeProvider

    def visitor(self, provider: str, **tokens: Any) -> tuple[Visitor, str]:
        """Return a visitor and their grant; the access token has expired unless ``expires_in`` is given."""
        visitor = Visitor(self.url)
        return visitor, visitor.sign_in(self.provider.mint(**{"expires_in": -1, **tokens}), provider)

    def holder(self, grant: str) -> int:
        """Return the process that holds the claim."""
        holder = claim_holder(self.database, grant)
        assert holder is not None, "nobody holds the claim"
        return holder

    def stopped_holder(self, grant: str) -> int | None:
        """Return the process that holds the claim if it has been stopped."""
        holder = claim_holder(self.database, grant)
        return holder if holder is not None and is_stopped(holder) else None


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
