"""One process of the soak: goes through all users in the same order as the others, so that they meet.

It needs their tokens in a request and in a job in turn: a request leaves the redemption to a rotation thread
and waits for it, a job redeems by itself.

Its command line names a file of JSON (`Orders`). It writes a line of JSON every second to a file of its own,
for it may be killed at any moment, and stops when the file ``stop`` is there.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flask import Flask

from flask_tokenrotate import SignInRequired, TokenRotate
from flask_tokenrotate.errors import TokenRotateError
from flask_tokenrotate.rotation import holding
from flask_tokenrotate.web.state import current_state
from tests.servers import sabotage

STOP = "stop"
OVER = ("signed_out", "replaced", "no_grant")
"""Reasons to sign in that the soak itself has caused."""


@dataclass(frozen=True)
class Orders:
    """What a worker is to do. ``users`` maps each user to the grant they have at the beginning."""

    folder: str
    database: str
    provider: dict[str, Any]
    users: dict[str, str]

    def as_text(self) -> str:
        """Return the orders as JSON."""
        return json.dumps(asdict(self))


RESPONSE_SECONDS = 3.0
"""How long a holder waits for the response here, instead of 60 s."""

TIMING = {"connect": 0.8, "redeem": 1.0, "claim": 1.5, "settle": 0.2, "wait": 8.0, "backoff": 0.2}
"""Seconds: claims are short, so that others soon do what a killed worker left undone."""


def make_app(folder: Path, database: str, provider: dict[str, Any]) -> tuple[Flask, TokenRotate]:
    """Return the application that every process of the soak runs."""
    app = Flask(__name__, instance_path=str(folder))
    app.config.update(SECRET_KEY="a-secret-key-for-the-soak", TOKENROTATE_DATABASE_URI=database)
    app.config.update({f"TOKENROTATE_{name.upper()}_SECONDS": value for name, value in TIMING.items()})
    app.testing = True
    rotate = TokenRotate(app)
    rotate.register("fake", **provider)
    return app, rotate


class Worker:
    """Uses each user's token in turn."""

    def __init__(self, orders: Orders) -> None:
        self._folder = Path(orders.folder)
        sabotage.install(self._folder)
        holding.RESPONSE_SECONDS = RESPONSE_SECONDS
        self.app, self._rotate = make_app(self._folder, orders.database, orders.provider)
        self._users = orders.users
        self.seen: Counter[str] = Counter()
        self.lost: set[str] = set()

    def run(self) -> None:
        """Go on until there is a file `STOP`."""
        report = (self._folder / f"worker-{os.getpid()}.jsonl").open("a")
        due = time.monotonic()
        contexts = self.app.test_request_context, self.app.app_context
        with self.app.app_context(), report:
            # From the process id on: the workers meet in all ways, a job with a request too.
            for turn in itertools.count(os.getpid()):
                for number, user in enumerate(self._users):
                    with contexts[(turn + number) % 2]():
                        self._visit(user)
                    if time.monotonic() >= due:
                        due = time.monotonic() + 1.0
                        report.write(json.dumps(self._figures()) + "\n")
                        report.flush()
                        if (self._folder / STOP).exists():
                            return

    def _visit(self, user: str) -> None:
        try:
            token = self._rotate.token(self._users[user])
            assert token.access_token
            assert token.user_id == user
            self.seen["ok"] += 1
        except SignInRequired as error:
            if error.reason in OVER:
                self._users[user] = current_state().grants.find(user, "fake") or self._users[user]
            else:
                self.seen[f"lost: {error.reason}"] += 1
                self.lost.add(user)
        except TokenRotateError as error:
            self.seen[type(error).__name__] += 1

    def _figures(self) -> dict[str, Any]:
        pool: Any = self._engine_pool()
        return {
            "rss": resident_bytes(),
            "busy_connections": pool.checkedout(),
            "seen": dict(self.seen),
            "lost": [*self.lost],
        }

    def _engine_pool(self) -> object:
        store: Any = current_state().grants
        database: Callable[[], Any] = store._transactions._database.engine
        return database().pool


def resident_bytes() -> int:
    """Return how much memory this process has in use."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    Worker(Orders(**json.loads(Path(sys.argv[1]).read_text()))).run()
