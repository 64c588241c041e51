"""A grant as it was read, and what a request gets from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .tokens import Grant, TokenSet

Origin = Literal["cache", "row", "rotated", "waited"]


@dataclass(frozen=True, slots=True)
class Sighting:
    """A grant with the moment on this process's monotonic clock at which its ``seen_at`` was true.

    ``at`` is taken after the database answered, so `now` is never ahead of the database's clock and
    a token never seems to live longer than it does by more than one round trip.
    """

    grant: Grant
    at: float

    def now(self, monotonic: float) -> float:
        """Return the database's time at ``monotonic``, without asking it."""
        return self.grant.seen_at + (monotonic - self.at)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fresh:
    """A token set that may be used now.

    ``origin``: where this caller got it from: the process cache, the row, a redemption of this process
    (``"rotated"``), or another worker that it waited for. ``until`` is the moment on this process's
    monotonic clock up to which a caller who asked for ``min_ttl`` may use it. ``rotate_ahead`` asks the
    caller to call `FreshTokens.rotate_ahead` once its response was sent; only where no thread can do it.
    """

    seen: Sighting
    origin: Origin
    until: float
    rotate_ahead: bool = False
    min_ttl: float | None = None

    @property
    def grant(self) -> Grant:
        """The grant that the token set belongs to."""
        return self.seen.grant

    @property
    def tokens(self) -> TokenSet:
        """The token set itself."""
        return self.seen.grant.tokens

    @property
    def token_version(self) -> int:
        """Which token set of the grant this is."""
        return self.seen.grant.token_version
