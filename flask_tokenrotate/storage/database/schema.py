"""The tables, and the database's own clock.

Times are epoch seconds in double precision, taken by `db_now` inside the statements: hosts need no common
clock. There is no index on a column that the protocol writes: on PostgreSQL the updates of a grant then stay
on its page (heap-only tuples), where the fill factor leaves room for them.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    CheckConstraint,
    Column,
    Connection,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    event,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

NAME_LENGTH = 255
"""Longest provider, user id and subject, in characters."""


def _text(length: int) -> String:
    """Return a text type that compares byte by byte, as ids have to, and that MariaDB can index."""
    # The collation implies its character set; the dialect's own type would import all of its drivers.
    return String(length).with_variant(String(length, collation="utf8mb4_bin"), "mysql", "mariadb")


_MYSQL_OPTIONS = {"engine": "InnoDB", "charset": "utf8mb4", "collate": "utf8mb4_bin"}

metadata = MetaData()

grants = Table(
    "tokenrotate_grants",
    metadata,
    Column("id", _text(32), primary_key=True),
    Column("provider", _text(NAME_LENGTH), nullable=False),
    Column("subject", _text(NAME_LENGTH)),
    Column("user_id", _text(NAME_LENGTH)),
    # Of the session that signed in (`sessions.store`): written once, so its index costs no rotation anything.
    Column("login_id", _text(32), index=True),
    Column("created_at", Double, nullable=False),
    Column("version", Integer, nullable=False),
    Column("token_version", Integer, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("expires_at", Double),
    Column("lifetime", Double),
    Column("refresh_expires_at", Double),
    Column("claim_holder", _text(NAME_LENGTH)),
    Column("claim_version", Integer),
    Column("claim_redeems", Integer),
    Column("claim_taken_at", Double),
    Column("claim_deadline", Double),
    Column("claim_id", _text(32)),
    Column("doubts", Integer, nullable=False),
    Column("retry_at", Double),
    Column("failure", _text(NAME_LENGTH)),
    Column("failure_code", _text(NAME_LENGTH)),
    Column("failures", Integer, nullable=False),
    Column("ended_at", Double),
    Column("end_reason", _text(32)),
    Index("tokenrotate_grants_user", "user_id", "provider"),
)

attempts = Table(
    "tokenrotate_attempts",
    metadata,
    Column("state_hash", _text(64), primary_key=True),
    Column("browser_hash", _text(64), nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("expires_at", Double, nullable=False, index=True),
    Column("used_at", Double),
    Column("used_by", _text(32)),
)

sessions = Table(
    "tokenrotate_sessions",
    metadata,
    Column("id_hash", _text(64), primary_key=True),
    # With a length: without one MariaDB and MySQL make a column of at most 64 KiB.
    Column("data", LargeBinary(2**24 - 1), nullable=False),
    Column("version", Integer, nullable=False),
    Column("login_id", _text(32), nullable=False),
    Column("user_id", _text(NAME_LENGTH), index=True),
    Column("expires_at", Double, nullable=False, index=True),
    Column("ended_at", Double),
)


redemptions = Table(
    "tokenrotate_redemptions",
    metadata,
    Column("claim_id", _text(32), primary_key=True),
    Column("grant_id", _text(32), nullable=False),
    Column("version", Integer, nullable=False),
    Column("redeems", Integer, nullable=False),
    # 0 for the first redemption, 1 for the one replay, NULL once the refresh token is known unspent.
    Column("slot", Integer),
    Column("token_hash", _text(64)),
    Column("holder", _text(NAME_LENGTH), nullable=False),
    Column("claimed_at", Double, nullable=False),
    Column("settled_at", Double),
    Column("verdict", _text(32)),
    Column("http_status", Integer),
    # The database itself refuses one redemption too many, whatever the code does.
    Index("tokenrotate_redemptions_slot", "grant_id", "redeems", "slot", unique=True),
    CheckConstraint("slot in (0, 1)", name="tokenrotate_redemptions_two_slots"),
)


@event.listens_for(metadata, "before_create")
def _name_mysqls_options(metadata: MetaData, connection: Connection, **kw: Any) -> None:
    # Not in the tables' definitions: a dialect's name there imports it, whichever database is used.
    dialect = connection.dialect.name
    if dialect in ("mysql", "mariadb"):
        for table in metadata.tables.values():
            table.kwargs.update({f"{dialect}_{name}": value for name, value in _MYSQL_OPTIONS.items()})


@event.listens_for(grants, "after_create")
def _leave_room_on_each_page(table: Table, connection: Connection, **kw: Any) -> None:
    # Without room on its page a row's next version goes to another one and costs an entry in each index.
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"ALTER TABLE {table.name} SET (fillfactor = 50)")


class db_now(FunctionElement[float]):
    """The database's clock in epoch seconds, independent of any session's time zone."""

    type = Double()
    inherit_cache = True
    name = "db_now"


@compiles(db_now, "postgresql")
def _postgresql_now(element: db_now, compiler: SQLCompiler, **kw: Any) -> str:
    # now() stands still within a transaction; this one goes on.
    return "CAST(extract(epoch FROM clock_timestamp()) AS double precision)"


@compiles(db_now, "mysql", "mariadb")
def _mysql_now(element: db_now, compiler: SQLCompiler, **kw: Any) -> str:
    # unix_timestamp(now(6)) uses the session's time zone and is an hour off when clocks are set back.
    return "(timestampdiff(MICROSECOND, '1970-01-01', utc_timestamp(6)) / 1000000e0)"


@compiles(db_now, "sqlite")
def _sqlite_now(element: db_now, compiler: SQLCompiler, **kw: Any) -> str:
    # unixepoch('now', 'subsec') needs SQLite 3.42.
    return "((julianday('now') - 2440587.5) * 86400.0)"
