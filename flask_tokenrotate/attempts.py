"""Sign-in attempts: what a sign-in needs until its callback, and the contract of the store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from .rotation.tokens import Secret


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One sign-in that a browser has begun: what the callback needs and nobody else may know.

    ``next_url`` is the same-origin relative address to come back to, ``scopes`` what was asked for.
    """

    provider: str
    verifier: Secret
    nonce: Secret
    redirect_uri: str
    next_url: str = "/"
    scopes: frozenset[str] = frozenset()


AttemptMiss = Literal["unknown_state", "no_cookie", "other_browser", "expired", "already_used"]


class AttemptStore(Protocol):
    """The sign-ins under way. Transactions, clock and errors as in `GrantStore`.

    State and browser id are stored as hashes and the attempt sealed, so that the table is of no use
    to a reader.
    """

    def begin(self, state: Secret, browser: Secret, attempt: Attempt, *, seconds: float) -> None:
        """Store ``attempt`` under ``state`` for ``seconds``, bound to the browser; prune expired ones."""
        ...

    def take(self, state: Secret, browser: Secret | None) -> Attempt | AttemptMiss:
        """Use the attempt up and return it, or say why not; only a success uses it up.

        A state is used at most once however many callbacks arrive together (compare-and-set).
        """
        ...
