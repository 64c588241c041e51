"""Checks the database for an operator: its clock, and whether the keys open what it holds."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass

from sqlalchemy import func, select

from ..database.engine import Database
from ..database.schema import db_now, grants
from ..database.transactions import Transactions
from ..rows import binding
from ..sealed.sealing import FINGERPRINT_AT, DoesNotOpen, Sealer
from .reseal import Unreadable

_row = grants.c


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """How many rows were ``sampled``, those of them that no key decrypts, and the clocks' difference.

    ``clock_ahead``: seconds by which this host's clock is ahead of the database's.
    """

    clock_ahead: float
    sampled: int
    unreadable: tuple[Unreadable, ...]


def grants_by_key(database: Database) -> dict[str, int]:
    """Return how many grants each key has encrypted, by its fingerprint. Reads the whole table.

    Raises `StoreUnavailable` and `TablesMissing`.
    """
    fingerprint = func.substr(
        _row.sealed, FINGERPRINT_AT.start + 1, FINGERPRINT_AT.stop - FINGERPRINT_AT.start
    )
    counted = select(fingerprint.label("key"), func.count().label("grants")).group_by(fingerprint)
    return {bytes(row.key).hex(): row.grants for row in Transactions(database).read_all(counted)}


def survey(database: Database, sealer: Sealer, *, sample: int) -> Survey:
    """Decrypt up to ``sample`` grants chosen at random. Raises `StoreUnavailable` and `TablesMissing`.

    The rows that other workers sealed show which keys those have.
    """
    transactions = Transactions(database)
    before = time.time()
    now = transactions.read(select(db_now().label("now")))
    assert now is not None
    # The database reads its clock about in the middle of the round trip.
    clock_ahead = (before + time.time()) / 2 - now.now
    columns = select(_row.id, _row.provider, _row.user_id, _row.subject, _row.sealed).limit(sample)
    # Ids are random, so the neighbours of a random id are a sample, and the primary key finds them.
    start = secrets.token_hex(16)
    rows = list(transactions.read_all(columns.where(_row.id >= start).order_by(_row.id)))
    if len(rows) < sample:
        rows += transactions.read_all(columns.where(_row.id < start).order_by(_row.id.desc()))
    unreadable = []
    for row in rows[:sample]:
        try:
            sealer.open(row.sealed, binding(row.id, row.provider, row.user_id, row.subject))
        except DoesNotOpen as error:
            unreadable.append(Unreadable(grant_id=row.id, sealed_with=error.sealed_with))
    return Survey(clock_ahead=clock_ahead, sampled=len(rows[:sample]), unreadable=tuple(unreadable))
