"""Writes an outcome that must not get lost while the database is away for a moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ..errors import StoreUnavailable
from .ports import Clock

T = TypeVar("T")

PAUSES = (0.05, 0.2, 0.5, 1.0)
"""Seconds between the tries."""

LAST_TRY_SECONDS = 3.0
"""How long after the first try the last one may begin: a locked row or file says so only after seconds, and
five times that would be longer than anybody waits."""


def until_written(clock: Clock, write: Callable[[], T]) -> T:
    """Call ``write`` until the database accepts it. Raises `StoreUnavailable` when the tries are used up."""
    last_try_by = clock.monotonic() + LAST_TRY_SECONDS
    for pause in PAUSES:
        try:
            return write()
        except StoreUnavailable:
            if clock.monotonic() >= last_try_by:
                raise
            clock.sleep(pause)
    return write()
