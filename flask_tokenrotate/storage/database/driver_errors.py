"""What the drivers' errors mean, engine by engine: the one place that knows their codes.

==================  ==========================================  ==================================
Meaning             PostgreSQL (SQLSTATE)                       MariaDB and MySQL; SQLite
==================  ==========================================  ==================================
``LOST``            40001 serialization, 40P01 deadlock,        1213 deadlock or Galera conflict,
                    55P03 lock wait, 23505 unique key           1205 lock wait, 1020 record
                                                                changed, 1062 unique key;
                                                                SQLITE_BUSY, SQLITE_LOCKED,
                                                                SQLite's unique key
``UNKNOWN``         the connection broke                        the connection broke; 1180 error
                                                                during COMMIT (Galera);
                                                                SQLITE_IOERR
``TABLES_MISSING``  42P01                                       1146; "no such table"
``REFUSED``         anything else                               anything else, 1047 (Galera
                                                                without quorum) among it
==================  ==========================================  ==================================

``LOST``: the statement was undone in favour of another transaction, nothing is written. ``UNKNOWN``:
it may be written or not; the row has to be read.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from enum import Enum
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ...errors import StoreUnavailable, TablesMissing


class Failure(Enum):
    """What a driver's error means for the statement that raised it."""

    LOST = "lost"
    UNKNOWN = "unknown"
    TABLES_MISSING = "tables missing"
    REFUSED = "refused"


_BY_SQLSTATE = {
    **dict.fromkeys(("40001", "40P01", "55P03", "23505"), Failure.LOST),
    "42P01": Failure.TABLES_MISSING,
}
_BY_MYSQL_CODE = {
    **dict.fromkeys((1213, 1205, 1020, 1062), Failure.LOST),
    1180: Failure.UNKNOWN,
    1146: Failure.TABLES_MISSING,
}
_SQLITE_LOST = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_SQLITE_UNKNOWN = {sqlite3.SQLITE_IOERR}
_SQLITE_LOST_EXTENDED = {sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_UNIQUE}
_SQLITE_PRIMARY_CODE = 0xFF


def classify(error: DBAPIError) -> Failure:
    """Return what ``error`` means for the statement."""
    if error.connection_invalidated:
        return Failure.UNKNOWN
    original = error.orig
    if isinstance(original, sqlite3.Error):
        return _classify_sqlite(original)
    code = _code(original)
    by_code: Mapping[Any, Failure] = _BY_MYSQL_CODE if isinstance(code, int) else _BY_SQLSTATE
    return by_code.get(code, Failure.REFUSED)


def came_from_server(error: SQLAlchemyError) -> bool:
    """Return whether PostgreSQL itself refused the statement, so that it can execute another one."""
    return isinstance(error, DBAPIError) and isinstance(_code(error.orig), str)


def _code(original: BaseException | None) -> int | str | None:
    """Return the driver's code: a number from MariaDB and MySQL, else an SQLSTATE.

    The number comes first: a MySQL driver may have an SQLSTATE too, which says less (lock wait: HY000).
    """
    if original is not None and original.args and isinstance(original.args[0], int):
        return original.args[0]
    # psycopg and psycopg2 have different names for it.
    return getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)


def _classify_sqlite(error: sqlite3.Error) -> Failure:
    # The errors that the sqlite3 module itself raises have no code.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK)
    if code & _SQLITE_PRIMARY_CODE in _SQLITE_LOST or code in _SQLITE_LOST_EXTENDED:
        return Failure.LOST
    if code & _SQLITE_PRIMARY_CODE in _SQLITE_UNKNOWN:
        return Failure.UNKNOWN
    return Failure.TABLES_MISSING if "no such table" in str(error) else Failure.REFUSED


def translated(error: SQLAlchemyError, engine: Engine) -> StoreUnavailable | TablesMissing:
    """Return our own error for ``error``; its text shows no credentials."""
    if isinstance(error, DBAPIError) and classify(error) is Failure.TABLES_MISSING:
        return TablesMissing()
    if isinstance(error, PoolTimeout):
        return StoreUnavailable(
            f"No connection to the grant database ({place(engine)}) became free in time: increase pool_size "
            "or pool_timeout in TOKENROTATE_ENGINE_OPTIONS."
        )
    return StoreUnavailable(
        f"The grant database ({place(engine)}) does not respond, or refused the statement: {_name_of(error)}."
    )


def cause(error: SQLAlchemyError) -> BaseException:
    """Return the driver's own error: SQLAlchemy's shows the statement and its values."""
    return (error.orig if isinstance(error, DBAPIError) else None) or error


def place(engine: Engine) -> str:
    """Return the database and host of ``engine``, for people; never user, password or options of its URL."""
    url = engine.url
    port = f":{url.port}" if url.port else ""
    host = f" at {url.host}{port}" if url.host else ""
    return f"{url.get_backend_name()}{host}, database {url.database}"


def _name_of(error: SQLAlchemyError) -> str:
    """Return the name of the driver's error and its code, without its text."""
    original = cause(error)
    code = getattr(original, "sqlite_errorname", None) or _code(original)
    return type(original).__name__ if code is None else f"{type(original).__name__} {code}"
