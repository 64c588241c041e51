"""The ledger's statements: one row for each claim, written in the claim's own transaction.

A row never holds a token, only its keyed hash. The slot is what keeps a refresh token from being
redeemed once too often even where everything above the database is wrong: see `schema.redemptions`.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Insert, Select, Update, bindparam, insert, null, select, update

from ..rotation.ports import Release
from ..rotation.tokens import Claim
from .database.schema import db_now, redemptions

_row = redemptions.c
_OPENING = ("claim_id", "grant_id", "version", "redeems", "slot", "token_hash", "holder")


def opened() -> Insert:
    """Return the insert of a claim's row, which takes the slot; its values are `opening`."""
    facts = [bindparam(f"the_{name}", type_=_row[name].type).label(name) for name in _OPENING]
    # From a select, which can have a condition: see `transactions`.
    return insert(redemptions).from_select(
        [*_OPENING, "claimed_at"], select(*facts, db_now().label("claimed_at"))
    )


def opening(claim: Claim, *, slot: int, token_hash: str | None, holder: str) -> dict[str, object]:
    """Return the values of `opened`."""
    facts = (claim.id, claim.grant_id, claim.version, claim.redeems, slot, token_hash, holder)
    return {f"the_{name}": value for name, value in zip(_OPENING, facts, strict=True)}


def holds_slot(claim: Claim, slot: int) -> Select[Any]:
    """Return the select of the row that holds the slot that ``claim`` wants."""
    return select(_row.claim_id).where(
        _row.grant_id == claim.grant_id, _row.redeems == claim.redeems, _row.slot == slot
    )


def rotated() -> Update:
    """Return the update that tells that a claim brought a token set.

    Its values: ``the_claim_id``, ``the_grant_id`` and ``the_http_status``.
    """
    return (
        update(redemptions)
        # By grant as well, which finds the partition where the table has some.
        .where(_row.claim_id == bindparam("the_claim_id"), _row.grant_id == bindparam("the_grant_id"))
        .values(settled_at=db_now(), verdict="rotated", http_status=bindparam("the_http_status"))
    )


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
        .where(_row.claim_id == claim.id, _row.grant_id == claim.grant_id)
        .values(settled_at=db_now(), verdict=verdict, http_status=http_status)
    )
