"""Learns how long a rotation takes at each provider, so that waiting requests look when it is done."""

from __future__ import annotations

FIRST_GUESS = 0.1
"""Seconds that a rotation is expected to take before this process has seen one."""


class RotationTimes:
    """How long a rotation at each provider took lately, from the claim to the save, in seconds.

    Average and deviation, as TCP estimates when a response is overdue (RFC 6298).
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
