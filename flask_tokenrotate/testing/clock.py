"""A clock that only moves when it is told to."""

from __future__ import annotations

import threading


class ManualClock:
    """The process's clock and the database's in one, moved by `advance`, `sleep` and waiting.

    Implements `flask_tokenrotate.rotation.ports.Clock`; `time` is what the stores in memory take for
    the database's clock. ``epoch`` is the database's time at the start, in epoch seconds.
    """

    def __init__(self, epoch: float = 1_700_000_000.0) -> None:
        self._epoch = epoch
        self._elapsed = 0.0
        self._lock = threading.Lock()

    def monotonic(self) -> float:
        """Return the seconds since this clock was made."""
        return self._elapsed

    def time(self) -> float:
        """Return the database's time in epoch seconds."""
        return self._epoch + self._elapsed

    def advance(self, seconds: float) -> None:
        """Move the clock forward by ``seconds``."""
        with self._lock:
            self._elapsed += max(seconds, 0.0)

    def sleep(self, seconds: float) -> None:
        """Let ``seconds`` pass at once."""
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
        """Wake all who wait, now and later."""
        self._is_set = True

    def clear(self) -> None:
        """Let those who come now wait."""
        self._is_set = False

    def wait(self, timeout: float) -> bool:
        """Return whether it is set; if it is not, ``timeout`` seconds have passed on the clock."""
        if not self._is_set:
            self._clock.sleep(timeout)
        return self._is_set
