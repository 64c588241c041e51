"""The protocol's writes to a grant's row, as guarded statements.

Each has a mark by which the row shows whether it was applied (see `transactions`). The statements of every
rotation have bind parameters and are made once.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Double,
    Insert,
    Integer,
    String,
    Update,
    bindparam,
    case,
    insert,
    null,
    update,
)

from ..rotation.tokens import Claim, EndReason, NewGrant
from ..rotation.verdict import Verdict
from .database.schema import NAME_LENGTH, db_now, grants
from .rows import exactly

_row = grants.c
# MariaDB and MySQL evaluate SET from left to right and use values that were just set: the claim's id comes
# last.
_CLAIM_COLUMNS = (
    _row.claim_holder,
    _row.claim_version,
    _row.claim_redeems,
    _row.claim_taken_at,
    _row.claim_deadline,
    _row.claim_id,
)
_TOKEN_COLUMNS = (_row.sealed, _row.expires_at, _row.lifetime, _row.refresh_expires_at)


def living_of(user_id: str) -> ColumnElement[bool]:
    """Return the condition that a grant is the user's and has not ended."""
    return exactly(_row.user_id, user_id) & _row.ended_at.is_(None)


def adding(grant_id: str, new: NewGrant, sealed: bytes) -> Insert:
    """Return the insert of a grant."""
    response = new.response
    now = db_now()
    return insert(grants).values(
        id=grant_id,
        provider=new.provider,
        subject=new.subject,
        user_id=new.user_id,
        login_id=new.login_id,
        created_at=now,
        version=0,
        token_version=0,
        sealed=sealed,
        expires_at=None if response.expires_in is None else now + response.expires_in,
        lifetime=response.expires_in,
        refresh_expires_at=None if response.refresh_expires_in is None else now + response.refresh_expires_in,
        doubts=0,
        failures=0,
    )


def claiming() -> Update:
    """Return the update that takes the claim; its values are `ledger.opening`'s, and ``the_seconds``."""
    now = db_now()
    version = bindparam("the_version", type_=Integer)
    return (
        update(grants)
        .where(_row.id == bindparam("the_grant_id"), _row.version == version - 1, _row.ended_at.is_(None))
        .values(
            version=version,
            doubts=bindparam("the_slot"),
            claim_id=bindparam("the_claim_id"),
            claim_holder=bindparam("the_holder"),
            claim_version=version,
            claim_redeems=bindparam("the_redeems"),
            claim_taken_at=now,
            claim_deadline=now + bindparam("the_seconds", type_=Double),
        )
    )


def renewing() -> Update:
    """Return the update that extends a claim's deadline; its values are those of `SqlGrantStore.renew`.

    The version grows, so that a claim by whoever saw the old deadline is lost. No indexed column is written.
    """
    return (
        update(grants)
        .where(
            _row.id == bindparam("the_grant_id"),
            _row.claim_id == bindparam("the_claim_id"),
            _row.token_version == bindparam("the_redeems"),
        )
        .values(
            version=_row.version + 1,
            claim_deadline=db_now() + bindparam("the_seconds", type_=Double),
        )
    )


def saving() -> Update:
    """Return the update that saves a token set; its values are those of `SqlGrantStore.save`."""
    version = bindparam("the_version", type_=Integer)
    claim_id = bindparam("the_claim_id", type_=String)
    return (
        update(grants)
        # Fenced by the token version alone: the row of a late winner has a newer version, and its token set
        # is the only copy. The newest claim's token set takes precedence, whichever is saved last.
        .where(_row.id == bindparam("the_grant_id"), _row.token_version < version, _row.ended_at.is_(None))
        .ordered_values(
            (_row.version, _row.version + 1),
            (_row.token_version, version),
            *((column, bindparam(f"the_{column.name}", type_=column.type)) for column in _TOKEN_COLUMNS),
            (_row.doubts, 0),
            (_row.retry_at, None),
            (_row.failure, None),
            (_row.failure_code, None),
            (_row.failures, 0),
            *((column, case((_row.claim_id == claim_id, null()), else_=column)) for column in _CLAIM_COLUMNS),
        )
    )


def releasing(claim: Claim, verdict: Verdict, *, in_doubt: bool, retry_after: float | None) -> Update:
    """Return the update that releases the claim, if it still stands.

    Where a late winner has saved a newer token set meanwhile, what the claim met says nothing about that one:
    the doubts and the pause stay as they are, or its refresh token would count as posted.
    """
    failure = code = None
    if retry_after is not None:
        failure = verdict.consequences.ledger_name
        code = None if verdict.code is None else verdict.code[:NAME_LENGTH]
    outcome: dict[Column[Any], Any] = {
        _row.doubts: _row.doubts + int(in_doubt),
        _row.retry_at: null() if retry_after is None else db_now() + retry_after,
        _row.failure: null() if failure is None else failure,
        _row.failure_code: null() if code is None else code,
        _row.failures: 0 if retry_after is None else _row.failures + 1,
    }
    is_of_stored = _row.token_version == claim.redeems
    return (
        update(grants)
        .where(_row.id == claim.grant_id, _row.claim_id == claim.id)
        .values(
            {
                "version": _row.version + 1,
                **{column.name: case((is_of_stored, new), else_=column) for column, new in outcome.items()},
                **dict.fromkeys(column.name for column in _CLAIM_COLUMNS),
            }
        )
    )


def expiring(grant_id: str, token_version: int) -> Update:
    """Return the update that marks the access token of a token version as expired."""
    return (
        update(grants)
        .where(_row.id == grant_id, _row.token_version == token_version)
        .values(expires_at=db_now())
    )


def ending(reason: EndReason) -> Update:
    """Return the update that ends the grants that the caller selects, where they have not ended."""
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
