"""One guarded write: its statements, one after the other or, on PostgreSQL, as one.

What belongs to a write (its row in the ledger) follows it in its transaction, and only if it touched a row.
On PostgreSQL all of it is one statement, and so one round trip instead of four.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    Connection,
    CursorResult,
    Exists,
    Insert,
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
from sqlalchemy.sql.dml import UpdateBase

from .notifications import CHANNEL


class Write:
    """A statement and what follows it in its transaction, if it touched a row or is not ``guarded``.

    Make it once and execute it often, with new values for its bind parameters: building the statements of the
    protocol takes longer than executing them. No parameter may have the name of a column.
    """

    def __init__(self, statement: UpdateBase, *then: UpdateBase, guarded: bool = True) -> None:
        self.statement = statement
        self.then = then
        self.guarded = guarded
        self._whole: dict[bool, Select[Any]] = {}

    def executed_in_turn(self, connection: Connection, values: Mapping[str, object]) -> bool:
        """Execute one statement after the other; return whether the first touched a row."""
        if self.then:
            _begin(connection)
        result: CursorResult[Any] = connection.execute(self.statement, values)
        # PostgreSQL's driver reports no row count for an INSERT, which writes its row or raises.
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
        result = func.pg_notify(CHANNEL, bindparam("waiters_of", type_=String)) if notifies else literal(1)
        return select(result).select_from(written).add_cte(*followers)


def _begin(connection: Connection) -> None:
    """Begin by hand: a connection that commits each statement would make no transaction of the next ones."""
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
