"""From values to rows and back: what is sealed, what is a column, and how a `Grant` is read.

The expiry times are columns, because the protocol reads them in SQL; the tokens and what describes them are
one sealed JSON object.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

from sqlalchemy import Column, ColumnElement, Row

from ..errors import InvalidTokenResponse
from ..rotation.tokens import Claim, Grant, NewGrant, Secret, StandingClaim, TokenSet
from .database.schema import NAME_LENGTH
from .sealed.content import facts_in
from .sealed.sealing import Binding, Sealer
from .sealed.token_sets import TOKEN_FACTS, read_tokens, written_tokens


def binding(grant_id: str, provider: str, user_id: str | None, subject: str | None) -> Binding:
    """Return what the token set of a grant is bound to."""
    return ("grant", grant_id, provider, user_id, subject)


def sealed_tokens(sealer: Sealer, tokens: TokenSet, bound_to: Binding) -> bytes:
    """Return the sealed part of ``tokens``."""
    return sealer.seal(json.dumps(written_tokens(tokens)).encode(), bound_to)


def grant_from_row(row: Row[Any], sealer: Sealer, known: TokenSet | None = None) -> Grant:
    """Return the grant that ``row`` holds. Raises `sealing.DoesNotOpen` and `Malformed`.

    ``known`` is the row's token set as this process has decrypted it before: only its times are read again.
    """
    times = {name: getattr(row, name) for name in ("expires_at", "lifetime", "refresh_expires_at")}
    if known is not None:
        tokens = replace(known, **times)
    else:
        bound_to = binding(row.id, row.provider, row.user_id, row.subject)
        tokens = read_tokens(facts_in(sealer.open(row.sealed, bound_to), *TOKEN_FACTS), **times)
    return Grant(
        id=row.id,
        provider=row.provider,
        tokens=tokens,
        seen_at=row.seen_at,
        subject=row.subject,
        user_id=row.user_id,
        created_at=row.created_at,
        version=row.version,
        token_version=row.token_version,
        standing=_standing(row),
        doubts=row.doubts,
        retry_at=row.retry_at,
        failure=row.failure,
        failure_code=row.failure_code,
        failures=row.failures,
        ended_at=row.ended_at,
        end_reason=row.end_reason,
    )


def check_storable(new: NewGrant) -> None:
    """Raise `InvalidTokenResponse` for a name that no column stores unchanged.

    Without this check a database in lenient mode would cut a long user id, and two users could share one.
    """
    for name in ("provider", "user_id", "subject"):
        value = getattr(new, name)
        if value is not None and not is_storable(value):
            raise InvalidTokenResponse(
                f"The {name} of this grant cannot be stored: it has {len(value)} characters; at most "
                f"{NAME_LENGTH} are allowed, all of them valid Unicode and none a NUL."
            )


def is_storable(name: str) -> bool:
    """Return whether every engine stores ``name`` unchanged."""
    unicode = name.isascii() or not any("\ud800" <= character <= "\udfff" for character in name)
    return len(name) <= NAME_LENGTH and "\x00" not in name and unicode


def hashed(secret: Secret) -> str:
    """Return the hash by which a row is found whose secret is not stored."""
    return hashlib.sha256(secret.encoded()).hexdigest()


def exactly(column: Column[str], value: str) -> ColumnElement[bool]:
    """Compare with trailing spaces counted.

    On MariaDB and MySQL ``"ada " = "ada"`` is true, even in a binary collation, and one user would get the
    other's grant. The first condition is for the index.
    """
    return (column == value) & (column.concat(".") == value + ".")


def _standing(row: Row[Any]) -> StandingClaim | None:
    if row.claim_id is None:
        return None
    return StandingClaim(
        claim=Claim(id=row.claim_id, grant_id=row.id, version=row.claim_version, redeems=row.claim_redeems),
        holder=row.claim_holder,
        taken_at=row.claim_taken_at,
        deadline=row.claim_deadline,
    )
