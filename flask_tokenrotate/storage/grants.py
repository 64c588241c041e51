"""The grants' rows on SQLAlchemy: `ports.GrantStore` for every engine.

Each write has a mark by which the row shows whether it was applied: a claim's random id, a token version. See
`transactions` for why the row is read unless a write reports success.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

from sqlalchemy import Row, Update, bindparam, select

from ..errors import GrantUnreadable, LedgerConflict, StoreUnavailable
from ..rotation.outcomes import Overtaken, SaveOutcome
from ..rotation.tokens import Claim, EndReason, Grant, NewGrant, TokenSet
from ..rotation.verdict import Verdict
from .database.engine import Database
from .database.schema import NAME_LENGTH, db_now, grants
from .database.transactions import Outcome, Transactions
from .database.write import Write
from .ledger import holds_slot, opened, opening, released, rotated, settled
from .rows import binding, check_storable, exactly, grant_from_row, is_storable, sealed_tokens
from .sealed.content import Malformed
from .sealed.sealing import DoesNotOpen, Sealer, fingerprint_of
from .statements import adding, claiming, ending, expiring, living_of, releasing, renewing, saving

_row = grants.c


class SqlGrantStore:
    """The rows in a database; the contract is `ports.GrantStore`.

    ``notifies``: whether PostgreSQL notifies the requests that wait for a claim (see `listening`).
    """

    def __init__(self, database: Database, sealer: Sealer, *, notifies: bool = True) -> None:
        self._transactions = Transactions(database)
        self._sealer = sealer
        self._notifies = notifies
        # The statements of each cache miss and each rotation are made once.
        self._row_by_id = select(grants, db_now().label("seen_at")).where(_row.id == bindparam("the_id"))
        self._claims = Write(claiming(), opened())
        self._renews = Write(renewing())
        self._rotated = Write(rotated())
        self._saves = Write(saving(), self._rotated.statement)

    def add(self, new: NewGrant, *, replaces: str | None = None) -> Grant:
        """Insert a grant and end the one that it replaces. Raises `InvalidTokenResponse`."""
        check_storable(new)
        grant_id = secrets.token_hex(16)
        bound_to = binding(grant_id, new.provider, new.user_id, new.subject)
        sealed = sealed_tokens(self._sealer, new.response.token_set(now=0.0), bound_to)
        statement = adding(grant_id, new, sealed)
        end = () if replaces is None else (ending("replaced").where(_row.id == replaces),)
        self._transactions.write_until(
            statement, *end, written=True, read_back=lambda _: self._read(grant_id) is not None or None
        )
        grant = self.load(grant_id)
        assert grant is not None
        return grant

    def load(self, grant_id: str) -> Grant | None:
        """Read the row."""
        row = self._read(grant_id)
        return None if row is None else self.grant_from(row)

    def find(self, user_id: str, provider: str) -> str | None:
        """Read the id of the user's newest grant that has not ended."""
        if not (is_storable(user_id) and is_storable(provider)):
            return None
        mine = living_of(user_id) & exactly(_row.provider, provider)
        newest_first = select(_row.id).where(mine).order_by(_row.created_at.desc(), _row.id.desc())
        row = self._transactions.read(newest_first.limit(1))
        return None if row is None else row.id

    def try_claim(
        self, seen: Grant, *, doubts: int, holder: str, seconds: float, awaited: bool = False
    ) -> Claim | Overtaken:
        """Take the claim by compare-and-set on the version, and its slot in the ledger."""
        claim = _claim_on(seen, awaited=awaited)
        holder = holder[:NAME_LENGTH]
        refresh_token = seen.tokens.refresh_token
        token_hash = None if refresh_token is None else self._sealer.hash(refresh_token)
        values = {**opening(claim, slot=doubts, token_hash=token_hash, holder=holder), "the_seconds": seconds}

        def read_back(outcomes: Sequence[Outcome]) -> Claim | Overtaken | None:
            # The slot before the row: a Galera node may apply another worker's claim between the two reads,
            # and its slot together with the old row would look like a second redemption.
            lost = outcomes[-1] is Outcome.LOST
            held = lost and self._transactions.read(holds_slot(claim, doubts)) is not None
            row = self._read(seen.id)
            if row is not None and row.claim_id == claim.id:
                return claim
            if row is None or row.version != seen.version or row.ended_at is not None:
                return Overtaken(None if row is None else self.grant_from(row))
            if held:
                raise LedgerConflict(seen.id, claim.redeems, doubts)
            return None

        won = cast("Claim | Overtaken", claim)
        return self._transactions.write_until(self._claims, values=values, written=won, read_back=read_back)

    def renew(self, claim: Claim, *, seconds: float) -> bool:
        """Extend the deadline of the claim, in one try: the holder repeats it a moment later."""
        values = {
            "the_grant_id": claim.grant_id,
            "the_claim_id": claim.id,
            "the_redeems": claim.redeems,
            "the_seconds": seconds,
        }
        return self._transactions.write(self._renews, values=values) is Outcome.WRITTEN

    def save(
        self, seen: Grant, claim: Claim, tokens: TokenSet, *, http_status: int | None = None
    ) -> SaveOutcome:
        """Store the token set unless a newer one is stored or the grant has ended."""
        bound_to = binding(seen.id, seen.provider, seen.user_id, seen.subject)
        outcome = {
            "the_claim_id": claim.id,
            "the_grant_id": claim.grant_id,
            "the_http_status": http_status,
        }
        values = {
            "the_version": claim.version,
            "the_sealed": sealed_tokens(self._sealer, tokens, bound_to),
            "the_expires_at": tokens.expires_at,
            "the_lifetime": tokens.lifetime,
            "the_refresh_expires_at": tokens.refresh_expires_at,
            **outcome,
        }

        def read_back(outcomes: Sequence[Outcome]) -> SaveOutcome | None:
            row = self._read(claim.grant_id)
            if row is None or row.ended_at is not None:
                self._record(self._rotated, outcome)
                return SaveOutcome.ENDED
            if row.token_version > claim.version:
                self._record(self._rotated, outcome)
                return SaveOutcome.SUPERSEDED
            return SaveOutcome.SAVED if row.token_version == claim.version else None

        return self._transactions.write_until(
            self._saves,
            wakes=self._waiters_of(claim),
            values=values,
            written=SaveOutcome.SAVED,
            read_back=read_back,
        )

    def release(
        self, claim: Claim, verdict: Verdict, *, in_doubt: bool = False, retry_after: float | None = None
    ) -> bool:
        """Clear the claim by its id."""
        statement = releasing(claim, verdict, in_doubt=in_doubt, retry_after=retry_after)
        record = released(claim, verdict)
        done = self._written(
            claim.grant_id,
            (statement, record),
            wakes=self._waiters_of(claim),
            eligible=lambda row: row.claim_id == claim.id,
            # Nobody else releases this claim, but a save or an end may have cleared it.
            applied=lambda row: row.ended_at is None and row.token_version == claim.redeems,
        )
        if not done:
            self._record(record)
        return done

    def end(
        self, grant_id: str, reason: EndReason, *, claim: Claim | None = None, verdict: Verdict | None = None
    ) -> bool:
        """End the row; with ``claim``, only if that claim may end it."""
        statement = ending(reason).where(_row.id == grant_id)
        record = () if claim is None or verdict is None else (settled(claim, verdict),)
        if claim is not None:
            statement = statement.where(_row.claim_id == claim.id, _row.token_version == claim.redeems)

        def eligible(row: Row[Any]) -> bool:
            held = claim is None or (row.claim_id == claim.id and row.token_version == claim.redeems)
            return row.ended_at is None and held

        return self._written(
            grant_id,
            (statement, *record),
            wakes=None if claim is None else self._waiters_of(claim),
            eligible=eligible,
            applied=lambda row: row.end_reason == reason,
        )

    def expire(self, grant_id: str, token_version: int) -> bool:
        """Set the expiry of the stored access token to now."""
        return self._written(
            grant_id,
            (expiring(grant_id, token_version),),
            eligible=lambda row: row.token_version == token_version,
            applied=lambda row: False,
        )

    def _read(self, grant_id: str) -> Row[Any] | None:
        if not is_storable(grant_id):
            return None
        return self._transactions.read(self._row_by_id, the_id=grant_id)

    def grant_from(self, row: Row[Any], known: TokenSet | None = None) -> Grant:
        """Return the grant that a row holds; ``known``: its token set, if it was decrypted before.

        Raises `GrantUnreadable`.
        """
        try:
            return grant_from_row(row, self._sealer, known)
        except DoesNotOpen as error:
            raise GrantUnreadable(row.id, error.sealed_with, self._sealer.fingerprints) from None
        except Malformed:
            sealed_with = fingerprint_of(row.sealed)
            raise GrantUnreadable(row.id, sealed_with, self._sealer.fingerprints, malformed=True) from None

    def _waiters_of(self, claim: Claim) -> str | None:
        """Return the grant whose waiters are notified when ``claim`` is settled.

        None where nobody waits: transactions that notify commit one after the other on PostgreSQL.
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

        ``applied`` returns whether the row contains a write whose outcome was unknown.
        """

        def read_back(outcomes: Sequence[Outcome]) -> bool | None:
            row = self._read(grant_id)
            if row is not None and eligible(row):
                return None
            return Outcome.UNKNOWN in outcomes and row is not None and applied(row)

        return self._transactions.write_until(*statements, wakes=wakes, written=True, read_back=read_back)

    def _record(self, record: Write | Update, values: Mapping[str, object] | None = None) -> None:
        """Record the outcome of a claim that does not stand any more: for people, so it is tried once."""
        with suppress(StoreUnavailable):
            self._transactions.write(record, values=values)


def _claim_on(seen: Grant, *, awaited: bool) -> Claim:
    return Claim(
        id=secrets.token_hex(16),
        grant_id=seen.id,
        version=seen.version + 1,
        redeems=seen.token_version,
        awaited=awaited,
    )
