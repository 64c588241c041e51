"""A clock that a test sets."""

from __future__ import annotations

import threading

EPOCH = 1_700_000_000.0
"""The database's time when a `ManualClock` is created, in seconds since the epoch."""


class ManualClock:
    """The clock of the process and of the database. `advance`, `sleep` and waiting move it forward.

    Implements `flask_tokenrotate.rotation.ports.Clock`. The stores in memory use `time` as the clock of the
    database; it begins at `EPOCH`.
    """

    def __init__(self) -> None:
        self._elapsed = 0.0
        self._lock = threading.Lock()

    def monotonic(self) -> float:
        """Return the seconds since this clock was created."""
        return self._elapsed

    def time(self) -> float:
        """Return the database's time in seconds since the epoch."""
        return EPOCH + self._elapsed

    def advance(self, seconds: float) -> None:
        """Move the clock forward by ``seconds``."""
        with self._lock:
            self._elapsed += max(seconds, 0.0)

    def sleep(self, seconds: float) -> None:
        """Move the clock forward by ``seconds``; takes no real time."""
        self.advance(seconds)

    def event(self) -> ManualEvent:
        """Return a new event that is not set."""
        return ManualEvent(self)


class ManualEvent:
    """An event on a `ManualClock`: waiting for it takes no real time."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self._is_set = False

    def set(self) -> None:
        """Set the event: waiting for it returns at once."""
        self._is_set = True

    def clear(self) -> None:
        """Reset the event."""
        self._is_set = False

    def wait(self, timeout: float) -> bool:
        """Return whether it is set; if it is not, ``timeout`` seconds have passed on the clock."""
        if not self._is_set:
            self._clock.sleep(timeout)
        return self._is_set
