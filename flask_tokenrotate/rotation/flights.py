"""The redemptions in progress in this process: one flight for each grant.

A flight is a future. Its redemption runs on a rotation thread, whether requests wait for it or not, and goes
on when they stop waiting: a request that gives up must not cost the session whose refresh token was posted.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from ..errors import ProviderUnavailable, TokenRotateError
from .cache import GrantCache
from .flight import Flight
from .outcomes import Overtaken
from .ports import Clock, Observer, Threads
from .protocol import ClaimAndRedeem, Policy, UseAndRotateAhead, decide
from .redeemer import Redeemer
from .sighting import Sighting

logger = logging.getLogger("flask_tokenrotate")


class Flights:
    """Starts redemptions and knows those in progress. Thread-safe."""

    def __init__(
        self, redeemer: Redeemer, cache: GrantCache, threads: Threads, clock: Clock, observer: Observer
    ) -> None:
        self._redeemer = redeemer
        self._cache = cache
        self._threads = threads
        self._clock = clock
        self._observer = observer
        self._flights: dict[str, Flight] = {}
        self._lock = threading.Lock()

    @property
    def go_on_in_background(self) -> bool:
        """Whether a flight goes on beside its caller; False: it has landed when it has been started."""
        return self._threads.in_background

    def of(self, grant_id: str) -> Flight | None:
        """Return the flight of the grant that is in progress, if there is one."""
        return self._flights.get(grant_id)

    def start(self, seen: Sighting, policy: Policy, epoch: int, *, here: bool = False) -> Flight:
        """Return the flight of the grant: the one in progress, or a new one that redeems the row as ``seen``.

        ``here``: a new one runs in the caller, which has nobody to leave it to.
        """
        flight, is_new = self._join(seen.grant.id)
        if is_new:
            work = self._work(flight, seen, policy, epoch, awaited=True)
            if here:
                work()
            else:
                self._run(flight, seen, work, ahead=False)
        return flight

    def start_ahead(self, seen: Sighting, policy: Policy, epoch: int) -> None:
        """Rotate a token that is still fresh, unless somebody does already; nobody waits for it."""
        flight, is_new = self._join(seen.grant.id)
        if is_new:
            work = self._work(flight, seen, policy, epoch, awaited=False)
            if not self._run(flight, seen, work, ahead=True):
                self._land(flight)

    def reset(self) -> None:
        """In a forked child: flights of the parent's threads never land here."""
        self._lock = threading.Lock()
        self._flights = {}

    def _run(self, flight: Flight, seen: Sighting, work: Callable[[], None], *, ahead: bool) -> bool:
        try:
            return self._threads.run(seen.grant.provider, work, ahead=ahead)
        except BaseException:
            # A `gevent.Timeout`, say, before the work was handed over: it would be waited for for ever.
            self._land(flight)
            raise

    def _join(self, grant_id: str) -> tuple[Flight, bool]:
        with self._lock:
            flight = self._flights.get(grant_id)
            if flight is not None:
                return flight, False
            flight = self._flights[grant_id] = Flight(grant_id, self._clock.event())
            return flight, True

    def _work(
        self, flight: Flight, seen: Sighting, policy: Policy, epoch: int, *, awaited: bool
    ) -> Callable[[], None]:
        def work() -> None:
            try:
                self._fly(flight, seen, policy, epoch, awaited=awaited)
            except Exception as error:
                # Whatever it is: without it, who waits would read the row and start the same flight again.
                flight.error = error
                if not isinstance(error, TokenRotateError):
                    logger.exception("the redemption of grant %s failed", flight.grant_id)
                elif not awaited and not isinstance(error, ProviderUnavailable):
                    logger.warning("grant %s could not be rotated ahead: %s", flight.grant_id, error)
            finally:
                self._land(flight)
            for notice in flight.notices:
                self._observer.notify(notice.name, notice.grant, notice.facts)

        return work

    def _fly(self, flight: Flight, seen: Sighting, policy: Policy, epoch: int, *, awaited: bool) -> None:
        # Decided again: the work may have waited for a thread, and what was seen may be over by now.
        decision = decide(seen.grant, seen.now(self._clock.monotonic()), policy)
        if isinstance(decision, ClaimAndRedeem | UseAndRotateAhead):
            flight.result = self._redeemer.redeem(seen, decision.doubts, policy, flight, awaited=awaited)
        if isinstance(flight.result, Overtaken):
            flight.overtaken_at = self._clock.monotonic()
        if isinstance(flight.result, Sighting):
            self._cache.put(flight.result, epoch)
        else:
            # The row has moved; what is cached would start the same flight again.
            self._cache.drop(flight.grant_id)

    def _land(self, flight: Flight) -> None:
        """Let all who wait go on. Forgotten first: who comes after that reads what the flight has written."""
        with self._lock:
            if self._flights.get(flight.grant_id) is flight:
                del self._flights[flight.grant_id]
        flight.landed.set()
