"""Reads the ledger: one grant's history, and whether anything in it contradicts the protocol.

Only hashes, numbers, times and verdicts are read: an audit needs no key and shows no token.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Select, and_, delete, exists, func, or_, select

from ...rotation.protocol import MAX_POSTS
from ...rotation.verdict import CONSEQUENCES, Rotated
from ..database.engine import Database
from ..database.schema import db_now, grants, redemptions
from ..database.transactions import Transactions

BATCH = 500
"""Rows that are deleted in one transaction."""

DAY = 86400.0

_grant = grants.c
_row = redemptions.c


@dataclass(frozen=True, kw_only=True, slots=True)
class Redemption:
    """One line of a grant's history; times in epoch seconds by the database's clock.

    ``version`` is the token version that the claim was to produce, ``redeems`` the one whose refresh
    token it redeemed. ``slot`` None: the refresh token is known to be unspent. ``verdict`` None: no
    outcome was written, so that it may have been spent.
    """

    claim_id: str
    version: int
    redeems: int
    slot: int | None
    holder: str
    claimed_at: float
    settled_at: float | None
    verdict: str | None
    http_status: int | None

    def __str__(self) -> str:
        """Return the line for people; its time is UTC."""
        claimed_at = datetime.fromtimestamp(self.claimed_at, UTC).isoformat(sep=" ", timespec="milliseconds")
        attempt = {None: "unspent", 0: "first redemption", 1: "replay"}[self.slot]
        status = "" if self.http_status is None else f" (HTTP {self.http_status})"
        outcome = f"{self.verdict}{status}" if self.verdict else "no outcome written"
        took = "" if self.settled_at is None else f" {self.settled_at - self.claimed_at:.3f} s later"
        return (
            f"{claimed_at}  version {self.version}: {self.holder} redeems "
            f"version {self.redeems} ({attempt}) -> {outcome}{took}"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Breach:
    """One contradiction between the ledger, the rows and the protocol."""

    grant_id: str
    what: str


class Audit:
    """The ledger of one database, for people. Errors as in `ports.GrantStore`."""

    def __init__(self, database: Database) -> None:
        self._transactions = Transactions(database)

    def history(self, grant_id: str) -> list[Redemption]:
        """Return the grant's redemptions, oldest first."""
        columns = [_row[name] for name in Redemption.__slots__]
        mine = select(*columns).where(_row.grant_id == grant_id).order_by(_row.version, _row.claimed_at)
        return [Redemption(**row._mapping) for row in self._transactions.read_all(mine)]

    def breaches(self) -> list[Breach]:
        """Return every breach in the ledger; normally an empty list."""
        return [
            Breach(grant_id=row.grant_id, what=what.format(**row._mapping))
            for statement, what in _rules()
            for row in self._transactions.read_all(statement)
        ]

    def prune(self, *, days: float) -> int:
        """Delete what was claimed more than ``days`` days ago and return how many rows that were.

        The redemption that brought the stored token set stays, and so does every redemption of that set: a
        slot that is deleted would be free for a second redemption.
        """
        needed = exists().where(
            _grant.id == _row.grant_id,
            or_(_grant.token_version == _row.version, _grant.token_version <= _row.redeems),
        )
        old = select(_row.claim_id).where(_row.claimed_at < db_now() - days * DAY, ~needed).limit(BATCH)
        pruned = 0
        while batch := [row.claim_id for row in self._transactions.read_all(old)]:
            self._transactions.delete(delete(redemptions).where(_row.claim_id.in_(batch)))
            pruned += len(batch)
        return pruned


def _rules() -> Iterator[tuple[Select[Any], str]]:
    """Yield the statement that selects the breaches of each rule, and its message."""
    spent = _row.slot.is_not(None)
    posts = func.count().label("posts")
    yield (
        # By version as well: a provider that does not rotate gives the same refresh token again.
        select(_row.grant_id, _row.redeems, posts)
        .where(spent, _row.token_hash.is_not(None))
        .group_by(_row.grant_id, _row.redeems, _row.token_hash)
        .having(posts > MAX_POSTS),
        f"the refresh token of version {{redeems}} was presented {{posts}} times, {MAX_POSTS} are allowed",
    )
    yield (
        select(_row.grant_id, _row.redeems, _row.slot, posts)
        .where(spent)
        .group_by(_row.grant_id, _row.redeems, _row.slot)
        .having(posts > 1),
        "{posts} redemptions of token version {redeems} hold the slot {slot}",
    )
    yield (
        select(_row.grant_id, _row.version, posts).group_by(_row.grant_id, _row.version).having(posts > 1),
        "{posts} claims were taken at version {version}",
    )
    # A verdict that is in neither list is a later version's, which knows what it means.
    unspent = [name for name, consequences in CONSEQUENCES.items() if consequences.spent is False]
    held = [name for name in CONSEQUENCES if name not in unspent]
    yield (
        select(_row.grant_id, _row.claim_id, _row.verdict).where(
            or_(
                and_(spent, _row.verdict.in_(unspent)),
                and_(_row.slot.is_(None), or_(_row.verdict.is_(None), _row.verdict.in_(held))),
            )
        ),
        "the slot of claim {claim_id} contradicts its verdict {verdict}",
    )
    yield from _rules_of_rows()


def _rules_of_rows() -> Iterator[tuple[Select[Any], str]]:
    """Yield the rules about the ledger and the grants' rows together."""
    rotated = _row.verdict == Rotated.consequences.ledger_name
    brought = exists().where(_row.grant_id == _grant.id, _row.version == _grant.token_version, rotated)
    yield (
        select(_grant.id.label("grant_id"), _grant.token_version).where(_grant.token_version > 0, ~brought),
        "no redemption in the ledger brought the stored token version {token_version}",
    )
    same_grant = redemptions.join(grants, _grant.id == _row.grant_id)
    yield (
        select(_row.grant_id, _row.version, _grant.token_version)
        .select_from(same_grant)
        .where(rotated, _row.version > _grant.token_version, _grant.ended_at.is_(None)),
        "token version {version} was received, but the row has version {token_version}",
    )
    yield (
        select(_row.grant_id, _row.version, _grant.version.label("row_version"))
        .select_from(same_grant)
        .where(_row.version > _grant.version),
        "a claim was taken at version {version}, but the row is at {row_version}",
    )
