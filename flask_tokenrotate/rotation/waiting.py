"""How long to wait between two looks at a row that another worker is rotating."""

from __future__ import annotations

from collections.abc import Iterator

from .ports import Clock, Watch
from .protocol import Freshness, InDoubt, Policy, Wait, freshness
from .sighting import Origin
from .tokens import Grant, StandingClaim

FIRST_GUESS = 0.1
"""Seconds that a rotation is taken to need before this process has seen one."""

SHORTEST = 0.02
LONGEST = 1.0
GROWTH = 1.6

UNTOLD = 0.25
"""Seconds beyond twice the usual time, after which a worker that would have been told looks all the same."""


class RotationTimes:
    """How long a rotation at each provider took lately, from the claim to the save, in seconds.

    Average and deviation, as TCP estimates when an response is overdue (RFC 6298).
    """

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, float]] = {}

    def record(self, provider: str, seconds: float) -> None:
        """Take one more rotation into account; the newest weighs a third."""
        if provider not in self._seen:
            self._seen[provider] = (seconds, seconds / 8)
            return
        average, deviation = self._seen[provider]
        difference = seconds - average
        self._seen[provider] = (average + difference / 3, deviation + (abs(difference) - deviation) / 4)

    def found_done(self, provider: str, seconds: float, *, exact: bool) -> None:
        """Take into account that a rotation was done after ``seconds``; not ``exact``: or earlier.

        What only says "or earlier" must not push the average up, or each look would come later than the last.
        """
        if exact or seconds < self.expected(provider) or provider not in self._seen:
            self.record(provider, seconds)

    def expected(self, provider: str) -> float:
        """Return after how many seconds the next rotation at ``provider`` will most probably be done."""
        average, deviation = self._seen.get(provider, (FIRST_GUESS, 0.0))
        return average + 2 * deviation


def pauses(expected: float, elapsed: float, *, told: bool) -> Iterator[float]:
    """Yield the seconds to wait before each look at the row, without end.

    The first look comes when the holder, who claimed ``elapsed`` seconds ago, will probably have
    saved: a look before that is a statement for nothing. Later ones come ever more rarely. ``told``: the
    worker will be told of the save, and looks by itself only for the case that it was not.
    """
    due = 2 * expected + UNTOLD if told else expected
    yield max(SHORTEST, due - elapsed)
    pause = max(SHORTEST, due / 4)
    while True:
        yield min(pause, LONGEST)
        pause *= GROWTH


class Waiting:
    """The waiting of one worker for one grant: what is left of it, and when to look next.

    Ends at ``until`` on the monotonic clock, before the web server loses its own patience.
    """

    def __init__(self, clock: Clock, until: float, times: RotationTimes, watch: Watch) -> None:
        self._clock = clock
        self._until = until
        self._times = times
        self._watch = watch
        self._looks: Iterator[float] | None = None
        self._waited_for: StandingClaim | None = None
        self._was_told = False
        self._has_waited = False

    @property
    def origin(self) -> Origin:
        """Where a token set comes from that is found now: ``"waited"`` after the first wait."""
        return "waited" if self._has_waited else "row"

    def is_over(self) -> bool:
        """Return whether nothing of it is left."""
        return self._clock.monotonic() >= self._until

    def look(self) -> None:
        """Prepare for a look at the row: what is told from now on is news."""
        self._watch.clear()

    def found(self, grant: Grant) -> None:
        """Learn from the row, after a look, how long the rotation took that was waited for."""
        standing = self._waited_for
        if standing is not None and grant.token_version == standing.claim.version:
            seconds = grant.seen_at - standing.taken_at
            self._times.found_done(grant.provider, seconds, exact=self._was_told)

    def sleep(self, grant: Grant, decision: Wait | InDoubt, policy: Policy) -> None:
        """Sleep until the next look at the row is worth its statement."""
        self._has_waited = True
        if isinstance(decision, InDoubt):
            due = decision.settled_at - grant.seen_at
            # Who replays then is a new holder: its response is due as long after as any other.
            self._looks = self._waited_for = None
        else:
            self._waited_for = decision.standing
            due = decision.standing.deadline - grant.seen_at
            due = min(due, self._next_look(grant, decision.standing, policy))
        self._was_told = self._watch.wait(max(0.0, min(due, self._until - self._clock.monotonic())))

    def _next_look(self, grant: Grant, standing: StandingClaim, policy: Policy) -> float:
        if self._looks is None:
            expected = self._times.expected(grant.provider)
            # A claim that was taken while the token was fresh is a rotation ahead, which tells nobody.
            was = freshness(grant.tokens, standing.taken_at, policy)
            told = self._watch.is_told and was in (Freshness.STALE, Freshness.DEAD)
            self._looks = pauses(expected, grant.seen_at - standing.taken_at, told=told)
        return next(self._looks)
