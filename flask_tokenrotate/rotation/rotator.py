"""Carries the protocol's decisions out: cache, single flight, claim, redeem, wait.

`Rotator.fresh` is the whole of it for a caller: it returns a usable token set or raises one of the
errors of `flask_tokenrotate.errors`. Safe to call from any number of threads, processes and hosts.
"""

from __future__ import annotations

import copy
import logging
import os
import random
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn

from ..errors import (
    GrantUnreadable,
    ProviderMisconfigured,
    ProviderUnavailable,
    RotationTimeout,
    SignInRequired,
    StoreUnavailable,
    TokenRotateError,
)
from ..forks import call_in_forked_child
from .cache import GrantCache, Replacements
from .flights import Flight, Flights
from .ports import Clock, GrantStore, Observer, Overtaken, Rescue, TokenEndpoint, Wakeups
from .protocol import (
    AHEAD_SHARE,
    ClaimAndRedeem,
    Policy,
    SignIn,
    Unavailable,
    Use,
    UseAndRotateAhead,
    decide,
    margins,
)
from .redeemer import Redeemer, Timing
from .sighting import Fresh, Origin, Sighting
from .tokens import Grant
from .waiting import Waiting

logger = logging.getLogger("flask_tokenrotate")

YOUNG = 5.0
"""Seconds for which a refusal by a resource server says nothing about a token set just issued."""


def _this_worker() -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{threading.get_ident()}"


class Rotator:
    """Keeps the grants of one store fresh. One for each application and process."""

    def __init__(
        self,
        store: GrantStore,
        endpoint: TokenEndpoint,
        clock: Clock,
        observer: Observer,
        rescue: Rescue,
        wakeups: Wakeups,
        *,
        policy_for: Callable[[str], Policy],
        timing: Timing,
        cache_entries: int,
        cache_seconds: float,
        holder: Callable[[], str] = _this_worker,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._endpoint = endpoint
        self._clock = clock
        self._observer = observer
        self._wakeups = wakeups
        self._policy_for = policy_for
        self._timing = timing
        self._cache = GrantCache(clock, entries=cache_entries, seconds=cache_seconds)
        self._replacements = Replacements(clock, YOUNG)
        self._flights: Flights[Fresh, TokenRotateError] = Flights(clock, TokenRotateError)
        self._flights_ahead: Flights[None, TokenRotateError] = Flights(clock, TokenRotateError)
        self._redeemer = Redeemer(
            store, endpoint, clock, observer, rescue, timing, holder=holder, jitter=jitter
        )
        call_in_forked_child(self._forget_parent)

    def fresh(self, grant_id: str, *, min_ttl: float | None = None, at_least: int = 0) -> Fresh:
        """Return a token set that lives for ``min_ttl`` more seconds (default: the provider's policy).

        ``at_least`` is a token version: an older token set is never returned. Raises SignInRequired,
        ProviderUnavailable, ProviderMisconfigured, RotationTimeout, StoreUnavailable, GrantUnreadable.
        """
        now = self._clock.monotonic()
        hit = self._from_cache(grant_id, min_ttl, at_least, now)
        return hit or self._from_row(grant_id, min_ttl, at_least, now + self._timing.wait)

    def _from_row(self, grant_id: str, min_ttl: float | None, at_least: int, give_up_at: float) -> Fresh:
        while True:
            flight, mine = self._flights.join(grant_id)
            if mine:
                led = self._flights.lead(grant_id, flight, lambda: self._lead(grant_id, min_ttl, give_up_at))
                return self._at_least(led, at_least)
            shared = self._follow(grant_id, flight, give_up_at)
            if (
                shared is not None
                and shared.token_version >= at_least
                and self.is_fresh(shared, min_ttl=min_ttl)
            ):
                return self._found(shared.seen, "waited", min_ttl)
            hit = self._from_cache(grant_id, min_ttl, at_least, self._clock.monotonic())
            if hit is not None:
                return hit

    def _at_least(self, led: Fresh, at_least: int) -> Fresh:
        """Refuse a row that went back: restored, or its database's clock set back after an `expire`.

        Here and not in the flight, which callers with other wishes share.
        """
        if led.token_version < at_least:
            raise StoreUnavailable(
                f"The database shows grant {led.grant.id} as it was before a token set that was used already."
            )
        return led

    def is_fresh(self, fresh: Fresh, *, min_ttl: float | None = None) -> bool:
        """Return whether ``fresh`` may still be used now."""
        until = fresh.until if fresh.min_ttl == min_ttl else self._window(fresh.seen, min_ttl)[1]
        return self._clock.monotonic() < until

    def refused(self, fresh: Fresh, *, min_ttl: float | None = None) -> Fresh:
        """Return what to use after a resource server refused the access token of ``fresh``.

        The row is read first: if it has a newer token set, that one is returned and nothing is
        redeemed. A token set that is younger than `YOUNG` is returned as it is, or a resource server
        that refuses everything would cost a redemption for each request. So is one that cannot be
        rotated: one resource server's refusal must not end it for all others. Errors as in `fresh`.
        """
        seen = self._load(fresh.grant.id)
        if seen.grant.token_version <= fresh.token_version:
            if seen.grant.tokens.refresh_token is None or self._is_young(seen.grant):
                return fresh
            self._store.expire(fresh.grant.id, fresh.token_version)
        replacement = self.fresh(fresh.grant.id, min_ttl=min_ttl, at_least=fresh.token_version + 1)
        self._replacements.note(replacement.grant)
        return replacement

    def _is_young(self, grant: Grant) -> bool:
        lifetime = grant.tokens.lifetime
        if lifetime is None:
            # Nothing tells when it was issued, but this process knows what its last refusal brought.
            return self._replacements.is_young(grant)
        return lifetime - grant.tokens.remaining(grant.seen_at) < min(YOUNG, lifetime * AHEAD_SHARE)

    def expire(self, grant_id: str) -> None:
        """Mark the stored access token as dead, for callers who learnt it elsewhere."""
        grant = self._load(grant_id).grant
        self._store.expire(grant_id, grant.token_version)
        self.forget(grant_id)

    def forget(self, grant_id: str) -> None:
        """Drop what this process remembers of the grant: it was replaced or changed from outside."""
        self._cache.forget(grant_id)
        # A flight that read the row before would hand what it saw to callers that come after.
        self._flights.forget(grant_id)

    def sign_out(self, grant_id: str) -> bool:
        """End the grant, then revoke its tokens at the provider; return whether this call ended it.

        The row comes first: from the moment it is ended no worker gets a token from it, and a
        redemption in flight revokes what it brings. A provider that is down changes nothing.
        Called again, it revokes again: the call before may have been cut off in between.
        """
        ended = self._store.end(grant_id, "signed_out")
        self.revoke_signed_out(grant_id, ended=ended)
        return ended

    def revoke_signed_out(self, grant_id: str, *, ended: bool) -> None:
        """Forget the grant, which its user ended, and revoke its tokens; ``ended``: tell the observer."""
        self.forget(grant_id)
        self._redeemer.save_what_is_unsaved()
        try:
            # Read after the end, so that a token set saved right before it is the one revoked.
            grant = self._store.load(grant_id)
        except GrantUnreadable:
            logger.exception("grant %s is signed out, but its tokens cannot be revoked", grant_id)
            return
        if grant is not None and self._redeemer.rescuer.take_up_for(grant):
            grant = self._store.load(grant_id)
        if grant is None or grant.end_reason != "signed_out":
            return
        if ended:
            self._observer.notify("grant_ended", grant, {"reason": "signed_out"})
        self._redeemer.revoke(grant, grant.tokens)

    def rescue(self) -> tuple[int, list[TokenRotateError]]:
        """Save every rescued token set of this host; return how many, and why others could not be."""
        return self._redeemer.rescuer.take_up()

    def rotate_ahead(self, grant_id: str, *, min_ttl: float | None = None) -> None:
        """Rotate a token that is still fresh, if nobody else does. Never raises our own errors.

        ``min_ttl`` is what the caller asked of `fresh`, for it decides what is near to expiry.

        A flight of its own: readers of the same grant go on with the current token meanwhile.
        """
        flight, mine = self._flights_ahead.join(grant_id)
        if not mine:
            return
        try:
            self._flights_ahead.lead(grant_id, flight, lambda: self._redeem_ahead(grant_id, min_ttl))
        except TokenRotateError:
            logger.warning("grant %s could not be rotated ahead", grant_id, exc_info=True)

    def _redeem_ahead(self, grant_id: str, min_ttl: float | None) -> None:
        epoch = self._cache.epoch
        seen = self._load(grant_id)
        policy = self._policy(seen.grant, min_ttl)
        decision = decide(seen.grant, seen.grant.seen_at, policy)
        if isinstance(decision, UseAndRotateAhead):
            try:
                rotated = self._redeemer.redeem(seen, decision.doubts, policy, awaited=False)
            except ProviderUnavailable:
                return
            if isinstance(rotated, Sighting):
                self._cache.put(rotated, epoch)

    def _from_cache(self, grant_id: str, min_ttl: float | None, at_least: int, now: float) -> Fresh | None:
        kept = self._cache.get(grant_id, now)
        if kept is None or kept.seen.grant.token_version < at_least:
            return None
        if min_ttl is not None:
            fresh, ahead_from = self._cached(kept.seen, min_ttl)
        elif kept.served is not None:
            fresh, ahead_from = kept.served
        else:
            fresh, ahead_from = kept.served = self._cached(kept.seen, None)
        if now < ahead_from:
            return fresh
        if now >= fresh.until:
            return None
        return replace(fresh, rotate_ahead=self._cache.start_ahead(grant_id, self._timing.claim))

    def _cached(self, seen: Sighting, min_ttl: float | None) -> tuple[Fresh, float]:
        ahead_from, until = self._window(seen, min_ttl)
        return Fresh(seen=seen, origin="cache", until=until, min_ttl=min_ttl), ahead_from

    def _found(
        self, seen: Sighting, origin: Origin, min_ttl: float | None, *, rotate_ahead: bool = False
    ) -> Fresh:
        until = self._window(seen, min_ttl)[1]
        return Fresh(seen=seen, origin=origin, until=until, rotate_ahead=rotate_ahead, min_ttl=min_ttl)

    def _window(self, seen: Sighting, min_ttl: float | None) -> tuple[float, float]:
        """Return on this process's monotonic clock the start of the ahead window and the end of freshness."""
        tokens = seen.grant.tokens
        shortest, ahead = margins(tokens, self._policy(seen.grant, min_ttl))
        until = seen.at + tokens.remaining(seen.grant.seen_at) - shortest
        return until - ahead, until

    def _policy(self, grant: Grant, min_ttl: float | None) -> Policy:
        policy = self._policy_for(grant.provider)
        return policy if min_ttl is None else replace(policy, min_ttl=min_ttl)

    def _follow(
        self, grant_id: str, flight: Flight[Fresh, TokenRotateError], give_up_at: float
    ) -> Fresh | None:
        """Wait for this process's flight and share its outcome; None: try again.

        Waiters share a failure as well. Trying in turn, each would wait for the same provider again.
        """
        left = give_up_at - self._clock.monotonic()
        if left <= 0 or not flight.landed.wait(left):
            raise RotationTimeout(grant_id, waited=self._timing.wait, retry_after=1.0)
        if flight.error is not None and not isinstance(flight.error, RotationTimeout):
            raise copy.copy(flight.error)
        return flight.result

    def _lead(self, grant_id: str, min_ttl: float | None, give_up_at: float) -> Fresh:
        """Look at the row and act on it until there is a token set or an error."""
        with self._wakeups.watch(grant_id) as watch:
            waiting = Waiting(self._clock, give_up_at, self._redeemer.rotation_times, watch)
            return self._look_and_act(grant_id, min_ttl, waiting)

    def _look_and_act(self, grant_id: str, min_ttl: float | None, waiting: Waiting) -> Fresh:
        overtaken: Overtaken | None = None
        while True:
            if overtaken is None:
                epoch = self._cache.epoch
                waiting.look()
            seen = self._load(grant_id, overtaken)
            waiting.found(seen.grant)
            self._cache.put(seen, epoch)
            grant = seen.grant
            policy = self._policy(grant, min_ttl)
            decision = decide(grant, grant.seen_at, policy)
            if isinstance(decision, Use | UseAndRotateAhead):
                return self._use(seen, decision, waiting.origin, min_ttl)
            if isinstance(decision, SignIn | Unavailable):
                self._give_up(grant, decision)
            if waiting.is_over():
                return self._last_resort(seen, waiting.origin, min_ttl)
            overtaken = None
            if isinstance(decision, ClaimAndRedeem):
                try:
                    rotated = self._redeemer.redeem(seen, decision.doubts, policy, awaited=True)
                except ProviderUnavailable:
                    if grant.tokens.remaining(grant.seen_at) <= 0:
                        raise
                    return self._found(seen, waiting.origin, min_ttl)
                if isinstance(rotated, Sighting):
                    self._cache.put(rotated, epoch)
                    return self._found(rotated, "rotated", min_ttl)
                overtaken = rotated
            else:
                if waiting.origin == "row":
                    self._observer.notify("waited", grant, {"decision": type(decision).__name__})
                waiting.sleep(grant, decision, policy)

    def _use(
        self, seen: Sighting, decision: Use | UseAndRotateAhead, origin: Origin, min_ttl: float | None
    ) -> Fresh:
        ahead = isinstance(decision, UseAndRotateAhead) and self._cache.start_ahead(
            seen.grant.id, self._timing.claim
        )
        return self._found(seen, origin, min_ttl, rotate_ahead=ahead)

    def _give_up(self, grant: Grant, decision: Unavailable | SignIn) -> NoReturn:
        if isinstance(decision, SignIn):
            raise SignInRequired(grant.provider, decision.reason)
        kind, _, error = decision.failure.partition(":")
        if kind == "misconfigured":
            raise ProviderMisconfigured(grant.provider, error, decision.retry_after)
        raise ProviderUnavailable(grant.provider, retry_after=decision.retry_after)

    def _last_resort(self, seen: Sighting, origin: Origin, min_ttl: float | None) -> Fresh:
        """At the end of the waiting: a token that still lives is better than an error."""
        grant = seen.grant
        now = seen.now(self._clock.monotonic())
        if grant.tokens.remaining(now) > 0:
            return self._found(seen, origin, min_ttl)
        standing = grant.standing
        retry_after = 1.0 if standing is None else max(standing.deadline - now, 1.0)
        raise RotationTimeout(grant.id, waited=self._timing.wait, retry_after=retry_after)

    def _load(self, grant_id: str, overtaken: Overtaken | None = None) -> Sighting:
        """Look at the row; or at what a lost claim found in it just now, which spares each loser a read."""
        saved = self._redeemer.save_what_is_unsaved()
        # What was saved just now is not in a row that was seen before.
        grant = self._store.load(grant_id) if overtaken is None or saved else overtaken.row
        if grant is None:
            raise SignInRequired(None, "no_grant")
        if self._redeemer.rescuer.take_up_for(grant):
            grant = self._store.load(grant_id) or grant
        if self._redeemer.has_unsaved(grant_id):
            # The row still has the refresh token that this process has spent; after the claim's
            # deadline it would look in doubt, and a replay would kill the successor held here.
            raise StoreUnavailable(f"The new token set of grant {grant_id} is not saved yet.")
        return Sighting(grant, self._clock.monotonic())

    def _forget_parent(self) -> None:
        """In a forked child: flights of the parent's threads would never land here."""
        self._cache = self._cache.empty_copy()
        self._flights = Flights(self._clock, TokenRotateError)
        self._flights_ahead = Flights(self._clock, TokenRotateError)
        self._redeemer.breaker.forget()
