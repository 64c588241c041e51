"""The arithmetic: percentiles and ratios."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that ``share`` of all values do not exceed (nearest rank)."""
    if not values or not 0 < share <= 1:
        raise ValueError("a percentile needs values, and a share above 0 and at most 1")
    return sorted(values)[math.ceil(share * len(values)) - 1]


def percentile_at_least(values: Sequence[float], share: float) -> float:
    """Return what the percentile most probably is at the least: two standard errors of its rank below it.

    The highest percentiles of a few hundred values hang on two or three of them.
    """
    error = share_error(share, len(values))
    return percentile(values, max(share - 2 * error, 1 / len(values)))


def share_above(values: Sequence[float], limit: float) -> float:
    """Return the share of ``values`` that exceed ``limit``; 0 where there are none."""
    return sum(value > limit for value in values) / len(values) if values else 0.0


def share_error(share: float, count: int) -> float:
    """Return the standard error of a share that was found among ``count`` values."""
    return math.sqrt(share * (1 - share) / count)


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median, over the rounds, of what was measured side by side in one round."""
    return median(one / other for one, other in zip(ours, theirs, strict=True))


def median_difference(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of the differences round by round: noise that lasts a round cancels out."""
    return median(one - other for one, other in zip(ours, theirs, strict=True))
