"""Where the contestants are measured: a provider, their databases, and gunicorn for those that are served."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tests.servers import Servers
from tests.servers.visitors import Answer, Visitor
from tests.servers.web import gunicorn

from .contestants import PLACE, make_tables

T = TypeVar("T")

WORKERS = 4
THREADS = 8


@dataclass(frozen=True, slots=True)
class Timed:
    """An answer, how long it took, and when its request began (both in seconds)."""

    answer: Answer
    seconds: float
    began: float

    @property
    def milliseconds(self) -> float:
        """How long it took."""
        return self.seconds * 1000


@dataclass(kw_only=True, slots=True)
class Lab:
    """One run of the benchmarks. ``rounds`` scales the work; ``short`` is for smoke runs."""

    contestants: tuple[str, ...]
    rounds: int
    short: bool
    servers: Servers
    folder: Path
    provider: Any
    _databases: dict[str, str] = field(default_factory=dict)
    _users: int = 0

    def scaled(self, full: int, short: int) -> int:
        """Return how much work to do in this run."""
        return short if self.short else full

    def chosen(self, *wanted: str) -> list[str]:
        """Return those of ``wanted`` that take part in this run."""
        return [name for name in wanted if name in self.contestants]

    def database(self, name: str) -> str:
        """Return the URI of a PostgreSQL database of its own, with the contestant's tables."""
        if name not in self._databases:
            self._databases[name] = self.servers.new_database("postgresql")
            make_tables(name, self._databases[name])
        return self._databases[name]

    def place(self, name: str, **more: str) -> dict[str, str]:
        """Return the URLs and credentials of the contestant (`contestants.PLACE`)."""
        folder = self.folder / f"{name}-{os.urandom(4).hex()}"
        folder.mkdir()
        client = self.provider.registration()
        redis = self.servers.url("redis").render_as_string(hide_password=False)
        values = (str(folder), self.database(name), redis, client["token_endpoint"], client["client_id"])
        place = dict(zip(PLACE, (*values, client["client_secret"]), strict=True))
        # For requests-oauthlib, which takes no plain http from a provider otherwise, on loopback neither.
        plain_http = {} if name == "tokenrotate" else {"OAUTHLIB_INSECURE_TRANSPORT": "1"}
        return {**place, **plain_http, **more}

    def user(self, name: str) -> str:
        """Return a new user; the name says whose user it is in the provider's log."""
        self._users += 1
        return f"{name}:{self._users}"

    def tokens(self, user: str, **tokens: Any) -> dict[str, Any]:
        """Return a sign-in of ``user``; the access token has expired unless ``expires_in`` is given."""
        return {**self.provider.mint(user, **{"expires_in": -1, **tokens}), "user": user}

    def visitor(self, url: str, name: str, **tokens: Any) -> Visitor:
        """Return a visitor who has signed in."""
        visitor = Visitor(url)
        answer = visitor.post("/sign-in", self.tokens(self.user(name), **tokens))
        assert answer.status == 200, (name, answer)
        return visitor

    @contextmanager
    def serving(self, names: Iterable[str], **more: str) -> Iterator[dict[str, str]]:
        """Serve the contestants by gunicorn, 4 processes of 8 threads each, and yield their URLs."""
        stops = {name: contextlib.ExitStack() for name in names}

        def serve(name: str) -> str:
            place = self.place(name, **more)
            application = f"tests.proofs.benchmarks.contestants.{name}:create_app()"
            options = ("--preload", "--worker-class", "gthread", "--threads", str(THREADS))
            folder = Path(place.pop("INSTANCE"))
            return stops[name].enter_context(
                gunicorn(application, folder, *options, workers=WORKERS, **place)
            )

        try:
            yield {name: serve(name) for name in stops}
        finally:
            side_by_side([stop.close for stop in stops.values()])


def timed(call: Callable[[], Answer]) -> Timed:
    """Make the call and measure it."""
    began, start = time.time(), time.perf_counter()
    answer = call()
    return Timed(answer, time.perf_counter() - start, began)


def side_by_side(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Make all calls, each in a thread of its own, and return their results."""
    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(lambda call: call(), calls))
