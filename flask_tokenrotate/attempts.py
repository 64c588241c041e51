"""Sign-in attempts: what the callback needs to complete a sign-in, and the contract of their store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from .rotation.tokens import Secret

KEEP_EXPIRED_SECONDS = 3600.0
"""How long an expired attempt is kept, so that a user who comes back late gets the right error."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One sign-in that a browser has begun.

    ``verifier`` is the PKCE verifier. ``next_url`` is the relative URL to redirect to after the sign-in;
    ``scopes`` are the requested ones.
    """

    provider: str
    verifier: Secret
    nonce: Secret
    redirect_uri: str
    next_url: str = "/"
    scopes: frozenset[str] = frozenset()


AttemptMiss = Literal["unknown_state", "no_cookie", "other_browser", "expired", "already_used"]


class AttemptStore(Protocol):
    """Stores attempts. Transactions, clock and errors are as in `GrantStore`.

    State and browser id are stored as hashes, and the attempt is encrypted: a copy of the table is useless.
    """

    def begin(self, state: Secret, browser: Secret, attempt: Attempt, *, seconds: float) -> None:
        """Store ``attempt`` for ``seconds``, bound to the state and the browser; delete expired attempts."""
        ...

    def take(self, state: Secret, browser: Secret | None) -> Attempt | AttemptMiss:
        """Mark the attempt as used and return it, or return the reason why there is none.

        Of several callbacks with one state, at most one gets the attempt (compare-and-set).
        """
        ...
