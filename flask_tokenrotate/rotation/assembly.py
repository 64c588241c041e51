"""Puts the parts of the protocol together on the ports of one application and process."""

from __future__ import annotations

import random
from collections.abc import Callable

from ..forks import call_in_forked_child
from .ahead import Ahead
from .asking import Asking
from .breaker import Breaker
from .cache import GrantCache
from .ending import Ending
from .flights import Flights
from .fresh_tokens import FreshTokens
from .holding import Timing
from .ports import Clock, GrantStore, Observer, Rescue, Threads, TokenEndpoint, Wakeups
from .protocol import Policy
from .redeemer import Redeemer, this_worker
from .refused_tokens import RefusedTokens
from .revocation import Revocation
from .rotation_times import RotationTimes
from .rows import Rows
from .token_sets import TokenSets
from .unsaved import UnsavedTokenSets
from .windows import Windows


class Rotation:
    """What the rest of the extension uses of the protocol.

    ``tokens`` gives token sets, ``ahead`` rotates them early, ``refused`` replaces those that a resource
    server refused, ``ending`` ends grants, ``rows`` reads them, ``token_sets`` caches what was decrypted, and
    ``unsaved`` holds what could not be saved. Durations are in
    seconds.
    """

    def __init__(
        self,
        *,
        store: GrantStore,
        endpoint: TokenEndpoint,
        clock: Clock,
        observer: Observer,
        rescue: Rescue,
        wakeups: Wakeups,
        threads: Threads,
        policy_for: Callable[[str], Policy],
        timing: Timing,
        wait_seconds: float,
        cache_entries: int,
        cache_seconds: float,
        holder: Callable[[], str] = this_worker,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.token_sets = TokenSets(entries=cache_entries)
        self.cache = GrantCache(clock, entries=cache_entries, seconds=cache_seconds)
        self.breaker = Breaker(
            clock,
            backoff=timing.backoff,
            backoff_limit=timing.backoff_limit,
            probe_seconds=timing.redeem,
            jitter=jitter,
        )
        revocation = Revocation(store, endpoint, clock)
        self.unsaved = UnsavedTokenSets(store, rescue, revocation)
        times = RotationTimes()
        redeemer = Redeemer(
            store,
            endpoint,
            clock,
            threads,
            self.breaker,
            self.unsaved,
            revocation,
            times,
            timing,
            holder=holder,
            jitter=jitter,
        )
        self.flights = Flights(redeemer, self.cache, threads, clock, observer)
        self.rows = rows = Rows(store, self.unsaved, clock, claim_seconds=timing.claim)
        windows = Windows(policy_for)
        self.ahead = Ahead(rows, self.flights, self.cache, windows, pause_seconds=timing.claim)
        asking = Asking(
            rows,
            self.flights,
            self.ahead,
            self.cache,
            windows,
            wakeups,
            times,
            self.breaker,
            clock,
            wait_seconds=wait_seconds,
        )
        self.tokens = FreshTokens(
            rows, asking, self.ahead, self.flights, self.cache, windows, clock, wait_seconds=wait_seconds
        )
        self.refused = RefusedTokens(store, rows, self.tokens, clock)
        self.ending = Ending(store, rows, self.tokens, self.unsaved, revocation, observer)
        call_in_forked_child(self._reset)

    def _reset(self) -> None:
        """In a forked child: what threads of the parent were doing never ends here."""
        self.tokens.reset()
        self.refused.reset()
        self.breaker.reset()
        self.token_sets.reset()
