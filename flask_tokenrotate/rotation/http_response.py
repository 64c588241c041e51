"""What came of one HTTP request, as the transport reports it: a response as it arrived, or none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime

MAX_RETRY_AFTER = 3600.0
"""Seconds; a longer ``Retry-After`` is cut to it: one call an hour is bearable for any provider."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpResponse:
    """One HTTP response as it arrived: nothing parsed.

    ``complete`` is False when the body was cut or too long, ``timed_out`` True when the deadline cut it.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    complete: bool = True
    timed_out: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class NoResponse:
    """The exchange failed. ``sent`` False: not a byte of the request left this process."""

    sent: bool
    cause: str
    timed_out: bool = False


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds in ``retry-after`` (lower-case names), None when there is no usable value.

    A date (RFC 9110 section 10.2.3) counts from the response's own ``date``, so that the provider's
    clock is compared with itself.
    """
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", value):
        return min(float(value), MAX_RETRY_AFTER)
    until, now = _date(value), _date(headers.get("date", ""))
    if until is None or now is None:
        return None
    return min(max((until - now).total_seconds(), 0.0), MAX_RETRY_AFTER)


def _date(value: str) -> datetime | None:
    """Return the aware time of an HTTP date, None for anything else."""
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return moment if moment.tzinfo is not None else None
