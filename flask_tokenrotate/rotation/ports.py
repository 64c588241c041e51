"""What the protocol needs from the world, as written contracts.

The simulator and the tests implement these in memory; `storage` and `providers` implement them on
SQLAlchemy and requests-oauthlib. One contract suite runs over every store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from ..errors import RescueFailed
from .tokens import Claim, EndReason, Grant, NewGrant, Secret, TokenSet, Unsaved
from .verdict import Verdict


class SaveOutcome(Enum):
    """What became of a token set that a holder wanted to save."""

    SAVED = "saved"
    SUPERSEDED = "superseded"
    ENDED = "ended"


@dataclass(frozen=True, kw_only=True, slots=True)
class Release:
    """How a claim is given up without a token set.

    ``in_doubt`` True: the redemption ended without a known outcome, which the row must remember.
    ``retry_after``: nobody asks the provider again for this many seconds; ``failure`` is a short
    code for people and for the other workers (``"busy"``, ``"misconfigured:invalid_client"``).
    ``verdict`` (one of `VERDICTS`) and ``http_status`` are what the ledger is told.
    """

    in_doubt: bool = False
    retry_after: float | None = None
    failure: str | None = None
    verdict: str = "not_posted"
    http_status: int | None = None

    @property
    def is_unspent(self) -> bool:
        """Whether the refresh token is known not to have been spent, so that its slot is free again."""
        return not self.in_doubt and self.verdict != "refused"


VERDICTS = {
    "rotated": "the provider answered with a new token set",
    "refused": "the provider refused the refresh token",
    "busy": "the provider did not process the request",
    "not_sent": "the request never left",
    "not_posted": "too little of the claim was left to post",
    "unknown": "nobody knows whether the refresh token was spent",
    "misconfigured": "the provider refused this client",
}
"""How the ledger names what a redemption came to."""


@dataclass(frozen=True, slots=True)
class Overtaken:
    """A claim that another worker was faster to take. ``row``: the grant as it was found then, if any."""

    row: Grant | None


class GrantStore(Protocol):
    """The rows. Every method is one short transaction of its own, committed when it returns.

    No method holds a connection after it returned. Times are taken from the database's clock
    inside the statement. All methods raise `StoreUnavailable` when the database cannot be reached
    and `TablesMissing` when the tables do not exist; losing a race is a value, never an error.

    The *ledger* has one row for each claim. While the claim's refresh token may have been spent, the row
    holds a slot of it: 0 for the first redemption, 1 for the one replay after a doubt. A slot is held
    once, and the database itself sees to that.
    """

    def add(self, new: NewGrant, *, replaces: str | None = None) -> Grant:
        """Insert a grant (version 0, token version 0) and end the grant ``replaces`` with it, atomically."""
        ...

    def load(self, grant_id: str) -> Grant | None:
        """Return the row with ``seen_at``, or None. Raises `GrantUnreadable` when no key opens it."""
        ...

    def find(self, user_id: str, provider: str) -> str | None:
        """Return the id of the user's newest grant at the provider that has not ended, or None."""
        ...

    def try_claim(
        self,
        seen: Grant,
        *,
        doubts: int,
        holder: str,
        seconds: float,
        awaited: bool = False,
        unanswered: tuple[Claim, int | None] | None = None,
    ) -> Claim | Overtaken:
        """Take the claim if the row still has the version of ``seen`` and has not ended.

        Effect when won: version grows by one, the claim stands with a new random id for ``seconds``,
        the row's doubts are ``doubts``, and the ledger has a row of the claim with the slot
        ``doubts`` of the refresh token in ``seen``. Nothing is written when another worker was faster.
        ``awaited``: what settles the claim (`save`, `release`, `end`) wakes those who watch the grant,
        where the database can tell them (`Wakeups`). When the response to COMMIT is lost, the row is read
        back and the claim's id decides. Raises `LedgerConflict` when the slot is held already or does not
        exist.
        ``unanswered`` is the same holder's claim before, with the HTTP status of a post that brought no
        outcome: the ledger says ``"unknown"`` of it, in the same transaction, and when the claim is lost.
        """
        ...

    def save(
        self, seen: Grant, claim: Claim, tokens: TokenSet, *, http_status: int | None = None
    ) -> SaveOutcome:
        """Store ``tokens`` as token version ``claim.version`` if nothing newer was saved.

        ``seen`` is the grant as the claim was taken on; only what never changes of it counts. Eligible:
        the grant has not ended and its token version is lower than ``claim.version``; whether the claim
        still stands does not matter (a late winner is welcome). Effect: version grows by one, doubts,
        failures and ``retry_at`` are cleared, the standing claim is cleared only if it is this one, the
        ledger says ``"rotated"``. May be called again after an error: saving twice is saving once.
        """
        ...

    def release(self, claim: Claim, how: Release) -> bool:
        """Give up ``claim`` if it still stands and return whether it did.

        Effect: version grows by one, the claim is cleared, doubts grow by one if ``how.in_doubt``,
        and ``retry_at``, ``failure`` and ``failures`` follow ``how.retry_after``. The ledger is told in any
        case, unless it knows an outcome already; the slot is free again if ``how.is_unspent``.
        """
        ...

    def end(
        self,
        grant_id: str,
        reason: EndReason,
        *,
        claim: Claim | None = None,
        http_status: int | None = None,
    ) -> bool:
        """End the grant and return whether this call ended it. The token set stays, sealed.

        With ``claim`` (a refusal): only if that claim still stands and its token version is still the
        stored one, so that a refusal of an old refresh token never ends a grant that has a newer one.
        Effect: version grows by one and the standing claim is cleared; the ledger says ``"refused"`` of
        ``claim``.
        """
        ...

    def expire(self, grant_id: str, token_version: int) -> bool:
        """Mark the access token of ``token_version`` as dead, if it is still the stored one.

        No write of the protocol: the version stays.
        """
        ...


class Rescue(Protocol):
    """Where token sets wait that the database does not take, readable by every process of the host.

    All methods raise `RescueFailed` when that place cannot be used.
    """

    def put(self, unsaved: Unsaved) -> None:
        """Keep ``unsaved`` so that it outlives this process; whole, or not at all."""
        ...

    def waiting(self, grant_id: str | None = None) -> Sequence[Unsaved | RescueFailed]:
        """Return what waits (for one grant); in the place of what cannot be read, why. Nothing is removed."""
        ...

    def remove(self, claim: Claim) -> None:
        """Remove what waits for the claim, if anything does."""
        ...


class TokenEndpoint(Protocol):
    """The provider's token and revocation endpoints. Never raises for what the provider does."""

    def redeem(
        self, provider: str, refresh_token: Secret, *, send_by: float, keep_waiting: Callable[[], float]
    ) -> Verdict:
        """Post the refresh token once and return what the response meant.

        Connecting and sending end by ``send_by`` on `Clock.monotonic`, which is checked again right before
        the first byte leaves: after it nothing is sent (`NotSent`). Then ``keep_waiting`` is called before
        each read of the response; it returns until when that read may wait, and must not raise. When that
        moment has passed already, the connection is aborted (`Unknown`).
        """
        ...

    def revoke(self, provider: str, tokens: TokenSet) -> bool:
        """Revoke the token set (RFC 7009), best effort; return whether the provider confirmed it."""
        ...


class Wakeups(Protocol):
    """Tells the requests of this process that another one has settled a claim.

    A hint and no more: it may come for nothing, and it may not come, so the row is looked at all the same.
    """

    def watch(self, grant_id: str) -> AbstractContextManager[Watch]:
        """Watch the grant's claims inside the block.

        Begin before the row is read, or what is told between the two is lost.
        """
        ...


class Watch(Protocol):
    """One request's watch on a grant."""

    @property
    def is_told(self) -> bool:
        """Whether everything has been heard that was told since the watch began; else looking must do."""
        ...

    def clear(self) -> None:
        """Forget what was heard so far; to be called right before the row is read."""
        ...

    def wait(self, seconds: float) -> bool:
        """Wait until something is heard, for ``seconds`` at most; return whether it was."""
        ...


class Event(Protocol):
    """Something that threads of one process wait for."""

    def set(self) -> None:
        """Wake all who wait, now and later."""
        ...

    def clear(self) -> None:
        """Let those who come now wait."""
        ...

    def wait(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds; return whether it was set."""
        ...


class Clock(Protocol):
    """Durations in one process. Absolute times come from the database (`Grant.seen_at`)."""

    def monotonic(self) -> float:
        """Return seconds that never go back and that go on while the machine sleeps."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let ``seconds`` pass."""
        ...

    def event(self) -> Event:
        """Return a new event that is not set."""
        ...


class Observer(Protocol):
    """Is told what the protocol does, for logs, signals and timelines. Must not raise."""

    def notify(self, name: str, grant: Grant, facts: Mapping[str, Any]) -> None:
        """``name`` is one of `EVENTS`; ``facts`` are plain values and never a secret."""
        ...


EVENTS = {
    "claimed": "this worker won the claim",
    "token_rotated": "a redemption was saved",
    "grant_ended": "the provider refused the refresh token, or the user signed out",
    "rotation_failed": "a redemption brought no token set",
    "scopes_changed": "the provider granted other scopes than before",
    "save_failed": "a token set could not be saved and is kept in memory",
    "waited": "this worker waited for another one's rotation",
}
