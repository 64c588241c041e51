"""How long a request waits for a redemption, and when it reads the row of another process's again."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .flight import Flight
from .ports import Clock, Watch
from .protocol import Freshness, InDoubt, Policy, Wait, freshness
from .rotation_times import RotationTimes
from .sighting import Origin, Sighting
from .tokens import Grant, StandingClaim

SHORTEST = 0.02
LONGEST = 1.0
GROWTH = 1.6

NOT_NOTIFIED = 0.25
"""Seconds beyond twice the usual time, after which a worker reads the row though no notification came."""

PROBE_SECONDS = 1.0
"""How long a request waits for the probe of a provider that counts as away: it may well hang as before."""


def pauses(expected: float, elapsed: float, *, notified: bool) -> Iterator[float]:
    """Yield the seconds to wait before each look at the row, without end.

    The first look comes when the holder, who claimed ``elapsed`` seconds ago, will probably have
    saved: a look before that is a statement for nothing. Later ones come ever more rarely. ``notified``: the
    worker expects a notification of the save, and looks by itself only in case none comes.
    """
    due = 2 * expected + NOT_NOTIFIED if notified else expected
    yield max(SHORTEST, due - elapsed)
    pause = max(SHORTEST, due / 4)
    while True:
        yield min(pause, LONGEST)
        pause *= GROWTH


class Waiting:
    """The waiting of one request for one grant: what is left of it, and when to look next.

    It ends at ``until`` by the monotonic clock, and ``wait`` seconds after the claim was taken that it waits
    for: who comes late to a slow provider does not wait. ``is_away`` says whether a provider counts as away;
    whoever then begins to wait for another process's claim waits for a probe. ``without_end``: a caller that
    has nobody to leave the work to waits for the end of the call.
    """

    def __init__(
        self,
        clock: Clock,
        wait: float,
        times: RotationTimes,
        watch: Watch,
        *,
        until: float,
        is_away: Callable[[str], bool] = lambda provider: False,
        without_end: bool = False,
    ) -> None:
        self._clock = clock
        self._wait = wait
        self._until = until
        self._is_away = is_away
        self._without_end = without_end
        self._limited: tuple[int, float] | None = None
        self._times = times
        self._watch = watch
        self._looks: Iterator[float] | None = None
        self._waited_for: StandingClaim | None = None
        self._was_notified = False
        self._has_waited = False

    @property
    def origin(self) -> Origin:
        """Where a token set comes from that is found now: ``"waited"`` after the first wait."""
        return "waited" if self._has_waited else "row"

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it is left, whatever it was for."""
        return self._clock.monotonic() >= self._until

    def is_over(self, seen: Sighting) -> bool:
        """Return whether nothing of it is left for the claim on the row."""
        return self._left(seen) <= 0

    def look(self) -> None:
        """Prepare for a look at the row: a notification from now on is news."""
        self._watch.clear()

    def found(self, grant: Grant) -> None:
        """Learn from the row, after a look, how long the rotation took that was waited for."""
        standing = self._waited_for
        if standing is not None and grant.token_version == standing.claim.version:
            seconds = grant.seen_at - standing.taken_at
            self._times.found_done(grant.provider, seconds, exact=self._was_notified)

    def until_landed(self, flight: Flight) -> bool:
        """Wait for a redemption of this process; return whether it has landed in time."""
        self._has_waited = True
        if self._without_end:
            while not flight.landed.wait(self._wait):
                pass
            return True
        # Whether it is a probe may not be known before its thread has begun.
        return flight.landed.wait(min(PROBE_SECONDS, self.left_for(flight))) or flight.landed.wait(
            self.left_for(flight)
        )

    def left_for(self, flight: Flight) -> float:
        """Return the seconds that are left for a redemption of this process."""
        until = self._until
        if flight.claimed_at is not None:
            # Counted from the claim for a probe, too: else each who comes during it would wait a second more.
            wait = min(self._wait, PROBE_SECONDS) if flight.is_probe else self._wait
            until = min(until, flight.claimed_at + wait)
        return max(0.0, until - self._clock.monotonic())

    def sleep(self, seen: Sighting, decision: Wait | InDoubt, policy: Policy) -> None:
        """Sleep until the next look at the row is worth its statement."""
        self._has_waited = True
        grant = seen.grant
        if isinstance(decision, InDoubt):
            due = decision.settled_at - grant.seen_at
            # Who replays then is a new holder: its response is due as long after as any other.
            self._looks = self._waited_for = None
        else:
            self._waited_for = decision.standing
            due = decision.standing.deadline - grant.seen_at
            due = min(due, self._next_look(grant, decision.standing, policy))
        self._was_notified = self._watch.wait(max(0.0, min(due, self._left(seen))))

    def _left(self, seen: Sighting) -> float:
        """Return the seconds that are left, counted from the claim that stands on the row if one does."""
        now = self._clock.monotonic()
        left = self._until - now
        standing = seen.grant.standing
        if standing is None:
            return left
        return min(left, standing.taken_at + self._wait_for(seen.grant, standing) - seen.now(now))

    def _wait_for(self, grant: Grant, standing: StandingClaim) -> float:
        """Return how long after it was taken the claim of another process is waited for.

        It may be a probe: without the limit each probe of one process would hold a request of each other
        until the end of its waiting. Who waits already when the provider begins to count as away goes on.
        """
        if self._limited is None or self._limited[0] != standing.claim.version:
            is_probe = self._is_away(grant.provider) and not self._without_end
            self._limited = standing.claim.version, min(self._wait, PROBE_SECONDS) if is_probe else self._wait
        return self._limited[1]

    def _next_look(self, grant: Grant, standing: StandingClaim, policy: Policy) -> float:
        if self._looks is None:
            expected = self._times.expected(grant.provider)
            # A claim that was taken while the token was fresh is a rotation ahead, which notifies nobody.
            was = freshness(grant.tokens, standing.taken_at, policy)
            notified = self._watch.is_notified and was in (Freshness.STALE, Freshness.EXPIRED)
            self._looks = pauses(expected, grant.seen_at - standing.taken_at, notified=notified)
        return next(self._looks)
