"""The values of the protocol: secrets, token sets, grants and claims.

All are immutable. Points in time are seconds since the epoch by the **database's** clock,
durations are seconds; a process never compares its own wall clock with either.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NoReturn

EndReason = Literal["signed_out", "replaced", "refused", "abandoned", "other_subject"]


class Secret:
    """A string that does not print, log, format, pickle or compare in variable time.

    `reveal` and `encoded` are the only ways to the value; search for them to see every place that uses one.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the secret itself."""
        return self._value

    def encoded(self) -> bytes:
        """Return the secret itself as bytes, for hashing and comparing, whatever it holds.

        JSON and browsers can send lone surrogates, which plain UTF-8 refuses.
        """
        return self._value.encode("utf-8", "surrogatepass")

    def fingerprint(self) -> str:
        """Return a short hash that names this secret in logs and tests without revealing it."""
        return hashlib.sha256(b"tokenrotate:" + self.encoded()).hexdigest()[:12]

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.encoded(), other.encoded())

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled or copied out of its process")

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret:
        return self


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenResponse:
    """What one successful response of the token endpoint said, normalised; nothing is filled in.

    ``expires_in`` and ``refresh_expires_in`` are seconds from the moment of the response, None where
    the response gave no usable number. ``scopes`` and ``refresh_token`` are None where it gave none.
    """

    access_token: Secret
    refresh_token: Secret | None = None
    token_type: str = "Bearer"
    scopes: frozenset[str] | None = None
    expires_in: float | None = None
    refresh_expires_in: float | None = None
    id_token: Secret | None = None

    def token_set(self, *, now: float) -> TokenSet:
        """Return the token set of a first sign-in; ``now`` is the database's time of the request."""
        return TokenSet(
            access_token=self.access_token,
            refresh_token=self.refresh_token,
            token_type=self.token_type,
            scopes=self.scopes,
            expires_at=None if self.expires_in is None else now + self.expires_in,
            lifetime=self.expires_in,
            refresh_expires_at=None if self.refresh_expires_in is None else now + self.refresh_expires_in,
            id_token=self.id_token,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenSet:
    """The tokens of a grant, with absolute expiry.

    ``expires_at`` None: the provider did not say, so the access token counts as fresh until a
    resource server refuses it. ``lifetime`` is what the provider granted, in seconds, and bounds
    how early a rotation may come. ``scopes`` None: the provider did not say what it granted.
    """

    access_token: Secret
    refresh_token: Secret | None = None
    token_type: str = "Bearer"
    scopes: frozenset[str] | None = None
    expires_at: float | None = None
    lifetime: float | None = None
    refresh_expires_at: float | None = None
    id_token: Secret | None = None

    def remaining(self, now: float) -> float:
        """Return the seconds until the access token expires; infinite when unknown."""
        return float("inf") if self.expires_at is None else self.expires_at - now

    def rotated(self, response: TokenResponse, *, now: float) -> TokenSet:
        """Return the token set after ``response``, keeping what the response left out.

        An absent, null or empty refresh token keeps the stored one (RFC 6749 section 6), and an
        absent scope means the scope has not changed (section 5.1).
        """
        new = response.token_set(now=now)
        return replace(
            new,
            refresh_token=new.refresh_token or self.refresh_token,
            refresh_expires_at=new.refresh_expires_at if new.refresh_token else self.refresh_expires_at,
            scopes=self.scopes if new.scopes is None else new.scopes,
            id_token=new.id_token or self.id_token,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """A holder's right to redeem: won when its COMMIT returned, and only with this id.

    ``version`` is the row version that the claim produced (before its renewals) and the token version of
    the token set that its redemption will produce; ``redeems`` is the token version whose refresh token it
    spends.
    ``awaited``: requests may be waiting for its outcome, known to its holder only.
    """

    id: str
    grant_id: str
    version: int
    redeems: int
    awaited: bool = field(default=False, compare=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class StandingClaim:
    """The claim that stands on a row, as everybody sees it. Times are by the database's clock.

    ``taken_at`` stays when the claim is renewed; ``deadline`` moves.
    """

    claim: Claim
    holder: str
    taken_at: float
    deadline: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Grant:
    """One row: the family of tokens that descends from one sign-in, as it was read at ``seen_at``.

    ``version`` grows with every write of the protocol and by nothing else; ``token_version`` is the
    version of the claim whose redemption produced ``tokens`` (0 after sign-in). ``doubts`` counts
    the claims on the current refresh token that ended without a known outcome. ``retry_at`` is when
    the provider may be asked again after ``failure`` (the ledger's name of the verdict, with the provider's
    ``failure_code``), ``failures`` how many came in a row.
    """

    id: str
    provider: str
    tokens: TokenSet
    seen_at: float
    subject: str | None = None
    user_id: str | None = None
    created_at: float = 0.0
    version: int = 0
    token_version: int = 0
    standing: StandingClaim | None = None
    doubts: int = 0
    retry_at: float | None = None
    failure: str | None = None
    failure_code: str | None = None
    failures: int = 0
    ended_at: float | None = None
    end_reason: EndReason | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Unsaved:
    """A token set that has come and is not in the database yet; ``grant`` as its claim was taken on."""

    grant: Grant
    claim: Claim
    tokens: TokenSet
    http_status: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class NewGrant:
    """What `GrantStore.add` makes a row from. The tokens' times are relative: see `TokenResponse`.

    ``login_id``: that of the session that signed in, by which the grant is read with the session.
    """

    provider: str
    response: TokenResponse
    subject: str | None = None
    user_id: str | None = None
    login_id: str | None = None


def parse_scopes(value: object, separators: str = " ") -> frozenset[str] | None:
    """Return the set of scopes in a string (or a list of strings); None when there is none to read.

    RFC 6749 section 3.3 separates by spaces; some providers use commas, hence ``separators``.
    """
    if isinstance(value, str):
        for separator in separators:
            value = value.replace(separator, " ")
        return frozenset(value.split())
    if isinstance(value, Iterable) and not isinstance(value, bytes | dict):
        words = list(value)
        if all(isinstance(word, str) for word in words):
            return frozenset(words)
    return None
