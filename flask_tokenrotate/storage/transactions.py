"""One guarded write, one transaction: how every read and every write reaches the database.

A write never has a SELECT before it in its transaction: on MariaDB and SQLite the snapshot that the
SELECT took makes the write fail or look at an old row. What a write came to is an `Outcome`, and
only ``WRITTEN`` is certain. After any other outcome the caller reads the row in a **new** transaction
and looks for its own mark (a random id or its token version), because

- ``UNTOUCHED`` (row count 0) may be stale: a Galera node can answer so to a rightful write right after
  a commit on another node;
- ``LOST`` may be learnt at COMMIT, after a row count of 1 (Galera), and need not mean that another
  writer won (false serialization failures);
- ``UNKNOWN`` (the connection broke) may be written or not.

What belongs to a write (its row in the ledger) follows it in its transaction, and only if it touched a row.
On PostgreSQL the whole is one statement, and so one round trip in place of four.

Repeating a write is safe because its guard and its mark stay the same: if the first one was applied after
all, the repeated one touches nothing and the row shows the mark.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

from sqlalchemy import (
    Connection,
    CursorResult,
    Engine,
    Exists,
    Insert,
    Row,
    Select,
    Update,
    exists,
    func,
    insert,
    literal,
    select,
)
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.sql.dml import UpdateBase

from ..errors import StoreUnavailable
from .engine import Database
from .failures import Failure, cause, classify, place, translated
from .listening import CHANNEL

PATIENCE_SECONDS = 4.0
"""How long one call of a store goes on trying against lost races; well below a web server's time-out."""

_FIRST_PAUSE_SECONDS = 0.002
_LONGEST_PAUSE_SECONDS = 0.25


class Outcome(Enum):
    """What one guarded write came to."""

    WRITTEN = "written"
    UNTOUCHED = "untouched"
    LOST = "lost"
    UNKNOWN = "unknown"


class Patience:
    """Bounds the tries of one call: `spend` pauses before the next, or gives up."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._give_up_at = time.monotonic() + PATIENCE_SECONDS
        self._pause = _FIRST_PAUSE_SECONDS

    def spend(self, error: SQLAlchemyError | None = None) -> None:
        """Pause for a short random time. Raises `StoreUnavailable` when the patience is over."""
        if time.monotonic() >= self._give_up_at:
            raise StoreUnavailable(
                f"The grant database ({place(self._engine)}) let no write or read of this row through "
                f"in {PATIENCE_SECONDS:.0f} s: another transaction may hold a lock on it."
            ) from (None if error is None else cause(error))
        # Random: those who collided once shall not collide again in step.
        time.sleep(self._pause * random.random())  # noqa: S311 - a pause, not a secret
        self._pause = min(self._pause * 2, _LONGEST_PAUSE_SECONDS)


class Transactions:
    """The store's short transactions on one database; no connection is held between two calls."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def patience(self) -> Patience:
        """Return the patience for one call of a store."""
        return Patience(self._database.engine())

    def read(self, statement: Select[Any], **parameters: object) -> Row[Any] | None:
        """Return the first row of ``statement``; otherwise as `read_all`."""
        return next(iter(self.read_all(statement, **parameters)), None)

    def read_all(self, statement: Select[Any], **parameters: object) -> Sequence[Row[Any]]:
        """Return the rows of ``statement``, read in a transaction of its own.

        A broken connection is replaced once, a lost race is repeated. Raises `StoreUnavailable` and
        `TablesMissing`.
        """
        engine = self._database.engine()
        patience: Patience | None = None
        broken = False
        while True:
            try:
                with engine.connect() as connection:
                    return connection.execute(statement, parameters).all()
            except SQLAlchemyError as error:
                failure = classify(error) if isinstance(error, DBAPIError) else Failure.REFUSED
                if failure is Failure.LOST:
                    patience = patience or Patience(engine)
                    patience.spend(error)
                elif failure is Failure.UNKNOWN and not broken:
                    broken = True
                else:
                    raise translated(error, engine) from cause(error)

    def write(
        self, statement: UpdateBase, *then: UpdateBase, guarded: bool = True, wakes: str | None = None
    ) -> Outcome:
        """Execute ``statement`` in a transaction of its own and, if it touched a row, ``then``; commit.

        Not ``guarded``: ``then`` is executed in any case, and the outcome of what commits is WRITTEN.
        ``wakes``: the grant whose waiters in all processes are told, on PostgreSQL, if it is written.
        Raises `StoreUnavailable` and `TablesMissing` when certainly nothing was written and trying
        again is of no use.
        """
        engine = self._database.engine()
        if engine.dialect.name == "postgresql" and guarded and (then or wakes):
            execute = _all_in_one(statement, then, wakes)
        else:
            execute = _one_by_one(statement, then, guarded=guarded)
        try:
            with engine.connect() as connection:
                return _commit(connection, execute)
        except SQLAlchemyError as error:
            failure = classify(error) if isinstance(error, DBAPIError) else Failure.REFUSED
            if failure is Failure.LOST:
                return Outcome.LOST
            if failure is Failure.UNKNOWN:
                return Outcome.UNKNOWN
            raise translated(error, engine) from cause(error)


def _commit(connection: Connection, execute: Callable[[Connection], bool]) -> Outcome:
    """Execute and commit; where that fails, leave nothing open before the error goes on."""
    try:
        written = execute(connection)
        connection.commit()
    except DBAPIError:
        try:
            # By hand: MariaDB's lock wait (1205) undoes the statement only, SQLite's failed COMMIT nothing.
            connection.rollback()
        except DBAPIError:
            # Galera without quorum refuses ROLLBACK too: such a connection must not go back to the pool.
            connection.invalidate()
        raise
    return Outcome.WRITTEN if written else Outcome.UNTOUCHED


def _one_by_one(
    statement: UpdateBase, then: tuple[UpdateBase, ...], *, guarded: bool
) -> Callable[[Connection], bool]:
    """Return what executes the statements and tells whether the first one touched a row."""

    def execute(connection: Connection) -> bool:
        if then:
            _begin(connection)
        result: CursorResult[Any] = connection.execute(statement)
        # PostgreSQL's driver tells no row count of an INSERT, which writes its row or raises.
        written = not guarded or result.is_insert or result.rowcount == 1
        if written:
            for each in then:
                connection.execute(each)
        return written

    return execute


def _begin(connection: Connection) -> None:
    """Begin by hand: on a connection that commits each statement the next would be no transaction."""
    connection.begin()
    # An application's SQLite engine may have begun in its own way, as SQLAlchemy's documentation advises.
    if not getattr(connection.connection.dbapi_connection, "in_transaction", False):
        connection.exec_driver_sql("BEGIN")


def _all_in_one(
    statement: UpdateBase, then: tuple[UpdateBase, ...], wakes: str | None
) -> Callable[[Connection], bool]:
    """Return what does the same on PostgreSQL, in one statement, and notifies when it commits."""
    written = statement.returning(literal(1).label("one")).cte("written")
    happened = exists(select(written.c.one))
    told = literal(1) if wakes is None else func.pg_notify(CHANNEL, wakes)
    followers = [_only_if(happened, each).cte(f"then_{number}") for number, each in enumerate(then)]
    whole = select(told).select_from(written).add_cte(*followers)
    return lambda connection: len(connection.execute(whole).all()) == 1


def _only_if(condition: Exists, statement: UpdateBase) -> UpdateBase:
    if isinstance(statement, Insert):
        assert statement.select is not None  # `ledger.opened` inserts from a select for this
        names = [column.name for column in statement.select.selected_columns]
        return insert(statement.table).from_select(names, statement.select.where(condition))
    assert isinstance(statement, Update)
    return statement.where(condition)
