"""The process cache: the grants cached in this process, as their rows were read a moment ago.

Bounded in entries (least recently used go first) and in seconds: ``seconds`` is how long this
process may still use a token that another process ended or expired by hand. Expiry by the clock is
always seen, because readers check it on each hit.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from .ports import Clock
from .sighting import Fresh, Sighting
from .tokens import Grant


class Entry:
    """What is kept of one grant.

    ``served`` is what callers with the default ``min_ttl`` get of it, and from when on it is to be rotated
    ahead: worked out by the first of them, since the same response serves all requests until then.
    """

    __slots__ = ("ahead_pause_until", "seen", "served", "until")

    def __init__(self, seen: Sighting, until: float) -> None:
        self.seen = seen
        self.until = until
        self.served: tuple[Fresh, float] | None = None
        self.ahead_pause_until = 0.0


class GrantCache:
    """Sightings by grant id. Thread-safe."""

    def __init__(self, clock: Clock, *, entries: int, seconds: float) -> None:
        self._clock = clock
        self._limit = entries
        self._seconds = seconds
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._lock = threading.Lock()
        self._epoch = 0

    @property
    def epoch(self) -> int:
        """A number that changes with each `forget`; read it before the row, hand it to `put`."""
        return self._epoch

    def get(self, grant_id: str, now: float) -> Entry | None:
        """Return what is cached of the grant, seen within the last ``seconds`` before ``now``, or None."""
        with self._lock:
            entry = self._entries.get(grant_id)
            if entry is None:
                return None
            if entry.until <= now:
                del self._entries[grant_id]
                return None
            self._entries.move_to_end(grant_id)
            return entry

    def put(self, seen: Sighting, epoch: int) -> None:
        """Keep ``seen``, unless a grant was forgotten since ``epoch`` or a newer row is kept already.

        A grant that has ended is never kept, and drops what was kept of it.

        Without the epoch, a thread that read the row before a sign-out and arrives here after it
        would bring the signed-out token back.
        """
        grant = seen.grant
        with self._lock:
            if grant.end_reason is not None:
                self._entries.pop(grant.id, None)
                return
            if epoch != self._epoch or self._seconds <= 0:
                return
            kept = self._entries.get(grant.id)
            if kept is not None and kept.seen.grant.version > grant.version:
                return
            self._entries[grant.id] = Entry(seen, self._clock.monotonic() + self._seconds)
            self._entries.move_to_end(grant.id)
            if len(self._entries) > self._limit:
                self._entries.popitem(last=False)

    def drop(self, grant_id: str) -> None:
        """Drop the grant: its row has changed in a way that is not known here."""
        with self._lock:
            self._entries.pop(grant_id, None)

    def forget(self, grant_id: str) -> None:
        """Drop the grant, and whatever readers that are in progress would still put."""
        with self._lock:
            self._epoch += 1
            self._entries.pop(grant_id, None)

    def start_ahead(self, grant_id: str, pause: float) -> bool:
        """Return True to one caller in each ``pause`` seconds: the one that rotates ahead.

        A grant that is not kept gives no way to tell, so that every caller gets True.
        """
        with self._lock:
            entry = self._entries.get(grant_id)
            if entry is None:
                return True
            now = self._clock.monotonic()
            if now < entry.ahead_pause_until:
                return False
            entry.ahead_pause_until = now + pause
            return True

    def reset(self) -> None:
        """Drop everything, in a forked child: a thread of the parent may have held the lock."""
        self._lock = threading.Lock()
        self._entries = OrderedDict()
        self._epoch += 1


class Replacements:
    """Which token set each grant was given last after a refusal, for as long as it counts as young."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._noted: dict[str, tuple[int, float]] = {}
        self._lock = threading.Lock()

    def note(self, grant: Grant) -> None:
        """Remember the token set of ``grant`` as a replacement that came now; drop what is old."""
        now = self._clock.monotonic()
        with self._lock:
            self._noted = {key: kept for key, kept in self._noted.items() if now - kept[1] < self._seconds}
            self._noted[grant.id] = (grant.token_version, now)

    def is_young(self, grant: Grant) -> bool:
        """Return whether the token set of ``grant`` came as a replacement less than ``seconds`` ago."""
        token_version, at = self._noted.get(grant.id, (None, 0.0))
        return token_version == grant.token_version and self._clock.monotonic() - at < self._seconds

    def reset(self) -> None:
        """In a forked child: a thread of the parent may have held the lock."""
        self._lock = threading.Lock()
