"""The log of the FakeProvider: each request and its outcome. It decides who won a race."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Literal

Outcome = Literal[
    "issued",
    "rotated",
    "kept",
    "repeated",
    "reused",
    "refused",
    "rejected",
    "failed",
    "limited",
    "reset",
    "revoked",
]
_TOKEN_NOT_LOOKED_AT = ("rejected", "failed", "limited", "reset")


@dataclass(frozen=True, kw_only=True, slots=True)
class LogEntry:
    """One request to the token or the revocation endpoint. It has no token in it.

    ``at`` is in seconds by the provider's clock, ``presented`` the fingerprint (`Secret.fingerprint`)
    of the refresh token, or of the token to revoke, ``family`` the name of its family. ``status`` is
    the HTTP status, 0 after a reset; ``delivered`` is False if the response was not sent in full.

    ============  ============================================================================
    Outcome       Meaning
    ============  ============================================================================
    ``issued``    a code was exchanged
    ``rotated``   a refresh token was spent for a new pair
    ``kept``      a new access token; rotation is off
    ``repeated``  a spent refresh token got its successor once more, inside the grace period
    ``reused``    a spent refresh token or code was used again: the family is revoked
    ``refused``   a refresh token or code is unknown, or its family is revoked
    ``rejected``  any other error of the client (its secret, its parameters)
    ``failed``    refused without being processed (``outage``, ``fail_next``)
    ``limited``   refused with 429 (``rate_limit_next``)
    ``reset``     the connection was reset before processing (``reset_next``)
    ``revoked``   a token was revoked, or was not known to begin with (RFC 7009 section 2.2)
    ============  ============================================================================
    """

    at: float
    endpoint: Literal["token", "revoke"]
    grant_type: str | None
    presented: str | None
    family: str | None
    user: str | None
    outcome: Outcome
    status: int
    delivered: bool


class Journal:
    """The entries in the order of processing, and their counts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: list[LogEntry] = []

    def append(self, entry: LogEntry) -> None:
        """Add an entry."""
        with self._lock:
            self._entries.append(entry)

    def clear(self) -> None:
        """Delete all entries."""
        with self._lock:
            self._entries.clear()

    def entries(self) -> list[LogEntry]:
        """Return the entries, oldest first."""
        with self._lock:
            return list(self._entries)

    def presentations(self) -> Counter[str]:
        """Return how often each refresh token was presented, by fingerprint.

        Requests that were rejected, refused or reset before processing do not count: they did not change the
        refresh token.
        """
        return Counter(
            entry.presented
            for entry in self.entries()
            if entry.endpoint == "token" and entry.presented and entry.outcome not in _TOKEN_NOT_LOOKED_AT
        )

    def double_presentations(self) -> dict[str, int]:
        """Return the refresh tokens that were presented more than once, and how often."""
        return {token: times for token, times in self.presentations().items() if times > 1}

    def outcomes(self) -> Counter[str]:
        """Return how many entries there are of each outcome."""
        return Counter(entry.outcome for entry in self.entries())

    def families_revoked(self) -> int:
        """Return how many families were revoked because of reuse."""
        return len({entry.family for entry in self.entries() if entry.outcome == "reused"})

    def as_json(self) -> dict[str, object]:
        """Return everything as plain values, for ``/log``."""
        presentations = self.presentations()
        return {
            "redemptions": presentations.total(),
            "presentations": dict(presentations),
            "double_presentations": self.double_presentations(),
            "families_revoked": self.families_revoked(),
            "outcomes": dict(self.outcomes()),
            "entries": [asdict(entry) for entry in self.entries()],
        }
