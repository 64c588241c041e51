"""The server-side sessions on SQLAlchemy: one row for each, with a version.

A session is found by the hash of its id, so that nobody who reads the table can use a session. A row that
has ended is kept for an hour without its contents: a request that was in progress then finds it ended, and
even an insert that is repeated after a broken connection cannot bring it back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Row, Select, Update, bindparam, delete, insert, select, update

from ..rotation.ports import Clock
from ..rotation.tokens import Secret
from ..storage.database.engine import Database
from ..storage.database.schema import db_now, grants, sessions
from ..storage.database.transactions import Outcome, Transactions
from ..storage.rows import exactly, hashed, is_storable
from ..storage.statements import ending, living_of

KEEP_ENDED_SECONDS = 3600.0
"""How long the row of an ended session is kept: longer than any request takes."""

_row = sessions.c

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredSession:
    """A living session's row: its contents as they were written, and the version of that write.

    ``grants`` are the rows of the living grants with the session's ``login_id``, as they were in the same
    statement: what `SqlGrantStore.grant_from` takes. ``read_at`` is when the database had responded, by this
    process's monotonic clock; it belongs to the rows' ``seen_at``, which is by the database's.
    """

    data: bytes
    version: int
    login_id: str
    grants: tuple[Row[Any], ...]
    read_at: float


class SqlSessionStore:
    """The sessions in a database.

    Transactions, clock and errors are those of `ports.GrantStore`: each method is one short transaction
    or several of them, and a lost race is a value. Ended and expired sessions do not exist for it.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._transactions = Transactions(database)
        self._clock = clock
        self._session_and_grants = _session_and_grants()  # made once: to build it takes longer than to run it

    def load(self, session_id: Secret) -> StoredSession | None:
        """Return the session and its login's living grants, in one statement; None where there is none."""
        rows = self._transactions.read_all(self._session_and_grants, the_hash=hashed(session_id))
        if not rows:
            return None
        return StoredSession(
            data=rows[0].session_data,
            version=rows[0].session_version,
            login_id=rows[0].session_login_id,
            grants=tuple(row for row in rows if row.id is not None),
            read_at=self._clock.monotonic(),
        )

    def insert(
        self, session_id: Secret, data: bytes, *, login_id: str, user_id: str | None, seconds: float
    ) -> None:
        """Store a new session for ``seconds``, at version 0; ``session_id`` was never used before."""
        now = db_now()
        values = {"data": data, "login_id": login_id, "user_id": user_id, "expires_at": now + seconds}
        statement = insert(sessions).values(id_hash=hashed(session_id), version=0, **values)
        self._transactions.write_until(
            statement,
            written=True,
            # Ended rows count too: this one may have been written, and ended by its user, in the meantime.
            read_back=lambda _: self._read(session_id, living=False) is not None or None,
        )

    def change(
        self, session_id: Secret, seen: StoredSession | None, step: Callable[[StoredSession | None], T | None]
    ) -> T:
        """Call ``step`` with the session, as it is ``seen`` first and read anew then, until it has a result.

        ``step`` writes by compare-and-set, and returns None where another request came first. Raises
        `StoreUnavailable` when it comes to nothing for a few seconds.
        """
        newest = chain([seen], (self.load(session_id) for _ in count()))
        return self._transactions.keep_trying(lambda: step(next(newest)))

    def replace(
        self, session_id: Secret, data: bytes, *, seen_version: int, user_id: str | None, seconds: float
    ) -> bool:
        """Write the contents and a new expiry, by compare-and-set; return whether they were written.

        False: another request has written or ended the session since ``seen_version``.
        """
        statement = _unchanged(session_id, seen_version).values(
            version=seen_version + 1, data=data, user_id=user_id, expires_at=db_now() + seconds
        )
        return self._compare_and_set(statement, session_id, seen_version)

    def end(self, session_id: Secret, *, seen_version: int) -> bool:
        """End the session, by compare-and-set; return whether it was ended (otherwise as `replace`)."""
        statement = _unchanged(session_id, seen_version).values(_ended())
        return self._compare_and_set(statement, session_id, seen_version)

    def end_everywhere(self, user_id: str) -> list[str]:
        """End all sessions and grants of the user in one transaction; return the ids of these grants.

        Repeated until none is left: on PostgreSQL, a statement sees neither row of a session that gets a new
        id after the statement began.
        """
        if not is_storable(user_id):
            return []
        mine = exactly(_row.user_id, user_id) & _living()
        ended: dict[str, None] = {}

        def step() -> list[str] | None:
            living = [
                row.id for row in self._transactions.read_all(select(grants.c.id).where(living_of(user_id)))
            ]
            if not living and self._transactions.read(select(_row.id_hash).where(mine).limit(1)) is None:
                return list(ended)
            self._transactions.write(
                update(sessions).where(mine).values(_ended()),
                ending("signed_out").where(living_of(user_id)),
                guarded=False,
            )
            ended.update(dict.fromkeys(living))
            return None

        return self._transactions.keep_trying(step)

    def prune(self) -> None:
        """Delete the sessions that have expired, and those that ended over an hour ago."""
        self._transactions.delete(delete(sessions).where(_row.expires_at <= db_now()))

    def _compare_and_set(self, statement: Update, session_id: Secret, seen_version: int) -> bool:
        def read_back(outcomes: Sequence[Outcome]) -> bool | None:
            row = self._read(session_id)
            # False may be wrong, if this very write's response was lost: merging the same again is harmless.
            return None if row is not None and row.version == seen_version else False

        return self._transactions.write_until(statement, written=True, read_back=read_back)

    def _read(self, session_id: Secret, *, living: bool = True) -> Row[Any] | None:
        statement = select(sessions).where(_row.id_hash == hashed(session_id))
        return self._transactions.read(statement.where(_living()) if living else statement)


def _ended() -> dict[str, Any]:
    now = db_now()
    return {"version": _row.version + 1, "data": b"", "ended_at": now, "expires_at": now + KEEP_ENDED_SECONDS}


def _living() -> ColumnElement[bool]:
    return _row.ended_at.is_(None) & (_row.expires_at > db_now())


def _unchanged(session_id: Secret, seen_version: int) -> Update:
    return update(sessions).where(_row.id_hash == hashed(session_id), _row.version == seen_version, _living())


def _session_and_grants() -> Select[Any]:
    """Return what reads a session, named ``session_…``, with the rows of its login's living grants.

    Several grants are several rows; a session without one is a row whose ``id`` is NULL.
    """
    return (
        select(
            _row.data.label("session_data"),
            _row.version.label("session_version"),
            _row.login_id.label("session_login_id"),
            grants,
            db_now().label("seen_at"),
        )
        .select_from(sessions)
        .outerjoin(grants, (grants.c.login_id == _row.login_id) & grants.c.ended_at.is_(None))
        .where(_row.id_hash == bindparam("the_hash"), _living())
    )
