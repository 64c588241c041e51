"""The sessions' rows on every engine: compare-and-set, end, expiry, and the end of all of a user's."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from sqlalchemy import event, select, update

from flask_tokenrotate.clock import SystemClock
from flask_tokenrotate.errors import GrantUnreadable
from flask_tokenrotate.rotation.tokens import Secret
from flask_tokenrotate.sessions import store as sessions_module
from flask_tokenrotate.sessions.store import KEEP_ENDED_SECONDS, SqlSessionStore
from flask_tokenrotate.storage import grants as grants_module
from flask_tokenrotate.storage import statements as statements_module
from flask_tokenrotate.storage.database.engine import Database
from flask_tokenrotate.storage.database.schema import grants, sessions
from flask_tokenrotate.storage.database.tables import create_tables
from flask_tokenrotate.storage.database.transactions import Outcome, Transactions
from flask_tokenrotate.storage.grants import SqlGrantStore
from flask_tokenrotate.storage.sealed.sealing import sealer_from
from flask_tokenrotate.testing.clock import ManualClock

from ..storage.backends import claimed, clock_in_statements, loaded, new_grant, sql_stores, token_set
from ..storage.test_races import THREADS, at_once

SID = Secret("the-id-of-a-session")
LOGIN = "1" * 32


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    """The database's clock, moved by hand."""
    clock = ManualClock()
    for module in (grants_module, statements_module, sessions_module):
        monkeypatch.setattr(module, "db_now", clock_in_statements(clock))
    return clock


@pytest.fixture
def opened(database: str) -> Iterator[Database]:
    """The database with a connection for each thread; afterwards none may be checked out."""
    opened = Database.from_uri(database, {"pool_size": THREADS})
    create_tables(opened.engine())
    yield opened
    assert opened.engine().pool.checkedout() == 0  # type: ignore[attr-defined]
    opened.engine().dispose()


@pytest.fixture
def store(opened: Database, clock: ManualClock) -> SqlSessionStore:
    """The store with one session, alice's, for an hour."""
    store = SqlSessionStore(opened, SystemClock())
    store.insert(SID, b"{}", login_id=LOGIN, user_id="alice", seconds=3600)
    return store


def replaced(store: SqlSessionStore, data: bytes, seen_version: int) -> bool:
    """Replace the contents as alice's for another hour."""
    return store.replace(SID, data, seen_version=seen_version, user_id="alice", seconds=3600)


def read(store: SqlSessionStore, sid: Secret = SID) -> tuple[bytes, int] | None:
    """Return data and version."""
    found = store.load(sid)
    return None if found is None else (found.data, found.version)


def test_a_replacement_needs_the_version_that_was_read(store: SqlSessionStore) -> None:
    """The second of two writers that read the same version learns that it was late, and wrote nothing."""
    assert read(store) == (b"{}", 0)
    assert replaced(store, b'{"a":1}', 0) is True
    assert replaced(store, b'{"b":1}', 0) is False
    assert read(store) == (b'{"a":1}', 1)


def test_of_many_writers_that_read_the_same_one_wins(store: SqlSessionStore) -> None:
    """Sixteen threads replace one version: the row is the winner's."""
    writes = [partial(replaced, store, b"%d" % number, 0) for number in range(THREADS)]
    results = at_once([lambda write=write: (write.args[1], write()) for write in writes])  # type: ignore[misc]
    [winner] = [data for data, won in results if won]
    assert read(store) == (winner, 1)


def test_an_ended_session_is_gone_and_takes_no_write(store: SqlSessionStore, opened: Database) -> None:
    """Neither a replacement, nor a second end, nor a repeated insert brings anything back."""
    assert store.end(SID, seen_version=0) is True
    assert read(store) is None
    assert replaced(store, b'{"late":1}', 0) is False
    assert replaced(store, b'{"late":1}', 1) is False
    assert store.end(SID, seen_version=1) is False
    store.insert(SID, b'{"again":1}', login_id=LOGIN, user_id=None, seconds=3600)
    assert read(store) is None
    with opened.engine().connect() as connection:
        assert connection.execute(select(sessions.c.data)).scalar() == b""


def test_an_end_needs_the_version_that_was_read(store: SqlSessionStore) -> None:
    """Who ends a session to take it under a new id must not lose what was written meanwhile."""
    assert replaced(store, b'{"cart":1}', 0)
    assert store.end(SID, seen_version=0) is False
    assert read(store) == (b'{"cart":1}', 1)


def test_a_session_expires_to_the_second(store: SqlSessionStore, clock: ManualClock) -> None:
    """At its expiry it does not exist, right before it does; a write begins a new hour."""
    clock.advance(3599.5)
    assert replaced(store, b"{}", 0)
    clock.advance(3599.5)
    assert read(store) == (b"{}", 1)
    clock.advance(0.5)
    assert read(store) is None
    assert replaced(store, b"{}", 1) is False


def test_prune_deletes_what_has_expired_or_ended_long_ago(
    store: SqlSessionStore, opened: Database, clock: ManualClock
) -> None:
    """A living session stays, an ended one for an hour."""
    store.insert(Secret("short"), b"{}", login_id=LOGIN, user_id=None, seconds=10)
    store.insert(Secret("long"), b"{}", login_id=LOGIN, user_id=None, seconds=86400)
    assert store.end(SID, seen_version=0)

    def rows() -> int:
        store.prune()
        with opened.engine().connect() as connection:
            return len(connection.execute(select(sessions.c.id_hash)).all())

    assert rows() == 3
    clock.advance(10)
    assert rows() == 2
    clock.advance(KEEP_ENDED_SECONDS - 10)
    assert rows() == 1
    assert read(store, Secret("long")) is not None


def test_end_everywhere_is_the_users_alone(store: SqlSessionStore, opened: Database) -> None:
    """All sessions and living grants of exactly this user id, trailing spaces and case counted."""
    grant_store, _ = sql_stores(opened)
    others = ("alice ", "Alice", "bob")
    mine = [grant_store.add(new_grant(provider=name, user_id="alice")) for name in ("spotify", "github")]
    theirs = [grant_store.add(new_grant(user_id=user)) for user in others]
    for user in others:
        store.insert(Secret(user), b"{}", login_id=LOGIN, user_id=user, seconds=3600)
    assert sorted(store.end_everywhere("alice")) == sorted(grant.id for grant in mine)
    assert store.end_everywhere("alice") == []
    assert read(store) is None
    assert {loaded(grant_store, grant.id).end_reason for grant in mine} == {"signed_out"}
    assert {loaded(grant_store, grant.id).end_reason for grant in theirs} == {None}
    assert all(read(store, Secret(user)) for user in others)


def test_end_everywhere_is_one_transaction(
    store: SqlSessionStore, opened: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the grants cannot be ended, the sessions are not either."""
    grant = sql_stores(opened)[0].add(new_grant(user_id="alice"))

    def ending(reason: str) -> object:
        return update(grants).values(provider=None)  # refused: the column is NOT NULL

    monkeypatch.setattr(sessions_module, "ending", ending)
    with pytest.raises(Exception, match="grant database"):
        store.end_everywhere("alice")
    assert read(store) == (b"{}", 0)
    assert loaded(sql_stores(opened)[0], grant.id).end_reason is None


def test_end_everywhere_finds_a_session_that_takes_a_new_id_meanwhile(store: SqlSessionStore) -> None:
    """Threads that give their session one new id after the other do not outrun it.

    As in `sessions.interface`: the new row first, then the end of the former one; who cannot end the former
    ends the new one too.
    """
    started = [Secret(f"browser-{number}") for number in range(4)]
    for sid in started:
        store.insert(sid, b"{}", login_id=LOGIN, user_id="alice", seconds=3600)

    def keep_moving(sid: Secret) -> None:
        for step in itertools.count():
            new = Secret(f"{sid.reveal()}-{step}")
            store.insert(new, b"{}", login_id=LOGIN, user_id="alice", seconds=3600)
            if not store.end(sid, seen_version=0):
                store.end(new, seen_version=0)
                return
            sid = new

    calls: list[Callable[[], object]] = [partial(keep_moving, sid) for sid in started]
    at_once([*calls, partial(store.end_everywhere, "alice")])
    assert store.end_everywhere("alice") == []
    with store._transactions._database.engine().connect() as connection:
        assert not connection.execute(select(sessions).where(sessions.c.ended_at.is_(None))).all()


@pytest.mark.parametrize("outcome", [Outcome.UNKNOWN, Outcome.LOST])
def test_an_insert_whose_answer_is_lost(
    store: SqlSessionStore, monkeypatch: pytest.MonkeyPatch, outcome: Outcome
) -> None:
    """Written or not, it is in the table once."""
    write = Transactions.write
    tries = []

    def unanswered(self: Transactions, *statements: Any, **options: Any) -> Outcome:
        tries.append(1)
        if len(tries) > 1:
            return write(self, *statements, **options)
        if outcome is Outcome.UNKNOWN:
            write(self, *statements, **options)
        return outcome

    monkeypatch.setattr(Transactions, "write", unanswered)
    store.insert(Secret("new"), b"{}", login_id=LOGIN, user_id=None, seconds=60)
    assert read(store, Secret("new")) == (b"{}", 0)
    assert len(tries) == (1 if outcome is Outcome.UNKNOWN else 2)


def test_end_everywhere_looks_again(store: SqlSessionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that its statement could not see, because it was committed right after it began, ends too."""
    write = Transactions.write
    moved = Secret("moved")

    def commits_right_after(self: Transactions, *statements: object, **options: Any) -> Outcome:
        monkeypatch.setattr(Transactions, "write", write)
        outcome = write(self, *statements, **options)  # type: ignore[arg-type]
        store.insert(moved, b"{}", login_id=LOGIN, user_id="alice", seconds=3600)
        return outcome

    monkeypatch.setattr(Transactions, "write", commits_right_after)
    store.end_everywhere("alice")
    assert read(store, moved) is None


class TestOneRead:
    """A session and its login's living grants are read in one statement."""

    def test_no_grant(self, store: SqlSessionStore) -> None:
        """The session is found all the same."""
        found = store.load(SID)
        assert found is not None
        assert (found.data, found.login_id, found.grants) == (b"{}", LOGIN, ())

    def test_two_grants_are_one_statement(
        self, store: SqlSessionStore, opened: Database, clock: ManualClock
    ) -> None:
        """On each engine, with the database's time of that statement."""
        grant_store, _ = sql_stores(opened)
        added = [grant_store.add(new_grant(provider=name, login_id=LOGIN)) for name in ("spotify", "github")]
        grant_store.add(new_grant(login_id="2" * 32))
        grant_store.add(new_grant())
        clock.advance(5)
        seen: list[str] = []
        event.listen(opened.engine(), "before_cursor_execute", lambda *args: seen.append(args[2]))
        found = store.load(SID)
        assert len(seen) == 1
        assert found is not None
        assert (found.data, found.version, found.login_id) == (b"{}", 0, LOGIN)
        read = {row.id: grant_store.grant_from(row) for row in found.grants}
        assert read == {grant.id: replace(grant, seen_at=clock.time()) for grant in added}

    def test_a_grant_that_ended_is_not_read(self, store: SqlSessionStore, opened: Database) -> None:
        """It costs the request a second read, which says why it ended."""
        grant_store, _ = sql_stores(opened)
        grant = grant_store.add(new_grant(login_id=LOGIN))
        assert grant_store.end(grant.id, "signed_out")
        assert store.load(SID).grants == ()  # type: ignore[union-attr]

    def test_a_rotation_is_seen(self, store: SqlSessionStore, opened: Database) -> None:
        """What another process saved is what the next request reads, and the login stays."""
        grant_store, _ = sql_stores(opened)
        grant = grant_store.add(new_grant(login_id=LOGIN))
        grant_store.save(grant, claimed(grant_store, grant), token_set(1))
        [row] = store.load(SID).grants  # type: ignore[union-attr]
        assert grant_store.grant_from(row).token_version == 1

    def test_a_row_that_no_key_opens_does_not_break_the_session(
        self, store: SqlSessionStore, opened: Database
    ) -> None:
        """The row is passed on as it is; who makes a grant of it gets the usual error."""
        grant_store, _ = sql_stores(opened)
        grant_store.add(new_grant(login_id=LOGIN))
        other = SqlGrantStore(opened, sealer_from((), "another secret key"))
        [row] = store.load(SID).grants  # type: ignore[union-attr]
        with pytest.raises(GrantUnreadable):
            other.grant_from(row)
        assert grant_store.grant_from(row).provider == "spotify"
