"""The pause after failures in a row, the same for a grant and for a provider."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Limits(Protocol):
    """The first pause and the longest, in seconds."""

    @property
    def backoff(self) -> float:
        """The pause after the first failure."""
        ...

    @property
    def backoff_limit(self) -> float:
        """The longest pause."""
        ...


def backoff(limits: Limits, failures: int, jitter: Callable[[], float]) -> float:
    """Return the pause in seconds after ``failures`` earlier ones in a row: doubled with each, then varied.

    ``jitter`` returns a number from 0 to 1; it spreads the pause over three to five quarters, so that those
    whom one outage met at once do not come back at once.
    """
    pause = min(limits.backoff * 2 ** min(failures, 20), limits.backoff_limit)
    return float(pause * (0.75 + 0.5 * jitter()))
