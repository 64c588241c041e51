"""The tokens that the FakeProvider has issued, and which of them are valid.

A family is all tokens of one sign-in. It is revoked as a whole when a spent refresh token is used again (RFC
9700 section 4.14.2), when a code is used again (RFC 6749 section 4.1.2), or when a refresh token is revoked
(RFC 7009 section 2.1). All times are in seconds by the ledger's own clock.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ...rotation.tokens import Secret

CODE_SECONDS = 60.0


def new_token(kind: Literal["access", "refresh"]) -> Secret:
    """Return a new random token; its prefix makes a leaked token easy to find in a log."""
    return Secret(f"fake-{kind}-{secrets.token_urlsafe(24)}")


@dataclass(kw_only=True, slots=True)
class Family:
    """All tokens of one sign-in. ``id`` is a name for logs, not a secret."""

    id: str
    user: str
    scopes: tuple[str, ...]
    alive: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """What one redemption issued."""

    access_token: Secret
    refresh_token: Secret


@dataclass(kw_only=True, slots=True)
class RefreshToken:
    """A refresh token; once it was spent, ``spent_at`` and ``successor`` are set."""

    family: Family
    spent_at: float | None = None
    successor: Pair | None = None


@dataclass(kw_only=True, slots=True)
class AccessToken:
    """An access token. It dies at ``expires_at`` or with its family, whichever is first."""

    family: Family
    expires_at: float


@dataclass(kw_only=True, slots=True)
class Code:
    """An authorization code. The first request with it uses it; ``family`` is what it was exchanged for."""

    user: str
    scopes: tuple[str, ...]
    redirect_uri: str
    challenge: str
    expires_at: float
    used: bool = False
    family: Family | None = None


class Ledger:
    """All codes and tokens. Hold ``lock`` over everything that belongs to one request."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.lock = threading.RLock()
        self.codes: dict[Secret, Code] = {}
        self.refresh_tokens: dict[Secret, RefreshToken] = {}
        self.access_tokens: dict[Secret, AccessToken] = {}

    def start_family(self, user: str, scopes: tuple[str, ...]) -> Family:
        """Return a new family that has no tokens yet."""
        return Family(id=secrets.token_hex(4), user=user, scopes=scopes)

    def issue(
        self,
        family: Family,
        *,
        access_token: Secret,
        refresh_token: Secret | None,
        seconds: float,
        spends: Secret | None = None,
    ) -> None:
        """Add new tokens. The access token is valid for ``seconds``; ``spends`` is the one spent."""
        self.access_tokens[access_token] = AccessToken(family=family, expires_at=self.now() + seconds)
        if refresh_token is None:
            return
        self.refresh_tokens[refresh_token] = RefreshToken(family=family)
        if spends is not None:
            spent = self.refresh_tokens[spends]
            spent.spent_at = self.now()
            spent.successor = Pair(access_token=access_token, refresh_token=refresh_token)

    def repeat_of(self, spent: RefreshToken, grace_seconds: float) -> Pair | None:
        """Return the pair that a spent token gets once more within the grace period, or None.

        Only the token before the newest one gets it. If its successor was spent, the client has received the
        response, so the old token must come from somebody else.
        """
        if spent.spent_at is None or spent.successor is None:
            return None
        if self.now() >= spent.spent_at + grace_seconds:
            return None
        newest = self.refresh_tokens[spent.successor.refresh_token].spent_at is None
        return spent.successor if newest else None

    def bearer(self, token: Secret) -> AccessToken | None:
        """Return the access token if it is alive."""
        found = self.access_tokens.get(token)
        if found is None or not found.family.alive or self.now() >= found.expires_at:
            return None
        return found

    def revoke(self, token: Secret) -> Family | None:
        """End a refresh token's whole family, or one access token; return the family, None if unknown."""
        family = self.family_of(token)
        if family is not None and token in self.refresh_tokens:
            family.alive = False
        if token in self.access_tokens:
            self.access_tokens[token].expires_at = self.now()
        return family

    def family_of(self, token: Secret) -> Family | None:
        """Return the family of a token of either kind, dead or alive; None if it is unknown."""
        found = self.refresh_tokens.get(token) or self.access_tokens.get(token)
        return found.family if found else None

    def expire(self, *, user: str | None = None, family: Family | None = None) -> int:
        """End all living access tokens, or those of a user or a family; return how many there were."""
        ended = 0
        for token, record in self.access_tokens.items():
            if user in (None, record.family.user) and family in (None, record.family) and self.bearer(token):
                record.expires_at = self.now()
                ended += 1
        return ended

    def live_tokens(self, user: str | None = None) -> int:
        """Return how many access and refresh tokens could still be used."""
        access = [record.family for token, record in self.access_tokens.items() if self.bearer(token)]
        refresh = [
            record.family
            for record in self.refresh_tokens.values()
            if record.family.alive and record.spent_at is None
        ]
        return sum(user in (None, family.user) for family in access + refresh)
