"""The clock of this process; implements `rotation.ports.Clock`."""

from __future__ import annotations

import functools
import threading
import time

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock:
    """Real time. Under gevent, `sleep` and events let other greenlets run."""

    monotonic = staticmethod(functools.partial(time.clock_gettime, _CLOCK))
    """Return seconds that go on while the machine sleeps.

    Linux's plain monotonic clock stands still then, and a token would seem to live on.
    """

    def sleep(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)

    def event(self) -> threading.Event:
        """Return a new event."""
        return threading.Event()
