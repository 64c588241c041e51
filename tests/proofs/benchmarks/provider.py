"""The FakeProvider in a process of its own, so that it takes no time from the benchmark's client."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.managers import BaseManager
from typing import Any

from flask_tokenrotate.testing import FakeProvider


class BenchmarkProvider(FakeProvider):
    """A FakeProvider with what its own log says of one contestant's users."""

    def begin(self) -> None:
        """Listen and serve."""
        self.start()

    def calls(self, prefix: str) -> int:
        """Return how many requests the token endpoint got for users whose name begins with ``prefix``."""
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
_Manager.register("BenchmarkProvider", BenchmarkProvider, exposed=_EXPOSED)


def _leave_ctrl_c_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def provider_process(**knobs: Any) -> Iterator[Any]:
    """Run a `BenchmarkProvider` in a process of its own and yield a proxy of it."""
    manager = _Manager(ctx=multiprocessing.get_context("spawn"))
    manager.start(_leave_ctrl_c_to_the_parent)
    try:
        provider = manager.BenchmarkProvider(**knobs)  # type: ignore[attr-defined]
        provider.begin()
        yield provider
        provider.stop()
    finally:
        manager.shutdown()
