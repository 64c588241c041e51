"""The ledger's statements: one row for each claim, written in the claim's own transaction.

A row contains no token, only its keyed hash. The slot keeps a refresh token from being redeemed once too
often, even if all code above the database is wrong: see `schema.redemptions`.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Insert, Select, Update, bindparam, insert, null, select, update

from ..rotation.tokens import Claim
from ..rotation.verdict import Rotated, Verdict
from .database.schema import db_now, redemptions

_row = redemptions.c
_OPENING = ("claim_id", "grant_id", "version", "redeems", "slot", "token_hash", "holder")


def opened() -> Insert:
    """Return the insert of a claim's row, which takes the slot; its values are `opening`."""
    facts = [bindparam(f"the_{name}", type_=_row[name].type).label(name) for name in _OPENING]
    # From a select, which can have a condition: see `write`.
    return insert(redemptions).from_select(
        [*_OPENING, "claimed_at"], select(*facts, db_now().label("claimed_at"))
    )


def opening(claim: Claim, *, slot: int, token_hash: str | None, holder: str) -> dict[str, object]:
    """Return the values of `opened`."""
    facts = (claim.id, claim.grant_id, claim.version, claim.redeems, slot, token_hash, holder)
    return {f"the_{name}": value for name, value in zip(_OPENING, facts, strict=True)}


def holds_slot(claim: Claim, slot: int) -> Select[Any]:
    """Return the select of the row that holds the slot that ``claim`` needs."""
    return select(_row.claim_id).where(
        _row.grant_id == claim.grant_id, _row.redeems == claim.redeems, _row.slot == slot
    )


def rotated() -> Update:
    """Return the update for a claim whose redemption brought a token set.

    Its values: ``the_claim_id``, ``the_grant_id`` and ``the_http_status``.
    """
    return (
        update(redemptions)
        # By grant as well, which selects the partition if the table has any.
        .where(_row.claim_id == bindparam("the_claim_id"), _row.grant_id == bindparam("the_grant_id"))
        .values(
            settled_at=db_now(),
            verdict=Rotated.consequences.ledger_name,
            http_status=bindparam("the_http_status"),
        )
    )


def settled(claim: Claim, verdict: Verdict) -> Update:
    """Return the update with the verdict on the redemption of ``claim``."""
    name = verdict.consequences.ledger_name
    return (
        update(redemptions)
        .where(_row.claim_id == claim.id, _row.grant_id == claim.grant_id)
        .values(settled_at=db_now(), verdict=name, http_status=verdict.http_status)
    )


def released(claim: Claim, verdict: Verdict) -> Update:
    """Return the same unless there is a verdict already; the slot is free again if the token is unspent."""
    statement = settled(claim, verdict).where(_row.verdict.is_(None))
    return statement.values(slot=null()) if verdict.consequences.spent is False else statement
