"""The rows and the rescue folder, in memory: each call of the store stops before its effect and after it.

A worker that is not scheduled again after the first stop did nothing; after the second, it did it and will
never know. Both are what a crash, a stall or a lost COMMIT looks like from outside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from flask_tokenrotate.errors import StoreUnavailable
from flask_tokenrotate.rotation.outcomes import Overtaken, SaveOutcome
from flask_tokenrotate.rotation.tokens import Claim, EndReason, Grant, NewGrant, Secret, TokenSet, Unsaved
from flask_tokenrotate.rotation.verdict import Verdict
from flask_tokenrotate.testing.memory import MemoryGrantStore, MemoryRescue

from .provider import family_of
from .referee import Referee
from .scheduler import Scheduler

T = TypeVar("T")

EPOCH = 1_000_000.0
"""The database's time when a schedule begins."""

STORE_HANGS = 3.0
"""Seconds that a call of the store may take to fail: its time-out for connecting."""


class DatabaseTime:
    """The database's clock: far from every process's own, and set forward or back now and then."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self.offset = EPOCH

    def time(self) -> float:
        """Return the database's time."""
        return self.offset + self._scheduler.now


class StoppingStore:
    """A `MemoryGrantStore` behind a network that stops, and that is away for a while now and then."""

    def __init__(self, rows: MemoryGrantStore, scheduler: Scheduler, referee: Referee) -> None:
        self._rows = rows
        self._scheduler = scheduler
        self._referee = referee
        self.away_until = 0.0
        self.comes_and_goes = False
        self.settled: Callable[[Claim], None] = lambda claim: None
        self.overdue_seen: Callable[[], None] = lambda: None

    def add(self, new: NewGrant, *, replaces: str | None = None) -> Grant:
        """Insert the grant of a new sign-in."""

        def add() -> Grant:
            self._referee.replaced.add(replaces)
            grant = self._rows.add(new, replaces=replaces)
            self._referee.families[grant.id] = family_of(new.response.access_token)
            return grant

        return self._call(f"add {new.response.access_token.reveal()} in place of {replaces}", add)

    def load(self, grant_id: str) -> Grant | None:
        """Read the row."""

        def load() -> Grant | None:
            self._referee.loads()
            row = self._rows.load(grant_id)
            if row is not None and row.standing is not None and row.seen_at >= row.standing.deadline:
                self.overdue_seen()
            return row

        return self._call(f"load {grant_id}", load)

    def find(self, user_id: str, provider: str) -> str | None:
        """Nothing that runs here looks for a user's grant."""
        raise NotImplementedError

    def try_claim(
        self,
        seen: Grant,
        *,
        doubts: int,
        holder: str,
        seconds: float,
        awaited: bool = False,
    ) -> Claim | Overtaken:
        """Take the claim."""

        def claim() -> Claim | Overtaken:
            before = self._rows.rows[seen.id]
            won = self._rows.try_claim(seen, doubts=doubts, holder=holder, seconds=seconds, awaited=awaited)
            if isinstance(won, Claim):
                self._referee.events["rotation ahead"] += not awaited
                self._referee.claimed(won, before, seconds)
            return won

        return self._call(f"try_claim {seen.id} as of version {seen.version}", claim)

    def renew(self, claim: Claim, *, seconds: float) -> bool:
        """Extend the claim's deadline."""

        def renew() -> bool:
            done = self._rows.renew(claim, seconds=seconds)
            if done:
                self._referee.renewed(claim, seconds)
            return done

        return self._call(f"renew claim {claim.version} for {seconds:.1f} s", renew)

    def save(
        self, seen: Grant, claim: Claim, tokens: TokenSet, *, http_status: int | None = None
    ) -> SaveOutcome:
        """Save the token set."""

        def save() -> SaveOutcome:
            self._referee.saves(claim)
            saved = self._rows.save(seen, claim, tokens, http_status=http_status)
            self.settled(claim)
            return saved

        try:
            return self._call(f"save {tokens.access_token.reveal()} with claim {claim.version}", save)
        except StoreUnavailable:
            self._referee.events["failed save"] += 1
            raise

    def release(self, claim: Claim, verdict: Verdict, **how: Any) -> bool:
        """Give the claim up."""

        def release() -> bool:
            done = self._rows.release(claim, verdict, **how)
            if done:
                self._referee.released(claim)
            self.settled(claim)
            return done

        doubt = ", in doubt" if how.get("in_doubt") else ""
        return self._call(
            f"release claim {claim.version} ({verdict.consequences.ledger_name}{doubt})", release
        )

    def end(self, grant_id: str, reason: EndReason, **refusal: Any) -> bool:
        """End the grant."""
        return self._call(f"end {grant_id}: {reason}", lambda: self._rows.end(grant_id, reason, **refusal))

    def expire(self, grant_id: str, token_version: int) -> bool:
        """Mark the access token as dead."""

        def expire() -> bool:
            self._referee.expired.add(grant_id)
            return self._rows.expire(grant_id, token_version)

        return self._call(f"expire {grant_id} token version {token_version}", expire)

    def _call(self, what: str, effect: Callable[[], T]) -> T:
        self._scheduler.stop()
        self._check_reachable(f"{what}: the store is away")
        self._referee.in_store.add(self._scheduler.running)
        before = dict(self._rows.rows)
        result = effect()
        self._scheduler.note(f"{what} -> {_brief(result)}")
        self._referee.rows_changed(before)
        self._referee.in_store.discard(self._scheduler.running)
        self._scheduler.stop()
        self._check_reachable(f"{what}: done, but the store is away before it says so")
        return result

    def _check_reachable(self, what: str) -> None:
        if self._scheduler.now < self.away_until and not (
            self.comes_and_goes and self._scheduler.tape.one_in(3)
        ):
            self._scheduler.note(what)
            if self._scheduler.tape.one_in(4):
                self._scheduler.stop(until=self._scheduler.now + STORE_HANGS)
            raise StoreUnavailable("the simulated store is away")


class WatchedRescue(MemoryRescue):
    """The rescue folder of the host that all processes of a schedule share."""

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__()
        self._scheduler = scheduler
        self.put_at: dict[str, float] = {}

    def put(self, unsaved: Unsaved) -> None:
        """Keep it, and when it came."""
        self._scheduler.note(f"puts {unsaved.tokens.access_token.reveal()} aside")
        self.put_at[unsaved.claim.id] = self._scheduler.now
        super().put(unsaved)

    def holds_before(self, access_token: Secret, moment: float) -> bool:
        """Return whether the token waits here and did so before ``moment``."""
        return any(
            each.tokens.access_token == access_token and self.put_at[each.claim.id] < moment
            for each in self.kept.values()
        )


def _brief(result: object) -> str:
    if isinstance(result, Grant):
        end = result.end_reason or ("claimed" if result.standing else "free")
        return f"version {result.version}, token version {result.token_version}, {end}"
    if isinstance(result, Overtaken):
        return f"overtaken: {_brief(result.row)}"
    if isinstance(result, Claim):
        return f"claim {result.version}"
    return str(result)
