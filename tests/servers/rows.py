"""Reads the rows of an application in other processes."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, create_engine, select, update
from sqlalchemy.pool import NullPool

from flask_tokenrotate.storage.database.schema import db_now, grants, redemptions


def grant_row(database: str, grant: str) -> Row[Any]:
    """Return the row of a grant."""
    with create_engine(database, poolclass=NullPool).connect() as connection:
        return connection.execute(select(grants).where(grants.c.id == grant)).one()


def claim_holder(database: str, grant: str) -> int | None:
    """Return the id of the process that holds the claim of a grant, or None."""
    holder = grant_row(database, grant).claim_holder
    return None if holder is None else int(holder.split(":")[1])


def verdicts(database: str, grant: str) -> list[str | None]:
    """Return what became of each redemption of a grant, by the ledger; None: not known yet."""
    mine = select(redemptions.c.verdict).where(redemptions.c.grant_id == grant)
    with create_engine(database, poolclass=NullPool).connect() as connection:
        return list(connection.execute(mine.order_by(redemptions.c.version)).scalars())


def set_remaining(database: str, grant: str, seconds: float) -> None:
    """Let the access token of a grant live for ``seconds`` more, as if it had been issued before now.

    Nothing else of the row changes, and not its version: the protocol sees an older token.
    """
    with create_engine(database, poolclass=NullPool).begin() as connection:
        values = {"expires_at": db_now() + seconds}
        connection.execute(update(grants).where(grants.c.id == grant).values(values))
