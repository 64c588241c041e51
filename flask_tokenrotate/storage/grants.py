"""The grants' rows on SQLAlchemy: `ports.GrantStore` for every engine.

Each write carries a mark by which the row itself tells whether it was applied: a claim's random id, a
token version. See `transactions` for why only the row is believed when a write was not plainly
successful.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from sqlalchemy import ColumnElement, Insert, Row, Update, bindparam, case, insert, null, select, update

from ..errors import GrantUnreadable, LedgerConflict, StoreUnavailable
from ..rotation.ports import Overtaken, Release, SaveOutcome
from ..rotation.tokens import Claim, EndReason, Grant, NewGrant, TokenSet
from .content import Malformed
from .engine import Database
from .ledger import holds_slot, opened, refused, released, rotated
from .rows import binding, check_storable, exactly, grant_from_row, is_storable, sealed_tokens
from .schema import NAME_LENGTH, db_now, grants
from .sealing import DoesNotOpen, Sealer, fingerprint_of
from .transactions import Outcome, Transactions

_row = grants.c
# MariaDB and MySQL evaluate SET from left to right and see what they have just set: the column that
# tells whose claim it is comes last.
_CLAIM_COLUMNS = (
    _row.claim_holder,
    _row.claim_version,
    _row.claim_redeems,
    _row.claim_taken_at,
    _row.claim_deadline,
    _row.claim_id,
)


class SqlGrantStore:
    """The rows in a database; the contract is `ports.GrantStore`.

    ``notifies``: whether PostgreSQL tells those who wait for a claim (NOTIFY; see `listening`).
    """

    def __init__(self, database: Database, sealer: Sealer, *, notifies: bool = True) -> None:
        self._transactions = Transactions(database)
        self._sealer = sealer
        self._notifies = notifies
        # Made once: each cache miss reads a row, and to build the statement takes as long as to execute it.
        self._row_by_id = select(grants, db_now().label("seen_at")).where(_row.id == bindparam("grant_id"))

    def add(self, new: NewGrant, *, replaces: str | None = None) -> Grant:
        """Insert a grant and end the one that it replaces. Raises `InvalidTokenResponse`."""
        check_storable(new)
        grant_id = secrets.token_hex(16)
        statement = self._insert(grant_id, new)
        end = () if replaces is None else (_end(replaces, "replaced"),)
        patience = self._transactions.patience()
        while self._transactions.write(statement, *end) is not Outcome.WRITTEN:
            if self._read(grant_id) is not None:
                break
            patience.spend()
        grant = self.load(grant_id)
        assert grant is not None
        return grant

    def load(self, grant_id: str) -> Grant | None:
        """Read the row."""
        row = self._read(grant_id)
        return None if row is None else self._grant_from(row)

    def find(self, user_id: str, provider: str) -> str | None:
        """Read the id of the user's newest grant that has not ended."""
        if not (is_storable(user_id) and is_storable(provider)):
            return None
        mine = living_of(user_id) & exactly(_row.provider, provider)
        newest_first = select(_row.id).where(mine).order_by(_row.created_at.desc(), _row.id.desc())
        row = self._transactions.read(newest_first.limit(1))
        return None if row is None else row.id

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
        """Take the claim by compare-and-set on the version, and its slot in the ledger."""
        claim = Claim(
            id=secrets.token_hex(16),
            grant_id=seen.id,
            version=seen.version + 1,
            redeems=seen.token_version,
            awaited=awaited,
        )
        holder = holder[:NAME_LENGTH]
        refresh_token = seen.tokens.refresh_token
        token_hash = None if refresh_token is None else self._sealer.hash(refresh_token)
        statement = _claim(claim, doubts=doubts, holder=holder, seconds=seconds)
        entry = opened(claim, slot=doubts, token_hash=token_hash, holder=holder)
        told: tuple[Update, ...] = ()
        if unanswered is not None:
            before, status = unanswered
            told = (released(before, Release(in_doubt=True, verdict="unknown", http_status=status)),)
        patience = self._transactions.patience()
        while (outcome := self._transactions.write(statement, entry, *told)) is not Outcome.WRITTEN:
            # The slot before the row: a Galera node may apply another worker's claim between two reads, and
            # its slot beside a row that has not moved yet would look like a second redemption.
            held = outcome is Outcome.LOST and self._transactions.read(holds_slot(claim, doubts)) is not None
            row = self._read(seen.id)
            if row is not None and row.claim_id == claim.id:
                break
            if row is None or row.version != seen.version or row.ended_at is not None:
                for each in told:
                    self._tell_ledger(each)
                return Overtaken(None if row is None else self._grant_from(row))
            if held:
                raise LedgerConflict(seen.id, claim.redeems, doubts)
            patience.spend()
        return claim

    def save(
        self, seen: Grant, claim: Claim, tokens: TokenSet, *, http_status: int | None = None
    ) -> SaveOutcome:
        """Store the token set unless a newer one is stored or the grant has ended."""
        statement = self._save(seen, claim, tokens)
        settles = rotated(claim, http_status)
        patience = self._transactions.patience()
        wakes = self._waiters_of(claim)
        while self._transactions.write(statement, settles, wakes=wakes) is not Outcome.WRITTEN:
            row = self._read(claim.grant_id)
            if row is None or row.ended_at is not None:
                self._tell_ledger(settles)
                return SaveOutcome.ENDED
            if row.token_version > claim.version:
                self._tell_ledger(settles)
                return SaveOutcome.SUPERSEDED
            if row.token_version == claim.version:
                break
            patience.spend()
        return SaveOutcome.SAVED

    def release(self, claim: Claim, how: Release) -> bool:
        """Clear the claim by its id."""
        failed = how.retry_after is not None
        statement = (
            update(grants)
            .where(_row.id == claim.grant_id, _row.claim_id == claim.id)
            .values(
                version=_row.version + 1,
                doubts=_row.doubts + int(how.in_doubt),
                retry_at=null() if how.retry_after is None else db_now() + how.retry_after,
                failure=how.failure[:NAME_LENGTH] if failed and how.failure else None,
                failures=_row.failures + 1 if failed else 0,
                **dict.fromkeys(column.name for column in _CLAIM_COLUMNS),
            )
        )
        settles = released(claim, how)
        done = self._written(
            claim.grant_id,
            (statement, settles),
            wakes=self._waiters_of(claim),
            eligible=lambda row: row.claim_id == claim.id,
            # Nobody else gives up this claim, but a save or an end may have cleared it.
            applied=lambda row: row.ended_at is None and row.token_version == claim.redeems,
        )
        if not done:
            self._tell_ledger(settles)
        return done

    def end(
        self,
        grant_id: str,
        reason: EndReason,
        *,
        claim: Claim | None = None,
        http_status: int | None = None,
    ) -> bool:
        """End the row, or end it as far as the claim may."""
        statement = _end(grant_id, reason)
        settles: tuple[Update, ...] = ()
        wakes = None
        if claim is not None:
            settles = (refused(claim, http_status),)
            wakes = self._waiters_of(claim)
            statement = statement.where(_row.claim_id == claim.id, _row.token_version == claim.redeems)

        def eligible(row: Row[Any]) -> bool:
            held = claim is None or (row.claim_id == claim.id and row.token_version == claim.redeems)
            return row.ended_at is None and held

        return self._written(
            grant_id,
            (statement, *settles),
            wakes=wakes,
            eligible=eligible,
            applied=lambda row: row.end_reason == reason,
        )

    def expire(self, grant_id: str, token_version: int) -> bool:
        """Set the expiry of the stored access token to now."""
        statement = (
            update(grants)
            .where(_row.id == grant_id, _row.token_version == token_version)
            .values(expires_at=db_now())
        )
        return self._written(
            grant_id,
            (statement,),
            eligible=lambda row: row.token_version == token_version,
            applied=lambda row: False,
        )

    def _read(self, grant_id: str) -> Row[Any] | None:
        if not is_storable(grant_id):
            return None
        return self._transactions.read(self._row_by_id, grant_id=grant_id)

    def _grant_from(self, row: Row[Any]) -> Grant:
        try:
            return grant_from_row(row, self._sealer)
        except DoesNotOpen as error:
            raise GrantUnreadable(row.id, error.sealed_with, self._sealer.fingerprints) from None
        except Malformed:
            sealed_with = fingerprint_of(row.sealed)
            raise GrantUnreadable(row.id, sealed_with, self._sealer.fingerprints, malformed=True) from None

    def _waiters_of(self, claim: Claim) -> str | None:
        """Return the grant whose waiters hear of the end of ``claim``.

        Not where nobody waits: transactions that notify commit one after the other on PostgreSQL.
        """
        return claim.grant_id if claim.awaited and self._notifies else None

    def _written(
        self,
        grant_id: str,
        statements: tuple[Update, ...],
        *,
        wakes: str | None = None,
        eligible: Callable[[Row[Any]], bool],
        applied: Callable[[Row[Any]], bool],
    ) -> bool:
        """Write until it is done or the row is no longer ``eligible``; return whether it was written.

        ``applied`` tells from the row whether a write whose COMMIT was not answered is in it.
        """
        patience = self._transactions.patience()
        unanswered = False
        while (outcome := self._transactions.write(*statements, wakes=wakes)) is not Outcome.WRITTEN:
            unanswered = unanswered or outcome is Outcome.UNKNOWN
            row = self._read(grant_id)
            if row is None or not eligible(row):
                return unanswered and row is not None and applied(row)
            patience.spend()
        return True

    def _tell_ledger(self, settles: Update) -> None:
        """Write down the outcome of a claim that the row has moved past: for people, so tried once."""
        with suppress(StoreUnavailable):
            self._transactions.write(settles)

    def _insert(self, grant_id: str, new: NewGrant) -> Insert:
        bound_to = binding(grant_id, new.provider, new.user_id, new.subject)
        answer = new.answer
        now = db_now()
        return insert(grants).values(
            id=grant_id,
            provider=new.provider,
            subject=new.subject,
            user_id=new.user_id,
            created_at=now,
            version=0,
            token_version=0,
            sealed=sealed_tokens(self._sealer, answer.token_set(now=0.0), bound_to),
            expires_at=None if answer.expires_in is None else now + answer.expires_in,
            lifetime=answer.expires_in,
            refresh_expires_at=None if answer.refresh_expires_in is None else now + answer.refresh_expires_in,
            doubts=0,
            failures=0,
        )

    def _save(self, seen: Grant, claim: Claim, tokens: TokenSet) -> Update:
        bound_to = binding(seen.id, seen.provider, seen.user_id, seen.subject)
        return (
            update(grants)
            # Fenced by the token version alone: a late winner's row has moved, and its token set is
            # the only copy. The newest claim's token set wins, whichever is saved last.
            .where(_row.id == claim.grant_id, _row.token_version < claim.version, _row.ended_at.is_(None))
            .ordered_values(
                (_row.version, _row.version + 1),
                (_row.token_version, claim.version),
                (_row.sealed, sealed_tokens(self._sealer, tokens, bound_to)),
                (_row.expires_at, tokens.expires_at),
                (_row.lifetime, tokens.lifetime),
                (_row.refresh_expires_at, tokens.refresh_expires_at),
                (_row.doubts, 0),
                (_row.retry_at, None),
                (_row.failure, None),
                (_row.failures, 0),
                *(
                    (column, case((_row.claim_id == claim.id, null()), else_=column))
                    for column in _CLAIM_COLUMNS
                ),
            )
        )


def living_of(user_id: str) -> ColumnElement[bool]:
    """Return the condition that a grant is the user's and has not ended."""
    return exactly(_row.user_id, user_id) & _row.ended_at.is_(None)


def _claim(claim: Claim, *, doubts: int, holder: str, seconds: float) -> Update:
    now = db_now()
    return (
        update(grants)
        .where(_row.id == claim.grant_id, _row.version == claim.version - 1, _row.ended_at.is_(None))
        .values(
            version=claim.version,
            doubts=doubts,
            claim_id=claim.id,
            claim_holder=holder,
            claim_version=claim.version,
            claim_redeems=claim.redeems,
            claim_taken_at=now,
            claim_deadline=now + seconds,
        )
    )


def ending(reason: EndReason) -> Update:
    """Return the statement that ends the grants that the caller picks, where they have not ended."""
    return (
        update(grants)
        .where(_row.ended_at.is_(None))
        .values(
            version=_row.version + 1,
            ended_at=db_now(),
            end_reason=reason,
            **dict.fromkeys(column.name for column in _CLAIM_COLUMNS),
        )
    )


def _end(grant_id: str, reason: EndReason) -> Update:
    return ending(reason).where(_row.id == grant_id)
