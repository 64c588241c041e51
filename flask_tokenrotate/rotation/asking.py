"""One request's way from a row to a token set: read the row, act on the decision, wait, read again."""

from __future__ import annotations

import copy
from typing import NamedTuple, assert_never

from ..errors import (
    ProviderMisconfigured,
    ProviderUnavailable,
    RotationTimeout,
    SignInRequired,
    TokenRotateError,
)
from .ahead import Ahead
from .breaker import Breaker
from .cache import GrantCache
from .flight import Flight
from .flights import Flights
from .outcomes import Overtaken
from .ports import Clock, Wakeups
from .protocol import (
    ClaimAndRedeem,
    InDoubt,
    Policy,
    SignIn,
    Unavailable,
    Use,
    UseAndRotateAhead,
    Wait,
    decide,
)
from .rotation_times import RotationTimes
from .rows import Rows
from .sighting import Fresh, Sighting
from .tokens import Grant
from .verdict import CONSEQUENCES
from .waiting import Waiting
from .windows import Windows


class Wish(NamedTuple):
    """What one caller asks for; see `FreshTokens.get`. A tuple is made faster than a frozen dataclass."""

    grant_id: str
    min_ttl: float | None
    at_least: int
    here: bool


class Asking:
    """Looks at rows and acts on them. ``wait_seconds``: how long a request waits for a redemption."""

    def __init__(
        self,
        rows: Rows,
        flights: Flights,
        ahead: Ahead,
        cache: GrantCache,
        windows: Windows,
        wakeups: Wakeups,
        times: RotationTimes,
        breaker: Breaker,
        clock: Clock,
        *,
        wait_seconds: float,
    ) -> None:
        self._rows = rows
        self._flights = flights
        self._ahead = ahead
        self._cache = cache
        self._windows = windows
        self._wakeups = wakeups
        self._times = times
        self._breaker = breaker
        self._clock = clock
        self._wait_seconds = wait_seconds

    def use(self, wish: Wish, seen: Sighting, epoch: int) -> Fresh | None:
        """Return the token set of the row if it is fresh now; None where something has to be done first."""
        policy = self._windows.policy(seen.grant, wish.min_ttl)
        decision = decide(seen.grant, seen.now(self._clock.monotonic()), policy)
        if isinstance(decision, Use):
            return self._windows.fresh(seen, "row", wish.min_ttl)
        if isinstance(decision, UseAndRotateAhead) and not wish.here:
            return self._ahead.rotating(self._windows.fresh(seen, "row", wish.min_ttl), policy, epoch)
        return None

    def ask(self, wish: Wish, until: float, seen: Sighting | None = None) -> Fresh:
        """Act on the row, ``seen`` already or read now, until there is a token set or an error.

        ``until`` (on `Clock.monotonic`) is when the caller's waiting ends: it may have waited before.
        """
        with self._wakeups.watch(wish.grant_id) as watch:
            waiting = Waiting(
                self._clock,
                self._wait_seconds,
                self._times,
                watch,
                until=until,
                is_away=self._breaker.is_open,
                without_end=wish.here,
            )
            step = _Step(wish, waiting, seen, self._cache.epoch)
            while True:
                if step.seen is None:
                    step.epoch = self._cache.epoch
                    waiting.look()
                    step.seen = self._rows.load(wish.grant_id)
                    step.has_read = True
                found = self._look(step, step.seen)
                if isinstance(found, Fresh):
                    return found
                step.seen = found

    def _look(self, step: _Step, seen: Sighting) -> Fresh | Sighting | None:
        """Return a token set; or the row as it is known now, or None to read it again."""
        grant, wish, waiting = seen.grant, step.wish, step.waiting
        waiting.found(grant)
        if step.has_read:
            # What the caller brought may have been read before a sign-out that the epoch is from after.
            self._cache.put(seen, step.epoch)
        if step.has_begun_before(grant) and grant.end_reason is None and self._is_valid(seen):
            return self._windows.to_its_end(seen, waiting.origin, wish.min_ttl)
        policy = self._windows.policy(grant, wish.min_ttl)
        match decide(grant, seen.now(self._clock.monotonic()), policy):
            case Use():
                return self._windows.fresh(seen, waiting.origin, wish.min_ttl)
            case UseAndRotateAhead():
                return self._use_and_rotate_ahead(step, seen, policy)
            case ClaimAndRedeem():
                if step.stopped_waiting or waiting.has_ended:
                    return self._last_resort(step, seen)
                return self._landed(step, seen, self._start(step, seen, policy))
            case Wait() | InDoubt() as decision:
                return self._wait(step, seen, decision, policy)
            case SignIn() | Unavailable() as decision:
                raise _error(grant, decision)
            case decision:
                assert_never(decision)

    def _use_and_rotate_ahead(self, step: _Step, seen: Sighting, policy: Policy) -> Fresh:
        fresh = self._windows.fresh(seen, step.waiting.origin, step.wish.min_ttl)
        if not step.wish.here:
            return self._ahead.rotating(fresh, policy, step.epoch)
        rotated = self._start(step, seen, policy).result
        if isinstance(rotated, Sighting):
            return self._windows.to_its_end(rotated, "rotated", step.wish.min_ttl)
        return fresh

    def _start(self, step: _Step, seen: Sighting, policy: Policy) -> Flight:
        return self._flights.start(seen, policy, step.epoch, here=step.wish.here)

    def _wait(
        self, step: _Step, seen: Sighting, decision: Wait | InDoubt, policy: Policy
    ) -> Fresh | Sighting | None:
        if step.stopped_waiting:
            return self._last_resort(step, seen)
        flight = self._flights.of(seen.grant.id)
        if flight is not None:
            return self._landed(step, seen, flight)
        if step.waiting.is_over(seen):
            return self._last_resort(step, seen)
        step.waiting.sleep(seen, decision, policy)
        return None

    def _landed(self, step: _Step, seen: Sighting, flight: Flight) -> Fresh | Sighting | None:
        """Wait for a redemption of this process; return what `_look` returns."""
        min_ttl = step.wish.min_ttl
        may_wait = step.waiting.left_for(flight) > 0
        if not step.waiting.until_landed(flight):
            if not may_wait:
                return self._last_resort(step, seen)
            # The row is read once more: its user may have signed out meanwhile.
            step.stopped_waiting = True
            return None
        if flight.error is not None:
            if isinstance(flight.error, ProviderUnavailable) and self._is_valid(seen):
                return self._windows.to_its_end(seen, step.waiting.origin, min_ttl)
            raise copy.copy(flight.error) if isinstance(flight.error, TokenRotateError) else flight.error
        if isinstance(flight.result, Sighting):
            # A flight that is about to land has perhaps saved what the caller has read, and found too old.
            is_news = flight.result.grant.token_version > seen.grant.token_version
            return self._windows.to_its_end(flight.result, "rotated", min_ttl) if is_news else None
        if isinstance(flight.result, Overtaken) and flight.overtaken_at is not None:
            found = flight.result.row
            if found is None or found.version > seen.grant.version:
                # What the lost claim found saves each loser a read, unless it has read that row since.
                return self._rows.examine(seen.grant.id, found, flight.overtaken_at)
        return None

    def _last_resort(self, step: _Step, seen: Sighting) -> Fresh:
        """At the end of the waiting: a token that is still valid is better than an error."""
        if self._is_valid(seen):
            return self._windows.to_its_end(seen, step.waiting.origin, step.wish.min_ttl)
        standing = seen.grant.standing
        now = seen.now(self._clock.monotonic())
        retry_after = 1.0 if standing is None else max(standing.deadline - now, 1.0)
        raise RotationTimeout(seen.grant.id, waited=self._wait_seconds, retry_after=retry_after)

    def _is_valid(self, seen: Sighting) -> bool:
        return seen.grant.tokens.remaining(seen.now(self._clock.monotonic())) > 0


class _Step:
    """How far one request has come: the row that it acts on next, and the token version it began with."""

    __slots__ = ("_began_with", "epoch", "has_read", "seen", "stopped_waiting", "waiting", "wish")

    def __init__(self, wish: Wish, waiting: Waiting, seen: Sighting | None, epoch: int) -> None:
        self.wish = wish
        self.waiting = waiting
        self.seen = seen
        self.epoch = epoch
        self.has_read = False
        self.stopped_waiting = False
        self._began_with: int | None = None

    def has_begun_before(self, grant: Grant) -> bool:
        """Return whether the token set was issued after the request began to need one."""
        if self._began_with is None:
            self._began_with = grant.token_version
        return grant.token_version > self._began_with


def _error(grant: Grant, decision: Unavailable | SignIn) -> TokenRotateError:
    """Return what a request gets for which there is no token now."""
    if isinstance(decision, SignIn):
        return SignInRequired(grant.provider, decision.reason)
    consequences = CONSEQUENCES.get(decision.failure)
    if consequences is not None and consequences.asks_operator:
        return ProviderMisconfigured(grant.provider, decision.code or "unknown", decision.retry_after)
    return ProviderUnavailable(grant.provider, retry_after=decision.retry_after)
