"""Gives requests their token sets: from memory, from another thread's look, or by asking for one.

`FreshTokens.get` is the whole of it for a caller: it returns a usable token set or raises one of the errors
of `flask_tokenrotate.errors`. Safe to call from any number of threads, processes and hosts.
"""

from __future__ import annotations

import copy
import functools

from ..errors import RotationTimeout, StoreUnavailable, TokenRotateError
from .ahead import Ahead
from .asking import Asking, Wish
from .cache import GrantCache
from .flights import Flights
from .looks import Look, Looks
from .ports import Clock
from .rows import Rows
from .sighting import Fresh, Sighting
from .windows import Windows


class FreshTokens:
    """Keeps the grants of one store fresh. One for each application and process.

    ``wait_seconds``: how long a request waits for a redemption.
    """

    def __init__(
        self,
        rows: Rows,
        asking: Asking,
        ahead: Ahead,
        flights: Flights,
        cache: GrantCache,
        windows: Windows,
        clock: Clock,
        *,
        wait_seconds: float,
    ) -> None:
        self._rows = rows
        self._asking = asking
        self._ahead = ahead
        self._flights = flights
        self._cache = cache
        self._windows = windows
        self._clock = clock
        self._wait_seconds = wait_seconds
        self._looks: Looks[Fresh, TokenRotateError] = Looks(clock, TokenRotateError)

    def get(
        self,
        grant_id: str,
        *,
        min_ttl: float | None = None,
        at_least: int = 0,
        seen: Sighting | None = None,
        here: bool = False,
    ) -> Fresh:
        """Return a token set that is valid for ``min_ttl`` more seconds (default: the provider's policy).

        ``at_least`` is a token version: an older token set is never returned. ``seen`` is the row as the
        caller has just read it, which this process's memory does not overrule. ``here``: the caller has
        nobody to leave work to (a job, a process that is frozen between requests), so it waits for the end of
        a redemption, and one that is due is done before this returns. Raises `SignInRequired`,
        `ProviderUnavailable`, `ProviderMisconfigured`, `RotationTimeout`, `StoreUnavailable` and
        `GrantUnreadable`.
        """
        wish = Wish(grant_id, min_ttl, at_least, here)
        if seen is not None:
            return self._from_row(wish, seen)
        return self._from_memory(wish) or self._look(wish)

    def is_fresh(self, fresh: Fresh, *, min_ttl: float | None = None) -> bool:
        """Return whether ``fresh`` may still be used now."""
        until = fresh.until if fresh.min_ttl == min_ttl else self._windows.of(fresh.seen, min_ttl)[1]
        return self._clock.monotonic() < until

    def forget(self, grant_id: str) -> None:
        """Drop what this process has cached of the grant: it was replaced or changed from outside."""
        self._cache.forget(grant_id)
        # A look that read the row before would give what it read to callers that come after.
        self._looks.forget(grant_id)

    def reset(self) -> None:
        """In a forked child: what threads of the parent were doing never ends here."""
        self._cache.reset()
        self._looks.reset()
        self._flights.reset()

    def _from_row(self, wish: Wish, seen: Sighting) -> Fresh:
        kept = self._cache.get(wish.grant_id, self._clock.monotonic())
        if kept is not None and kept.seen.grant.token_version > seen.grant.token_version:
            # A database node that lags behind: this process has had a newer token set already.
            return self._from_memory(wish) or self._look(wish)
        seen = self._rows.recheck(seen)
        return self._asking.use(wish, seen, self._cache.epoch) or self._look(wish, seen)

    def _from_memory(self, wish: Wish) -> Fresh | None:
        now = self._clock.monotonic()
        kept = self._cache.get(wish.grant_id, now)
        if kept is None or kept.seen.grant.token_version < wish.at_least:
            return None
        if wish.min_ttl is not None:
            fresh, ahead_from = self._cached(kept.seen, wish.min_ttl)
        elif kept.served is not None:
            fresh, ahead_from = kept.served
        else:
            fresh, ahead_from = kept.served = self._cached(kept.seen, None)
        if now < ahead_from:
            return fresh
        if now >= fresh.until or wish.here:
            return None
        return self._ahead.rotating(fresh, self._windows.policy(fresh.grant, wish.min_ttl), self._cache.epoch)

    def _cached(self, seen: Sighting, min_ttl: float | None) -> tuple[Fresh, float]:
        ahead_from, until = self._windows.of(seen, min_ttl)
        return Fresh(seen=seen, origin="cache", until=until, min_ttl=min_ttl), ahead_from

    def _look(self, wish: Wish, seen: Sighting | None = None) -> Fresh:
        until = self._clock.monotonic() + self._wait_seconds
        while True:
            look, mine = self._looks.join(wish.grant_id)
            if mine:
                ask = functools.partial(self._asking.ask, wish, until, seen)
                found = self._looks.take(wish.grant_id, look, ask)
                return _not_older(found, wish.at_least)
            if look.is_callers_own or not look.done.wait(max(until - self._clock.monotonic(), 0.0)):
                # A job's look ends only when its redemption does. This caller takes what there is.
                return _not_older(self._asking.ask(wish, until), wish.at_least)
            shared = self._shared(look, wish) or self._from_memory(wish)
            if shared is not None:
                return shared
            seen = None  # the row has been read, and perhaps changed, by another look meanwhile

    def _shared(self, look: Look[Fresh, TokenRotateError], wish: Wish) -> Fresh | None:
        """Share the outcome of another thread's look; None: try again.

        Those who wait share a failure as well. Trying in turn, each would wait for the same provider again.
        """
        if look.error is not None and not isinstance(look.error, RotationTimeout):
            raise copy.copy(look.error)
        found = look.result
        if found is None or found.token_version < wish.at_least:
            return None
        if found.origin in ("rotated", "waited"):
            waited = self._windows.to_its_end(found.seen, "waited", wish.min_ttl)
            # A process that was stopped meanwhile wakes up with a token set that has run out.
            return waited if self._clock.monotonic() < waited.until else None
        if self.is_fresh(found, min_ttl=wish.min_ttl):
            return self._windows.fresh(found.seen, "waited", wish.min_ttl)
        return None


def _not_older(found: Fresh, at_least: int) -> Fresh:
    """Refuse a row that went back: restored, or its database's clock set back after an `expire`.

    Here and not in the look, which callers with other wishes share.
    """
    if found.token_version < at_least:
        raise StoreUnavailable(
            f"The database shows grant {found.grant.id} as it was before a token set that was used already."
        )
    return found
