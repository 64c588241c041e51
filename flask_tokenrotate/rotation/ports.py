"""What the protocol needs from the world: contracts and nothing else.

The simulator and the tests implement these in memory; `storage` and `providers` implement them on
SQLAlchemy and requests-oauthlib. One contract suite, ``tests/storage/test_contract.py``, runs over every
store: add yours to ``tests/storage/conftest.py`` in a clone of the project.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol

from ..errors import RescueFailed
from .outcomes import Overtaken, SaveOutcome
from .tokens import Claim, EndReason, Grant, NewGrant, Secret, TokenSet, Unsaved
from .verdict import Verdict

EventName = Literal[
    "claimed", "token_rotated", "grant_ended", "rotation_failed", "scopes_changed", "save_failed"
]
"""What happened: this worker won the claim; a redemption was saved; the provider refused the refresh token,
or the user signed out; a redemption brought no token set; the provider granted other scopes than before; a
token set could not be saved yet."""


class GrantStore(Protocol):
    """The rows. Every method is one short transaction of its own, committed when it returns.

    No method holds a connection after it returned. Times are taken from the database's clock
    inside the statement. All methods raise `StoreUnavailable` when the database cannot be reached
    and `TablesMissing` when the tables do not exist; losing a race is a value, never an error.

    The *ledger* has one row for each claim. While the claim's refresh token may have been spent, the row
    holds a slot of it: 0 for the first redemption, 1 for the one replay after a doubt (`protocol.MAX_POSTS`
    slots). A slot is held once, and the database itself sees to that.

    A store gets and returns tokens in the clear, as `Secret`, and has to encrypt what it writes:
    `Secret.reveal` returns the text.
    """

    def add(self, new: NewGrant, *, replaces: str | None = None) -> Grant:
        """Insert a grant (version 0, token version 0) and end the grant ``replaces`` with it, atomically."""
        ...

    def load(self, grant_id: str) -> Grant | None:
        """Return the row with ``seen_at``, or None. Raises `GrantUnreadable` when no key decrypts it.

        ``grant_id`` may be any string, also one that is not a valid id (with NUL, or a lone surrogate).
        """
        ...

    def find(self, user_id: str, provider: str) -> str | None:
        """Return the id of the user's newest grant at the provider that has not ended, or None.

        It sees each `end` that has returned.
        """
        ...

    def try_claim(
        self, seen: Grant, *, doubts: int, holder: str, seconds: float, awaited: bool = False
    ) -> Claim | Overtaken:
        """Take the claim if the row still has the version of ``seen`` and has not ended.

        Effect when won: version grows by one, the claim stands with a new random id for ``seconds``,
        the row's doubts are ``doubts``, and the ledger has a row of the claim with the slot
        ``doubts`` of the refresh token in ``seen``. Nothing is written when another worker came first.
        ``awaited``: what settles the claim (`save`, `release`, `end`) wakes those who watch the grant,
        where the database can notify them (`Wakeups`). When the response to COMMIT is lost, the row is read
        back and the claim's id decides. Raises `LedgerConflict` when the slot is held already or does not
        exist.
        """
        ...

    def renew(self, claim: Claim, *, seconds: float) -> bool:
        """Extend the deadline of ``claim`` to ``seconds`` from now; return whether it was extended.

        Eligible: the claim still stands and its token version is still the stored one. Effect: version
        grows by one, so that whoever saw the old deadline loses the claim that it tries to take. Tried
        once: a renewal that fails is repeated by its holder a moment later, and ends nothing.
        """
        ...

    def save(
        self, seen: Grant, claim: Claim, tokens: TokenSet, *, http_status: int | None = None
    ) -> SaveOutcome:
        """Store ``tokens`` as token version ``claim.version`` if nothing newer was saved.

        ``seen`` is the grant as the claim was taken on; only what never changes of it counts. Eligible:
        the grant has not ended and its token version is lower than ``claim.version``; whether the claim
        still stands does not matter (a late winner is welcome). Effect: version grows by one, doubts,
        failures and ``retry_at`` are cleared, the standing claim is cleared only if it is this one. The
        ledger gets the redemption and its status, also when nothing is stored (that is tried once). May be
        called again after an error: saving twice is saving once.
        """
        ...

    def release(
        self, claim: Claim, verdict: Verdict, *, in_doubt: bool = False, retry_after: float | None = None
    ) -> bool:
        """Give up ``claim`` without a token set, if it still stands; return whether it did.

        Effect: version grows by one, the claim is cleared, doubts grow by one if ``in_doubt``. With
        ``retry_after`` the row is not redeemed for that many seconds, ``failure`` and ``failure_code`` say
        why, and ``failures`` grow by one; without it they are cleared. If another token set was saved since
        the claim was taken (by a late winner), the claim is cleared and nothing else: what it met says
        nothing about the new token set. The ledger gets the verdict's name and status in any case, unless it
        has an outcome already; the slot is free again if the verdict says that the refresh token is unspent.
        """
        ...

    def end(
        self, grant_id: str, reason: EndReason, *, claim: Claim | None = None, verdict: Verdict | None = None
    ) -> bool:
        """End the grant and return whether this call ended it. The token set stays, sealed.

        With ``claim`` (a refusal): only if that claim still stands and its token version is still the
        stored one, so that a refusal of an old refresh token never ends a grant that has a newer one.
        Effect: version grows by one and the standing claim is cleared; the ledger has ``verdict`` for
        ``claim``.
        """
        ...

    def expire(self, grant_id: str, token_version: int) -> bool:
        """Mark the access token of ``token_version`` as expired, if it is still the stored one.

        No write of the protocol: the version stays.
        """
        ...


class Rescue(Protocol):
    """Where token sets wait that could not be written, readable by every process of the host.

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
        self,
        provider: str,
        refresh_token: Secret,
        *,
        send_by: float,
        keep_waiting: Callable[[], float],
    ) -> Verdict:
        """Post the refresh token once and return what the response meant.

        Connecting and sending end by ``send_by`` on `Clock.monotonic`, which is looked at again right before
        the first byte leaves: after it nothing is sent (`NotSent`), and no byte leaves this host. Then
        ``keep_waiting`` is called before each read of the response, with nothing held. It returns until when
        that read may wait; a moment that has passed ends the call, the connection is aborted, and the
        verdict is `Unknown`.
        """
        ...

    def revoke(self, provider: str, tokens: TokenSet) -> bool:
        """Revoke the token set (RFC 7009), best effort; return whether the provider confirmed it."""
        ...


class Wakeups(Protocol):
    """Notifies the requests of this process that another one has settled a claim.

    A hint and no more: it may come for nothing, and it may not come, so the row is read all the same.
    """

    def watch(self, grant_id: str) -> AbstractContextManager[Watch]:
        """Watch the grant's claims inside the block.

        Begin before the row is read, or a notification between the two is lost.
        """
        ...


class Watch(Protocol):
    """One request's watch on a grant."""

    @property
    def is_notified(self) -> bool:
        """Whether every notification since the watch began has arrived; else only reading the row helps."""
        ...

    def clear(self) -> None:
        """Reset the watch; to be called right before the row is read."""
        ...

    def wait(self, seconds: float) -> bool:
        """Wait until notified, for ``seconds`` at most; return whether a notification came."""
        ...


class Threads(Protocol):
    """Where redemptions run: threads of this process, bounded for each provider; or the caller's own."""

    @property
    def in_background(self) -> bool:
        """Whether work runs on threads; False: `run` returns when the work is done."""
        ...

    @property
    def are_closing(self) -> bool:
        """Whether the process ends and what still waits for a provider has to give up.

        Where it is asked by work of a parent process that goes on in a forked child (a greenlet), it raises
        what ends that work.
        """
        ...

    def run(self, provider: str, work: Callable[[], None], *, ahead: bool) -> bool:
        """Run ``work`` as soon as a thread is free, and return True.

        ``ahead``: nobody waits for it, so False is returned, and nothing is run, where not enough threads
        are free.
        """
        ...


class Event(Protocol):
    """Something that threads of one process wait for."""

    def set(self) -> None:
        """Wake all who wait, now and later."""
        ...

    def clear(self) -> None:
        """Reset the event."""
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
    """Is notified of what the protocol did, for logs and signals. Must not raise.

    Called after the flight of a redemption has landed, so that it may take its time and ask for the token.
    """

    def notify(self, name: EventName, grant: Grant, facts: Mapping[str, Any]) -> None:
        """``facts`` are plain values and never a secret."""
        ...
