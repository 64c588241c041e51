"""The FakeProvider: in a process of its own, and what threads of it are busy in this one.

In a process of its own it takes no processor time from a client that measures.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.managers import BaseManager
from typing import Any

from flask_tokenrotate.testing import FakeProvider


class ProviderOfGroups(FakeProvider):
    """A FakeProvider that counts for groups of users: those whose names begin with ``prefix``."""

    def begin(self) -> None:
        """Listen and serve."""
        self.start()

    def calls(self, prefix: str) -> int:
        """Return how many requests the token endpoint got for those users."""
        return len(self._entries(prefix))

    def redemptions(self, prefix: str = "") -> int:
        """Return how many refresh tokens of those users were looked at."""
        return sum(entry.outcome in ("rotated", "reused", "refused") for entry in self._entries(prefix))

    def lost(self, prefix: str) -> int:
        """Return how many of those users' families died because a spent token came back."""
        return len({entry.family for entry in self._entries(prefix) if entry.outcome == "reused"})

    def times(self, prefix: str) -> list[tuple[str, float]]:
        """Return who redeemed when, by the wall clock."""
        return [(str(entry.user), entry.at) for entry in self._entries(prefix) if entry.outcome == "rotated"]

    def _entries(self, prefix: str) -> list[Any]:
        return [e for e in self.log if e.endpoint == "token" and (e.user or "").startswith(prefix)]


class _Manager(BaseManager):
    pass


_EXPOSED = (
    "begin",
    "stop",
    "registration",
    "mint",
    "turn",
    "clear_log",
    "calls",
    "redemptions",
    "lost",
    "times",
)
_Manager.register("ProviderOfGroups", ProviderOfGroups, exposed=_EXPOSED)


def requests_under_way() -> list[str]:
    """Return the names of the threads in which a provider of this process answers a request."""
    return [thread.name for thread in threading.enumerate() if "process_request" in thread.name]


def _leave_ctrl_c_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def provider_process(**knobs: Any) -> Iterator[Any]:
    """Run a `ProviderOfGroups` in a process of its own and yield a proxy of it."""
    manager = _Manager(ctx=multiprocessing.get_context("spawn"))
    manager.start(_leave_ctrl_c_to_the_parent)
    try:
        provider = manager.ProviderOfGroups(**knobs)  # type: ignore[attr-defined]
        provider.begin()
        yield provider
        provider.stop()
    finally:
        manager.shutdown()
