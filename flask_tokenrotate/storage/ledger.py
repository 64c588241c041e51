"""The ledger's statements: one row for each claim, written in the claim's own transaction.

A row never holds a token, only its keyed hash. The slot is what keeps a refresh token from being
redeemed once too often even where everything above the database is wrong: see `schema.redemptions`.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Insert, Select, Update, insert, literal, null, select, update

from ..rotation.ports import Release
from ..rotation.tokens import Claim
from .schema import db_now, redemptions

_row = redemptions.c


def opened(claim: Claim, *, slot: int, token_hash: str | None, holder: str) -> Insert:
    """Return the insert of the row of ``claim``, which takes the slot."""
    values: dict[str, Any] = {
        "claim_id": claim.id,
        "grant_id": claim.grant_id,
        "version": claim.version,
        "redeems": claim.redeems,
        "slot": slot,
        "token_hash": token_hash,
        "holder": holder,
    }
    facts = [literal(value, _row[name].type).label(name) for name, value in values.items()]
    # From a select, which can have a condition: see `transactions`.
    return insert(redemptions).from_select(
        [*values, "claimed_at"], select(*facts, db_now().label("claimed_at"))
    )


def holds_slot(claim: Claim, slot: int) -> Select[Any]:
    """Return the select of the row that holds the slot that ``claim`` wants."""
    return select(_row.claim_id).where(
        _row.grant_id == claim.grant_id, _row.redeems == claim.redeems, _row.slot == slot
    )


def rotated(claim: Claim, http_status: int | None) -> Update:
    """Return the update that tells that ``claim`` brought a token set."""
    return _settled(claim, "rotated", http_status)


def refused(claim: Claim, http_status: int | None) -> Update:
    """Return the update that tells that the provider refused the refresh token of ``claim``."""
    return _settled(claim, "refused", http_status)


def released(claim: Claim, how: Release) -> Update:
    """Return the update that tells how ``claim`` was given up, and frees its slot if ``how`` says so."""
    statement = _settled(claim, how.verdict, how.http_status).where(_row.verdict.is_(None))
    return statement.values(slot=null()) if how.is_unspent else statement


def _settled(claim: Claim, verdict: str, http_status: int | None) -> Update:
    return (
        update(redemptions)
        .where(_row.claim_id == claim.id)
        .values(settled_at=db_now(), verdict=verdict, http_status=http_status)
    )
