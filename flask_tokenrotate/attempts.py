"""Sign-in attempts: what a sign-in needs until its callback, and the contract of the store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from .rotation.tokens import Secret

KEEP_EXPIRED_SECONDS = 3600.0
"""How long an expired attempt is kept, so that a user who returns late is told that it has expired."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One sign-in that a browser has begun: what the callback needs, and nobody else may see.

    ``next_url`` is the relative address to return to, on this origin; ``scopes`` are those requested.
    """

    provider: str
    verifier: Secret
    nonce: Secret
    redirect_uri: str
    next_url: str = "/"
    scopes: frozenset[str] = frozenset()


AttemptMiss = Literal["unknown_state", "no_cookie", "other_browser", "expired", "already_used"]


class AttemptStore(Protocol):
    """Sign-ins in progress. Transactions, clock and errors as in `GrantStore`.

    State and browser id are stored as hashes, and the attempt is sealed: a copy of the table shows neither.
    """

    def begin(self, state: Secret, browser: Secret, attempt: Attempt, *, seconds: float) -> None:
        """Store ``attempt`` under ``state`` for ``seconds``, bound to the browser; delete expired ones."""
        ...

    def take(self, state: Secret, browser: Secret | None) -> Attempt | AttemptMiss:
        """Mark the attempt as used and return it, or return why not; only a success uses it.

        A state is used at most once, however many callbacks arrive together (compare-and-set).
        """
        ...
