"""Sign-in attempts on SQLAlchemy: `attempts.AttemptStore` for every engine."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import Row, delete, insert, select, update

from ..attempts import KEEP_EXPIRED_SECONDS, Attempt, AttemptMiss
from ..errors import StoreUnavailable
from ..rotation.tokens import Secret
from .database.engine import Database
from .database.schema import attempts, db_now
from .database.transactions import Outcome, Transactions
from .rows import hashed
from .sealed.content import Malformed, facts_in, text, texts_or_none
from .sealed.sealing import Binding, DoesNotOpen, Sealer

_row = attempts.c


class SqlAttemptStore:
    """The attempts in a database; the contract is `attempts.AttemptStore`."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._transactions = Transactions(database)
        self._sealer = sealer

    def begin(self, state: Secret, browser: Secret, attempt: Attempt, *, seconds: float) -> None:
        """Insert the attempt, then delete those that expired an hour ago."""
        state_hash = hashed(state)
        statement = insert(attempts).values(
            state_hash=state_hash,
            browser_hash=hashed(browser),
            sealed=self._sealer.seal(_written_out(attempt), _binding(state_hash)),
            expires_at=db_now() + seconds,
        )
        self._transactions.write_until(
            statement, written=True, read_back=lambda _: self._read(state_hash) is not None or None
        )
        # A transaction of its own: the range that it locks on MariaDB would make concurrent inserts deadlock.
        # What is not deleted now, because another request is deleting it, is deleted with the next attempt.
        with suppress(StoreUnavailable):
            self.prune()

    def prune(self) -> None:
        """Delete the attempts that expired an hour ago."""
        self._transactions.write(delete(attempts).where(_row.expires_at < db_now() - KEEP_EXPIRED_SECONDS))

    def take(self, state: Secret, browser: Secret | None) -> Attempt | AttemptMiss:
        """Mark the attempt as used by compare-and-set, with this call's own random id."""
        state_hash = hashed(state)
        browser_hash = None if browser is None else hashed(browser)
        row = self._read(state_hash)
        miss = _miss(row, browser_hash)
        if row is None or miss is not None:
            return miss or "unknown_state"
        try:
            attempt = _read_back(self._sealer.open(row.sealed, _binding(state_hash)))
        except (DoesNotOpen, Malformed):
            # The keys or the version were changed while the user was at the provider.
            return "unknown_state"
        return self._use_up(state_hash, browser_hash, attempt)

    def _use_up(self, state_hash: str, browser_hash: str | None, attempt: Attempt) -> Attempt | AttemptMiss:
        take_id = secrets.token_hex(16)
        now = db_now()
        statement = (
            update(attempts)
            .where(_row.state_hash == state_hash, _row.browser_hash == browser_hash)
            .where(_row.used_at.is_(None), _row.expires_at > now)
            .values(used_at=now, used_by=take_id)
        )

        def read_back(outcomes: Sequence[Outcome]) -> Attempt | AttemptMiss | None:
            row = self._read(state_hash)
            if row is not None and row.used_by == take_id:
                return attempt
            return _miss(row, browser_hash)

        return self._transactions.write_until(statement, written=attempt, read_back=read_back)

    def _read(self, state_hash: str) -> Row[Any] | None:
        return self._transactions.read(
            select(attempts, db_now().label("seen_at")).where(_row.state_hash == state_hash)
        )


def _miss(row: Row[Any] | None, browser_hash: str | None) -> AttemptMiss | None:
    """Return why the attempt cannot be taken; the most specific reason first."""
    if row is None:
        return "unknown_state"
    if row.used_at is not None:
        return "already_used"
    if row.expires_at <= row.seen_at:
        return "expired"
    if browser_hash is None:
        return "no_cookie"
    return None if row.browser_hash == browser_hash else "other_browser"


def _binding(state_hash: str) -> Binding:
    return ("attempt", state_hash)


def _written_out(attempt: Attempt) -> bytes:
    facts = {
        "provider": attempt.provider,
        "verifier": attempt.verifier.reveal(),
        "nonce": attempt.nonce.reveal(),
        "redirect_uri": attempt.redirect_uri,
        "next_url": attempt.next_url,
        "scopes": sorted(attempt.scopes),
    }
    return json.dumps(facts).encode()


def _read_back(plain: bytes) -> Attempt:
    """Return what `_written_out` wrote. Raises `Malformed`."""
    keys = ("provider", "verifier", "nonce", "redirect_uri", "next_url", "scopes")
    facts = facts_in(plain, *keys)
    return Attempt(
        provider=text(facts["provider"]),
        verifier=Secret(text(facts["verifier"])),
        nonce=Secret(text(facts["nonce"])),
        redirect_uri=text(facts["redirect_uri"]),
        next_url=text(facts["next_url"]),
        scopes=texts_or_none(facts["scopes"]) or frozenset(),
    )
