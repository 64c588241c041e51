"""Rotates tokens that are still fresh without making anyone wait."""

from __future__ import annotations

from dataclasses import replace

from ..errors import TokenRotateError
from .cache import GrantCache
from .flights import Flights
from .protocol import Policy
from .rows import Rows
from .sighting import Fresh
from .windows import Windows


class Ahead:
    """Hands grants in the ahead window over to the rotation threads.

    ``pause_seconds``: how long this process hands a grant over only once.
    """

    def __init__(
        self, rows: Rows, flights: Flights, cache: GrantCache, windows: Windows, *, pause_seconds: float
    ) -> None:
        self._rows = rows
        self._flights = flights
        self._cache = cache
        self._windows = windows
        self._pause_seconds = pause_seconds

    def rotating(self, fresh: Fresh, policy: Policy, epoch: int) -> Fresh:
        """Leave the rotation to a thread and return ``fresh``; or ask its caller to do it later.

        ``epoch`` is the cache's from before the row was read.
        """
        if not self._cache.start_ahead(fresh.grant.id, self._pause_seconds):
            return fresh
        if not self._flights.go_on_in_background:
            return replace(fresh, rotate_ahead=True)
        self._flights.start_ahead(fresh.seen, policy, epoch)
        return fresh

    def rotate(self, grant_id: str, *, min_ttl: float | None = None) -> None:
        """Rotate now, if nobody else does: for where threads cannot run. Never raises our own errors.

        ``min_ttl`` is what the caller asked of `FreshTokens.get`, for it decides what is near to expiry.
        """
        try:
            epoch = self._cache.epoch
            seen = self._rows.load(grant_id)
        except TokenRotateError:
            return  # whoever needs the token meets the same error and says more about it
        self._flights.start_ahead(seen, self._windows.policy(seen.grant, min_ttl), epoch)
