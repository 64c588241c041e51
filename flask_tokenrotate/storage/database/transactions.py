"""One guarded write, one transaction: how every read and every write reaches the database.

A write never has a SELECT before it in its transaction: on MariaDB and SQLite the snapshot that the
SELECT took makes the write fail or look at an old row. What a write came to is an `Outcome`, and
only ``WRITTEN`` is certain. After any other outcome the caller of `Transactions.write_until` reads the row in
a **new** transaction and looks for its own mark (a random id or its token version), because

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
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, TypeVar

from sqlalchemy import (
    Connection,
    CursorResult,
    Delete,
    Exists,
    Insert,
    Row,
    Select,
    String,
    Update,
    bindparam,
    exists,
    func,
    insert,
    literal,
    select,
)
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.sql.dml import UpdateBase

from ...errors import StoreUnavailable
from .driver_errors import Failure, cause, classify, has_answered, place, translated
from .engine import Database
from .notifications import CHANNEL, can_notify

T = TypeVar("T")

KEEP_TRYING_SECONDS = 4.0
"""How long one call of a store keeps trying after lost races; well below a web server's time-out."""

_FIRST_PAUSE_SECONDS = 0.002
_LONGEST_PAUSE_SECONDS = 0.25


class Outcome(Enum):
    """What one guarded write came to."""

    WRITTEN = "written"
    UNTOUCHED = "untouched"
    LOST = "lost"
    UNKNOWN = "unknown"


class Transactions:
    """The store's short transactions on one database; no connection is held between two calls."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def keep_trying(self, step: Callable[[], T | None]) -> T:
        """Call ``step`` until it returns a result, with a short random pause before each other try.

        Raises `StoreUnavailable` when there is none after `KEEP_TRYING_SECONDS`.
        """
        give_up_at = time.monotonic() + KEEP_TRYING_SECONDS
        pause = _FIRST_PAUSE_SECONDS
        while (result := step()) is None:
            if time.monotonic() >= give_up_at:
                raise StoreUnavailable(
                    f"The grant database ({place(self._database.engine())}) let no write or read of this row "
                    f"through in {KEEP_TRYING_SECONDS:.0f} s: another transaction may hold a lock on it."
                )
            # Random: two writers that collided once must not collide again in step.
            time.sleep(pause * random.random())  # noqa: S311 - a pause, not a secret
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
        return result

    def read(self, statement: Select[Any], **parameters: object) -> Row[Any] | None:
        """Return the first row of ``statement``; otherwise as `read_all`."""
        return next(iter(self.read_all(statement, **parameters)), None)

    def read_all(self, statement: Select[Any], **parameters: object) -> Sequence[Row[Any]]:
        """Return the rows of ``statement``, read in a transaction of its own.

        A broken connection is replaced once, a lost race is repeated. Raises `StoreUnavailable` and
        `TablesMissing`.
        """
        engine = self._database.engine()
        broken = False

        def step() -> Sequence[Row[Any]] | None:
            nonlocal broken
            try:
                with engine.connect() as connection:
                    return connection.execute(statement, parameters).all()
            except SQLAlchemyError as error:
                failure = classify(error) if isinstance(error, DBAPIError) else Failure.REFUSED
                if failure is Failure.LOST:
                    return None
                if failure is not Failure.UNKNOWN or broken:
                    raise translated(error, engine) from cause(error)
            broken = True
            return step()

        return self.keep_trying(step)

    def write_until(
        self,
        write: Write | UpdateBase,
        *then: UpdateBase,
        written: T,
        read_back: Callable[[Sequence[Outcome]], T | None],
        wakes: str | None = None,
        values: Mapping[str, object] | None = None,
    ) -> T:
        """Write, as `write` does, until it is clear what came of it, and return that.

        ``written`` is returned when the write was plainly successful. Otherwise ``read_back`` is called with
        the outcomes so far: it reads the row, and returns what the row shows, or None to write again.
        Raises as `write` and `keep_trying`.
        """
        outcomes: list[Outcome] = []

        def step() -> T | None:
            outcomes.append(self.write(write, *then, wakes=wakes, values=values))
            return written if outcomes[-1] is Outcome.WRITTEN else read_back(outcomes)

        return self.keep_trying(step)

    def delete(self, statement: Delete) -> None:
        """Delete any number of rows, and try again after a lost race; errors as in `write_until`."""
        self.write_until(
            statement, written=True, read_back=lambda outcomes: outcomes[-1] is Outcome.UNTOUCHED or None
        )

    def write(
        self,
        write: Write | UpdateBase,
        *then: UpdateBase,
        guarded: bool = True,
        wakes: str | None = None,
        values: Mapping[str, object] | None = None,
    ) -> Outcome:
        """Execute ``write`` in a transaction of its own and, if it touched a row, ``then``; commit.

        Not ``guarded``: ``then`` is executed in any case, and the outcome of what commits is WRITTEN.
        ``wakes``: the grant whose waiters in all processes are told, on PostgreSQL, if it is written.
        ``values`` are those of this time, for a `Write` that was made once. Raises `StoreUnavailable` and
        `TablesMissing` when certainly nothing was written and trying again is of no use.
        """
        engine = self._database.engine()
        if not isinstance(write, Write):
            write = Write(write, *then, guarded=guarded)
        in_one = engine.dialect.name == "postgresql" and write.guarded and (write.then or wakes)
        wakes = wakes if can_notify(engine) else None
        try:
            with engine.connect() as connection:
                if in_one:
                    return _commit(connection, lambda: write.executed_in_one(connection, wakes, values or {}))
                return _commit(connection, lambda: write.executed_in_turn(connection, values or {}))
        except SQLAlchemyError as error:
            failure = classify(error) if isinstance(error, DBAPIError) else Failure.REFUSED
            if failure is Failure.LOST:
                return Outcome.LOST
            if failure is Failure.UNKNOWN:
                return Outcome.UNKNOWN
            if wakes is not None and has_answered(error):
                # Nothing was written, and it may be the notification that is refused: a hint costs nothing.
                return self.write(write, values=values)
            raise translated(error, engine) from cause(error)


class Write:
    """A statement and what follows it in its transaction, if it touched a row or is not ``guarded``.

    May be made once and executed often, with other values for its bind parameters: to build what the
    protocol writes takes longer than to execute it. No parameter may have the name of a column.
    """

    def __init__(self, statement: UpdateBase, *then: UpdateBase, guarded: bool = True) -> None:
        self.statement = statement
        self.then = then
        self.guarded = guarded
        self._whole: dict[bool, Select[Any]] = {}

    def executed_in_turn(self, connection: Connection, values: Mapping[str, object]) -> bool:
        """Execute one statement after the other; return whether the first has touched a row."""
        if self.then:
            _begin(connection)
        result: CursorResult[Any] = connection.execute(self.statement, values)
        # PostgreSQL's driver tells no row count of an INSERT, which writes its row or raises.
        written = not self.guarded or result.is_insert or result.rowcount == 1
        if written:
            for each in self.then:
                connection.execute(each, values)
        return written

    def executed_in_one(
        self, connection: Connection, wakes: str | None, values: Mapping[str, object]
    ) -> bool:
        """Do the same on PostgreSQL in one statement, and notify those who wait when it commits."""
        notifies = wakes is not None
        if notifies not in self._whole:
            self._whole[notifies] = self._in_one(notifies=notifies)
        rows = connection.execute(self._whole[notifies], {**values, "waiters_of": wakes})
        return len(rows.all()) == 1

    def _in_one(self, *, notifies: bool) -> Select[Any]:
        written = self.statement.returning(literal(1).label("one")).cte("written")
        happened = exists(select(written.c.one))
        followers = [_only_if(happened, each).cte(f"then_{number}") for number, each in enumerate(self.then)]
        told = func.pg_notify(CHANNEL, bindparam("waiters_of", type_=String)) if notifies else literal(1)
        return select(told).select_from(written).add_cte(*followers)


def _commit(connection: Connection, execute: Callable[[], bool]) -> Outcome:
    """Execute and commit; where that fails, leave nothing open before the error goes on."""
    try:
        written = execute()
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


def _begin(connection: Connection) -> None:
    """Begin by hand: on a connection that commits each statement the next would be no transaction."""
    connection.begin()
    # An application's SQLite engine may have begun in its own way, as SQLAlchemy's documentation advises.
    if not getattr(connection.connection.dbapi_connection, "in_transaction", False):
        connection.exec_driver_sql("BEGIN")


def _only_if(condition: Exists, statement: UpdateBase) -> UpdateBase:
    if isinstance(statement, Insert):
        assert statement.select is not None  # `ledger.opened` inserts from a select for this
        names = [column.name for column in statement.select.selected_columns]
        return insert(statement.table).from_select(names, statement.select.where(condition))
    assert isinstance(statement, Update)
    return statement.where(condition)
