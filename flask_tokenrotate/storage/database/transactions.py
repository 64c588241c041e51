"""One guarded write, one transaction: how every read and every write reaches the database.

A write never has a SELECT before it in its transaction: on MariaDB and SQLite the snapshot that the SELECT
took makes the write fail or read an old row. The result of a write is an `Outcome`, and only ``WRITTEN`` is
certain. After any other outcome the caller of `Transactions.write_until` reads the row in a **new**
transaction and looks for its own mark (a random id or its token version), because

- ``UNTOUCHED`` (row count 0) may be stale: a Galera node can return it for an eligible write right after a
  commit on another node;
- ``LOST`` may be reported at COMMIT, after a row count of 1 (Galera), and need not mean that another writer
  won (false serialization failures);
- ``UNKNOWN`` (the connection broke) may be written or not.

Repeating a write is safe because its guard and its mark stay the same: if the first one was applied, the
repeated one touches nothing and the row has the mark.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, TypeVar

from sqlalchemy import Connection, Delete, Row, Select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.sql.dml import UpdateBase

from ...errors import StoreUnavailable
from .driver_errors import Failure, came_from_server, cause, classify, place, translated
from .engine import Database
from .notifications import can_notify
from .write import Write

T = TypeVar("T")

KEEP_TRYING_SECONDS = 4.0
"""How long one call of a store keeps trying after lost races; well below a web server's time-out."""

_FIRST_PAUSE_SECONDS = 0.002
_LONGEST_PAUSE_SECONDS = 0.25


class Outcome(Enum):
    """The result of one guarded write."""

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
                    f"No statement on this row of the grant database ({place(self._database.engine())}) "
                    f"succeeded in {KEEP_TRYING_SECONDS:.0f} s: another transaction may hold a lock on it."
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
        """Write, as `write` does, until the result is certain, and return it.

        The result is ``written`` when the write reports success. Otherwise ``read_back`` is called with the
        outcomes so far: it reads the row and returns the result, or None to write again. Raises as `write`
        and `keep_trying`.
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
        ``wakes``: the grant whose waiters in all processes are notified, on PostgreSQL, if it is written.
        ``values`` are the parameters of a `Write` that was made once. Raises `StoreUnavailable` and
        `TablesMissing` when certainly nothing was written and trying again does not help.
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
            if wakes is not None and came_from_server(error):
                # Nothing was written, perhaps because the notification was refused: it is only a hint.
                return self.write(write, values=values)
            raise translated(error, engine) from cause(error)


def _commit(connection: Connection, execute: Callable[[], bool]) -> Outcome:
    """Execute and commit; if that fails, leave no transaction open before the error is raised."""
    try:
        written = execute()
        connection.commit()
    except DBAPIError:
        try:
            # By hand: MariaDB's lock wait (1205) undoes only the statement, SQLite's failed COMMIT nothing.
            connection.rollback()
        except DBAPIError:
            # Galera without quorum refuses ROLLBACK too: such a connection must not return to the pool.
            connection.invalidate()
        raise
    return Outcome.WRITTEN if written else Outcome.UNTOUCHED
