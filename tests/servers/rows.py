"""Reads the rows of an application in other processes."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, create_engine, select
from sqlalchemy.pool import NullPool

from flask_tokenrotate.storage.database.schema import grants, redemptions


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
