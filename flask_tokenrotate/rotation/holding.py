"""A claim in the hands of its live holder: until when it may post, and how it keeps the claim while it waits.

The posting thread itself renews the claim, between two reads of its socket. So no renewal outlives its post,
and no post goes on whose claim nobody renews: both end with the same thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from .ports import Clock, GrantStore, Threads
from .tokens import Claim

logger = logging.getLogger("flask_tokenrotate")

RESPONSE_SECONDS = 60.0
"""How long after its claim a holder waits for the response, and renews the claim; then it gives up."""

RENEWALS_PER_CLAIM = 3
"""How often a claim is renewed in the time that it stands, so that one renewal may fail."""

RETRY_SECONDS = 1.0
"""How soon a renewal is tried again while the database is away."""

LONGEST_READ_SECONDS = 1.0
"""How long one read waits at most, before it is looked at whether the process exits."""

SHORTEST_READ_SECONDS = 0.05
"""How long one read waits at least while the call goes on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """How long things may take, as the settings say; all in seconds.

    ``redeem``: connecting and sending, and how long a response may take before the provider counts as
    failing. ``claim``: how long a claim stands without a renewal; longer than ``redeem``. ``backoff`` and
    ``backoff_limit``: the pause after the first failure, doubled with each more, up to the limit.
    """

    redeem: float
    claim: float
    backoff: float
    backoff_limit: float


class Holding:
    """The time of one claim, by its holder's own monotonic clock.

    ``claimed_at`` is a moment *before* the claim was sent: a process that is stopped between the claim's
    COMMIT and its next line must not think that it has time. ``overdue`` is called once, when the response
    has not come in ``Timing.redeem``.
    """

    def __init__(
        self,
        claim: Claim,
        claimed_at: float,
        store: GrantStore,
        clock: Clock,
        threads: Threads,
        timing: Timing,
        overdue: Callable[[], None],
    ) -> None:
        self._claim = claim
        self._claimed_at = claimed_at
        self._store = store
        self._clock = clock
        self._threads = threads
        self._timing = timing
        self._overdue: Callable[[], None] | None = overdue
        self._overdue_at = claimed_at + timing.redeem
        self._next_renewal = claimed_at + timing.claim / RENEWALS_PER_CLAIM
        self._gives_up_at = claimed_at + RESPONSE_SECONDS
        self.renewals = 0

    @property
    def send_by(self) -> float:
        """Until when the request has to be sent: before the claim's first deadline, with a margin."""
        return self._claimed_at + self._timing.redeem

    def is_too_late_to_post(self) -> bool:
        """Return whether too little of the claim is left to connect and send."""
        spare = min(self._timing.claim - self._timing.redeem, self._timing.redeem / 2)
        return self._clock.monotonic() > self._claimed_at + spare

    def keep_waiting(self) -> float:
        """Renew the claim if that is due; return until when the next read may wait (see `TokenEndpoint`)."""
        now = self._clock.monotonic()
        if self._overdue is not None and now >= self._overdue_at:
            overdue, self._overdue = self._overdue, None
            overdue()
        if now >= self._gives_up_at or self._threads.are_closing:
            return now
        if now >= self._next_renewal:
            self._renew(now)
        # A renewal may have taken so long that what is due next is due already; that must not end the call.
        now = self._clock.monotonic()
        events = [self._gives_up_at, self._next_renewal, now + LONGEST_READ_SECONDS]
        until = min(events if self._overdue is None else [*events, self._overdue_at])
        return max(until, now + SHORTEST_READ_SECONDS)

    def _renew(self, now: float) -> None:
        """Extend the deadline, never beyond the moment at which the holder gives up.

        A renewal that fails never ends the call: its response may be the only copy of a token set.
        """
        seconds = min(self._timing.claim, self._gives_up_at - now)
        try:
            self.renewals += self._store.renew(self._claim, seconds=seconds)
            self._next_renewal = now + self._timing.claim / RENEWALS_PER_CLAIM
        except Exception as error:
            logger.warning("the claim on grant %s could not be renewed: %s", self._claim.grant_id, error)
            self._next_renewal = self._clock.monotonic() + RETRY_SECONDS
