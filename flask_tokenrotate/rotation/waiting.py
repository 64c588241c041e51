"""How long to wait between two looks at a row that another worker is rotating."""

from __future__ import annotations

from collections.abc import Iterator

from .ports import Clock
from .protocol import InDoubt, Wait
from .sighting import Origin
from .tokens import Grant

FIRST_GUESS = 0.1
"""Seconds that a token endpoint is taken to need before this process has seen it answer."""

SHORTEST = 0.02
LONGEST = 1.0
GROWTH = 1.6


class AnswerTimes:
    """How long the token endpoint of each provider took lately, in seconds."""

    def __init__(self) -> None:
        self._typical: dict[str, float] = {}

    def record(self, provider: str, seconds: float) -> None:
        """Take one more answer into account (a moving average, the newest weighs a third)."""
        before = self._typical.get(provider, seconds)
        self._typical[provider] = before + (seconds - before) / 3

    def typical(self, provider: str) -> float:
        """Return what the next answer of ``provider`` will probably take, in seconds."""
        return self._typical.get(provider, FIRST_GUESS)


def pauses(typical: float, elapsed: float) -> Iterator[float]:
    """Yield the seconds to wait before each look at the row, without end.

    The first look comes when the holder, who claimed ``elapsed`` seconds ago, will probably have
    answered: a look before that is a statement for nothing. Later ones come ever more rarely.
    """
    yield max(SHORTEST, typical - elapsed)
    pause = max(SHORTEST, typical / 4)
    while True:
        yield min(pause, LONGEST)
        pause *= GROWTH


class Waiting:
    """The waiting of one worker for one grant: what is left of it, and when to look next.

    Ends at ``until`` on the monotonic clock, before the web server loses its own patience.
    """

    def __init__(self, clock: Clock, until: float, answer_times: AnswerTimes) -> None:
        self._clock = clock
        self._until = until
        self._answer_times = answer_times
        self._looks: Iterator[float] | None = None
        self._has_waited = False

    @property
    def origin(self) -> Origin:
        """Where a token set comes from that is found now: ``"waited"`` after the first wait."""
        return "waited" if self._has_waited else "row"

    def is_over(self) -> bool:
        """Return whether nothing of it is left."""
        return self._clock.monotonic() >= self._until

    def sleep(self, grant: Grant, decision: Wait | InDoubt) -> None:
        """Sleep until the next look at the row is worth its statement."""
        self._has_waited = True
        if isinstance(decision, InDoubt):
            due = decision.settled_at - grant.seen_at
            # Who replays then is a new holder: its answer is due as long after as any other.
            self._looks = None
        else:
            due = decision.standing.deadline - grant.seen_at
            due = min(due, self._next_look(grant, decision))
        self._clock.sleep(max(0.0, min(due, self._until - self._clock.monotonic())))

    def _next_look(self, grant: Grant, decision: Wait) -> float:
        if self._looks is None:
            elapsed = grant.seen_at - decision.standing.taken_at
            self._looks = pauses(self._answer_times.typical(grant.provider), elapsed)
        return next(self._looks)
