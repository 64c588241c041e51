"""The stores in memory: the contracts of `flask_tokenrotate.rotation.ports` without a database.

For tests of the protocol and of applications. Rows are immutable values in a dictionary: a copy of the
dictionary is a snapshot.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ..attempts import KEEP_EXPIRED_SECONDS, Attempt, AttemptMiss
from ..errors import LedgerConflict, RescueFailed
from ..rotation.outcomes import Overtaken, SaveOutcome
from ..rotation.ports import Clock, Event
from ..rotation.protocol import MAX_POSTS
from ..rotation.tokens import Claim, EndReason, Grant, NewGrant, Secret, StandingClaim, TokenSet, Unsaved
from ..rotation.verdict import Rotated, Verdict


class DatabaseClock(Protocol):
    """The database's clock: a `ManualClock`, or the module `time`."""

    def time(self) -> float:
        """Return the time in epoch seconds."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerRow:
    """One claim in the ledger; ``slot`` None: its refresh token is known to be unspent."""

    claim: Claim
    slot: int | None
    verdict: str | None = None
    http_status: int | None = None


class MemoryGrantStore:
    """Grants in ``rows``, by id, and the ledger, by claim id.

    Ids are numbers in their order, which makes a failing schedule readable.
    """

    def __init__(self, clock: DatabaseClock = time) -> None:
        self.rows: dict[str, Grant] = {}
        self.ledger: dict[str, LedgerRow] = {}
        self._clock = clock
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def add(self, new: NewGrant, *, replaces: str | None = None) -> Grant:
        """Insert a grant and end the one that it replaces."""
        with self._lock:
            now = self._clock.time()
            grant = Grant(
                id=f"grant-{next(self._numbers)}",
                provider=new.provider,
                tokens=new.response.token_set(now=now),
                seen_at=now,
                subject=new.subject,
                user_id=new.user_id,
                created_at=now,
            )
            if replaces is not None:
                self._end(replaces, "replaced")
            self.rows[grant.id] = grant
            return grant

    def load(self, grant_id: str) -> Grant | None:
        """Read the row."""
        row = self.rows.get(grant_id)
        return None if row is None else replace(row, seen_at=self._clock.time())

    def find(self, user_id: str, provider: str) -> str | None:
        """Read the id of the user's newest grant that has not ended."""
        with self._lock:
            # Rows are in the order in which they were added.
            for row in reversed(self.rows.values()):
                if (row.user_id, row.provider, row.ended_at) == (user_id, provider, None):
                    return row.id
        return None

    def try_claim(
        self, seen: Grant, *, doubts: int, holder: str, seconds: float, awaited: bool = False
    ) -> Claim | Overtaken:
        """Take the claim by compare-and-set on the version, and its slot in the ledger."""
        with self._lock:
            row = self.rows.get(seen.id)
            if row is None or row.version != seen.version or row.ended_at is not None:
                return Overtaken(None if row is None else replace(row, seen_at=self._clock.time()))
            claim = Claim(
                id=f"claim-{next(self._numbers)}",
                grant_id=seen.id,
                version=seen.version + 1,
                redeems=seen.token_version,
                awaited=awaited,
            )
            if self._slot_is_refused(claim, doubts):
                raise LedgerConflict(seen.id, claim.redeems, doubts)
            self.ledger[claim.id] = LedgerRow(claim=claim, slot=doubts)
            now = self._clock.time()
            standing = StandingClaim(claim=claim, holder=holder, taken_at=now, deadline=now + seconds)
            self._write(row, standing=standing, doubts=doubts)
            return claim

    def renew(self, claim: Claim, *, seconds: float) -> bool:
        """Extend the deadline of the claim, if it still stands."""
        with self._lock:
            row = self._row_of(claim)
            if row is None or row.standing is None or row.token_version != claim.redeems:
                return False
            self._write(row, standing=replace(row.standing, deadline=self._clock.time() + seconds))
            return True

    def save(
        self, seen: Grant, claim: Claim, tokens: TokenSet, *, http_status: int | None = None
    ) -> SaveOutcome:
        """Store the token set unless a newer one is stored or the grant has ended."""
        with self._lock:
            self._settle(claim, verdict=Rotated.consequences.ledger_name, http_status=http_status)
            row = self.rows.get(claim.grant_id)
            if row is None or row.ended_at is not None:
                return SaveOutcome.ENDED
            if row.token_version > claim.version:
                return SaveOutcome.SUPERSEDED
            if row.token_version < claim.version:
                self._write(
                    row,
                    tokens=tokens,
                    token_version=claim.version,
                    standing=None if _stands(row, claim) else row.standing,
                    doubts=0,
                    retry_at=None,
                    failure=None,
                    failure_code=None,
                    failures=0,
                )
            return SaveOutcome.SAVED

    def release(
        self, claim: Claim, verdict: Verdict, *, in_doubt: bool = False, retry_after: float | None = None
    ) -> bool:
        """Clear the claim by its id."""
        name = verdict.consequences.ledger_name
        with self._lock:
            opened = self.ledger.get(claim.id)
            if opened is not None and opened.verdict is None:
                slot = None if verdict.consequences.spent is False else opened.slot
                self._settle(claim, verdict=name, http_status=verdict.http_status, slot=slot)
            row = self._row_of(claim)
            if row is None:
                return False
            if row.token_version != claim.redeems:
                self._write(row, standing=None)
                return True
            failed = retry_after is not None
            self._write(
                row,
                standing=None,
                doubts=row.doubts + in_doubt,
                retry_at=None if retry_after is None else self._clock.time() + retry_after,
                failure=name if failed else None,
                failure_code=verdict.code if failed else None,
                failures=row.failures + 1 if failed else 0,
            )
            return True

    def end(
        self, grant_id: str, reason: EndReason, *, claim: Claim | None = None, verdict: Verdict | None = None
    ) -> bool:
        """End the row; with ``claim``, only if that claim may end it."""
        with self._lock:
            ended = self._end(grant_id, reason, claim)
            if ended and claim is not None and verdict is not None:
                name = verdict.consequences.ledger_name
                self._settle(claim, verdict=name, http_status=verdict.http_status)
            return ended

    def expire(self, grant_id: str, token_version: int) -> bool:
        """Set the expiry of the stored access token to now."""
        with self._lock:
            row = self.rows.get(grant_id)
            if row is None or row.token_version != token_version:
                return False
            dead = replace(row.tokens, expires_at=self._clock.time())
            self.rows[grant_id] = replace(row, tokens=dead)
            return True

    def _end(self, grant_id: str, reason: EndReason, claim: Claim | None = None) -> bool:
        row = self.rows.get(grant_id)
        if row is None or row.ended_at is not None:
            return False
        if claim is not None and (self._row_of(claim) is None or row.token_version != claim.redeems):
            return False
        self._write(row, standing=None, ended_at=self._clock.time(), end_reason=reason)
        return True

    def _slot_is_refused(self, claim: Claim, slot: int) -> bool:
        return slot >= MAX_POSTS or any(
            (row.claim.grant_id, row.claim.redeems, row.slot) == (claim.grant_id, claim.redeems, slot)
            for row in self.ledger.values()
        )

    def _row_of(self, claim: Claim) -> Grant | None:
        """Return the row on which the claim still stands."""
        row = self.rows.get(claim.grant_id)
        return row if row is not None and _stands(row, claim) else None

    def _settle(self, claim: Claim, **outcome: Any) -> None:
        if claim.id in self.ledger:
            self.ledger[claim.id] = replace(self.ledger[claim.id], **outcome)

    def _write(self, row: Grant, **changes: Any) -> None:
        self.rows[row.id] = replace(row, version=row.version + 1, **changes)


def _stands(row: Grant, claim: Claim) -> bool:
    return row.standing is not None and row.standing.claim.id == claim.id


class MemoryWakeups:
    """Wakes those who watch a grant when `wake` is called. ``is_notified`` is what its watches say."""

    def __init__(self, clock: Clock, *, is_notified: bool = False) -> None:
        self.is_notified = is_notified
        self._clock = clock
        self._watches: dict[str, list[MemoryWatch]] = {}

    @contextmanager
    def watch(self, grant_id: str) -> Iterator[MemoryWatch]:
        """Watch the grant's claims."""
        watch = MemoryWatch(self, self._clock.event())
        watches = self._watches.setdefault(grant_id, [])
        watches.append(watch)
        try:
            yield watch
        finally:
            watches.remove(watch)
            if not watches:
                self._watches.pop(grant_id, None)

    def wake(self, grant_id: str) -> None:
        """Wake those who watch the grant."""
        for watch in list(self._watches.get(grant_id, ())):
            watch.event.set()


class MemoryWatch:
    """One request's watch on a grant."""

    def __init__(self, wakeups: MemoryWakeups, event: Event) -> None:
        self.event = event
        self._wakeups = wakeups

    @property
    def is_notified(self) -> bool:
        """What `MemoryWakeups` says."""
        return self._wakeups.is_notified

    def clear(self) -> None:
        """Reset the watch."""
        self.event.clear()

    def wait(self, seconds: float) -> bool:
        """Wait until woken, or for ``seconds``; return whether it was woken."""
        return self.event.wait(seconds)


class MemoryRescue:
    """Unsaved token sets in ``kept``, by claim id: the rescue folder of one host."""

    def __init__(self) -> None:
        self.kept: dict[str, Unsaved] = {}

    def put(self, unsaved: Unsaved) -> None:
        """Keep the token set."""
        self.kept[unsaved.claim.id] = unsaved

    def waiting(self, grant_id: str | None = None) -> list[Unsaved | RescueFailed]:
        """Return the token sets that are kept (for one grant)."""
        return [each for each in list(self.kept.values()) if grant_id in (None, each.grant.id)]

    def remove(self, claim: Claim) -> None:
        """Remove the token set of the claim."""
        self.kept.pop(claim.id, None)


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptRow:
    """One attempt as it is stored."""

    attempt: Attempt
    browser: Secret
    expires_at: float
    used: bool = False


class MemoryAttemptStore:
    """Attempts in ``rows``, by state."""

    def __init__(self, clock: DatabaseClock = time) -> None:
        self.rows: dict[Secret, AttemptRow] = {}
        self._clock = clock
        self._lock = threading.Lock()

    def begin(self, state: Secret, browser: Secret, attempt: Attempt, *, seconds: float) -> None:
        """Store the attempt, and delete those that expired an hour ago."""
        with self._lock:
            now = self._clock.time()
            self.rows = {
                known: row for known, row in self.rows.items() if row.expires_at >= now - KEEP_EXPIRED_SECONDS
            }
            self.rows[state] = AttemptRow(attempt=attempt, browser=browser, expires_at=now + seconds)

    def take(self, state: Secret, browser: Secret | None) -> Attempt | AttemptMiss:
        """Mark the attempt as used and return it, or return why not."""
        with self._lock:
            row = self.rows.get(state)
            if row is None:
                return "unknown_state"
            if row.used:
                return "already_used"
            if row.expires_at <= self._clock.time():
                return "expired"
            if browser is None:
                return "no_cookie"
            if browser != row.browser:
                return "other_browser"
            self.rows[state] = replace(row, used=True)
            return row.attempt
