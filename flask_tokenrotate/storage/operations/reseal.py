"""Reseals every grant's row with the first key, while the application runs.

One guarded UPDATE for each row that another key sealed: it replaces only the bytes that were opened, so a
token set that is saved meanwhile is never overwritten, and the row always holds one sealed value that the
configured keys open. A pass that is stopped loses nothing: the next one skips what is done. This is no write
of the protocol: versions stay as they are.

Sign-ins in progress are not resealed; they are over after ``TOKENROTATE_ATTEMPT_SECONDS``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, Select, Update, select, update

from ..database.engine import Database
from ..database.schema import grants
from ..database.transactions import Outcome, Transactions
from ..rows import binding
from ..sealed.sealing import DoesNotOpen, Sealer, fingerprint_of

BATCH = 200
"""Rows that are read by one statement."""

_row = grants.c
_SEALED_COLUMNS = (_row.id, _row.provider, _row.user_id, _row.subject, _row.sealed)


@dataclass(frozen=True, kw_only=True, slots=True)
class Unreadable:
    """A row that no configured key decrypts; ``sealed_with`` is the fingerprint of its key."""

    grant_id: str
    sealed_with: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Resealed:
    """How many rows were resealed and how many had the first key already; rows that no key decrypts."""

    resealed: int
    skipped: int
    unreadable: tuple[Unreadable, ...]


def reseal(database: Database, sealer: Sealer, *, batch: int = BATCH) -> Iterator[Resealed]:
    """Reseal all grants with the first key of ``sealer``; yield the result of each batch of rows.

    Raises `StoreUnavailable` and `TablesMissing`.
    """
    transactions = Transactions(database)
    after = ""
    while rows := transactions.read_all(_next_rows(after, batch)):
        outcomes = [_reseal_row(transactions, sealer, row) for row in rows]
        yield Resealed(
            resealed=outcomes.count(True),
            skipped=outcomes.count(False),
            unreadable=tuple(each for each in outcomes if isinstance(each, Unreadable)),
        )
        after = rows[-1].id


def total(batches: Iterable[Resealed]) -> Resealed:
    """Return the sum over ``batches``."""
    done = list(batches)
    return Resealed(
        resealed=sum(each.resealed for each in done),
        skipped=sum(each.skipped for each in done),
        unreadable=tuple(unreadable for each in done for unreadable in each.unreadable),
    )


def _next_rows(after: str, batch: int) -> Select[Any]:
    return select(*_SEALED_COLUMNS).where(_row.id > after).order_by(_row.id).limit(batch)


def _reseal_row(transactions: Transactions, sealer: Sealer, row: Row[Any]) -> bool | Unreadable:
    """Return whether this call resealed the row; it does nothing where the first key sealed it."""
    newest = select(*_SEALED_COLUMNS).where(_row.id == row.id)
    outcomes: list[Outcome] = []

    def step() -> bool | None:
        seen = transactions.read(newest) if outcomes else row
        if seen is None or fingerprint_of(seen.sealed) == sealer.fingerprints[0]:
            return Outcome.UNKNOWN in outcomes
        bound_to = binding(seen.id, seen.provider, seen.user_id, seen.subject)
        sealed = sealer.seal(sealer.open(seen.sealed, bound_to), bound_to)
        outcomes.append(transactions.write(_write_back(seen, sealed)))
        return True if outcomes[-1] is Outcome.WRITTEN else None

    try:
        return transactions.keep_trying(step)
    except DoesNotOpen as error:
        return Unreadable(grant_id=row.id, sealed_with=error.sealed_with)


def _write_back(seen: Row[Any], sealed: bytes) -> Update:
    # Without the second condition a token set that was saved after the read would be lost, and with it the
    # only refresh token that the provider still accepts.
    return update(grants).where(_row.id == seen.id, _row.sealed == seen.sealed).values(sealed=sealed)
