"""Faults of the database: what was written is known in the end, and nothing raises but our own errors."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, event, func, select, update
from sqlalchemy.exc import DBAPIError

from flask_tokenrotate.attempts import Attempt
from flask_tokenrotate.errors import StoreUnavailable
from flask_tokenrotate.rotation.outcomes import SaveOutcome
from flask_tokenrotate.rotation.tokens import Claim, Secret
from flask_tokenrotate.storage.database import transactions
from flask_tokenrotate.storage.database.driver_errors import Failure, classify
from flask_tokenrotate.storage.database.engine import Database
from flask_tokenrotate.storage.database.schema import grants
from flask_tokenrotate.storage.database.tables import create_tables
from flask_tokenrotate.storage.database.transactions import Outcome, Transactions
from flask_tokenrotate.storage.grants import SqlGrantStore
from flask_tokenrotate.storage.operations.audit import Audit

from ..conftest import available
from ..servers import ENGINES, Servers
from ..servers.cutting_proxy import CuttingProxy, Moment
from ..servers.processes import free_port
from .backends import BUSY, UNKNOWN, claimed, loaded, new_grant, sql_stores, token_set

ATTEMPT = Attempt(provider="p", verifier=Secret("v"), nonce=Secret("n"), redirect_uri="https://a.example/")

SERVERS = ENGINES[1:]
on_servers = pytest.mark.parametrize("database", SERVERS, indirect=True)


@pytest.fixture(scope="module", params=SERVERS)
def served(request: pytest.FixtureRequest, servers: Servers) -> Iterator[CuttingProxy]:
    """A proxy before a database that has its tables; shared by the tests of this file."""
    uri = available(lambda: servers.new_database(request.param))
    engine = create_engine(uri)
    create_tables(engine)
    engine.dispose()
    proxy = CuttingProxy(uri)
    yield proxy
    proxy.close()


# the connection is cut at a write


class Cut:
    """A store behind the proxy, and what the row says, read past the proxy."""

    def __init__(self, proxy: CuttingProxy, moment: Moment, level: str) -> None:
        self.database = Database.from_uri(proxy.uri, {"isolation_level": level})
        self.direct = Database.from_uri(proxy.server_uri)
        self.store, self.attempts = sql_stores(self.database)
        self.rows = sql_stores(self.direct)[0]
        self.level = level
        self.moment = moment
        self.proxy = proxy
        self.cuts_before = proxy.cuts

    def arm(self, statement: str) -> None:
        """Cut at ``statement`` itself where it commits by itself, at its COMMIT else."""
        self.proxy.arm(statement if self.level == "AUTOCOMMIT" else "COMMIT", self.moment)

    def arm_several(self) -> None:
        """Cut where a write and what follows it commit: at their COMMIT, or at PostgreSQL's one statement."""
        in_one = self.level == "AUTOCOMMIT" and self.database.engine().dialect.name == "postgresql"
        self.proxy.arm("WITH written" if in_one else "COMMIT", self.moment)

    def close(self) -> None:
        """Check that the cut happened and that no connection was left."""
        assert self.proxy.cuts == self.cuts_before + 1
        for database in (self.database, self.direct):
            assert database.engine().pool.checkedout() == 0  # type: ignore[attr-defined]
            database.engine().dispose()


@pytest.fixture(params=["before", "after"])
def moment(request: pytest.FixtureRequest) -> Moment:
    """Whether the server has the COMMIT when the connection is cut."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(params=["AUTOCOMMIT", "READ COMMITTED"])
def cut(request: pytest.FixtureRequest, served: CuttingProxy, moment: Moment) -> Iterator[Cut]:
    """The store behind the proxy, with statements that commit by themselves and with transactions."""
    cut = Cut(served, moment, request.param)
    yield cut
    cut.close()


def test_a_claim_cut_at_commit_is_won(cut: Cut) -> None:
    """The claim's own id in the row decides: it was taken, once, and its holder knows."""
    grant = cut.store.add(new_grant())
    cut.arm_several()
    claim = claimed(cut.store, grant)
    row = loaded(cut.rows, grant.id)
    assert row.standing is not None
    assert (row.standing.claim, row.version) == (claim, 1)
    assert [each.claim_id for each in Audit(cut.direct).history(grant.id)] == [claim.id]


def test_a_claim_cut_at_commit_is_lost_to_a_faster_worker(cut: Cut) -> None:
    """A row that moved on without this claim's id: lost, whatever became of the COMMIT."""
    grant = cut.store.add(new_grant())
    faster = claimed(cut.rows, grant)
    cut.arm_several()
    assert claimed(cut.store, grant) is None
    standing = loaded(cut.rows, grant.id).standing
    assert standing is not None
    assert standing.claim == faster


def test_a_save_cut_at_commit_is_saved_once(cut: Cut) -> None:
    """The token version in the row decides; the token set is not dropped and not written twice."""
    grant = cut.store.add(new_grant())
    claim = claimed(cut.store, grant)
    cut.arm_several()
    assert cut.store.save(grant, claim, token_set(1)) is SaveOutcome.SAVED
    row = loaded(cut.rows, grant.id)
    assert (row.tokens, row.version, row.token_version) == (token_set(1), 2, 1)


def test_an_end_cut_at_commit_has_ended_the_grant(cut: Cut) -> None:
    """A sign-out is told as done only when the row has ended."""
    grant = cut.store.add(new_grant())
    cut.arm("UPDATE")
    assert cut.store.end(grant.id, "signed_out")
    row = loaded(cut.rows, grant.id)
    assert (row.end_reason, row.version) == ("signed_out", 1)


def test_a_release_cut_at_commit_is_released_once(cut: Cut) -> None:
    """The doubt is counted once, however often the statement had to be sent."""
    grant = cut.store.add(new_grant())
    claim = claimed(cut.store, grant)
    cut.arm_several()
    assert cut.store.release(claim, UNKNOWN, in_doubt=True)
    row = loaded(cut.rows, grant.id)
    assert (row.standing, row.doubts, row.version) == (None, 1, 2)


def test_a_renewal_cut_at_commit_is_not_repeated(cut: Cut) -> None:
    """The holder hears that it was not extended, may renew again, and the claim is still its own."""
    grant = cut.store.add(new_grant())
    claim = claimed(cut.store, grant)
    cut.arm("UPDATE")
    assert not cut.store.renew(claim, seconds=10.0)
    assert loaded(cut.rows, grant.id).version == (1 if cut.moment == "before" else 2)
    assert cut.store.renew(claim, seconds=10.0)
    standing = loaded(cut.rows, grant.id).standing
    assert standing is not None
    assert standing.claim == claim


def test_an_insert_cut_at_commit_adds_one_row(cut: Cut) -> None:
    """A sign-in whose COMMIT was not answered makes one grant, not two and not none."""
    cut.database.engine()
    cut.arm("INSERT")
    user = secrets.token_hex(8)
    grant = cut.store.add(new_grant(user_id=user))
    with cut.direct.engine().connect() as connection:
        mine = select(grants.c.id).where(grants.c.user_id == user)
        assert connection.scalars(mine).all() == [grant.id]


def test_a_replacement_cut_at_commit_is_one_transaction(cut: Cut) -> None:
    """The new grant and the end of the old one come together, also on connections that autocommit."""
    user = secrets.token_hex(8)
    old = cut.store.add(new_grant(user_id=user))
    cut.arm_several()
    grant = cut.store.add(new_grant(user_id=user), replaces=old.id)
    ended = loaded(cut.rows, old.id)
    assert (ended.end_reason, ended.version) == ("replaced", 1)
    with cut.direct.engine().connect() as connection:
        mine = select(grants.c.id).where(grants.c.user_id == user)
        assert set(connection.scalars(mine)) == {old.id, grant.id}


def test_a_take_cut_at_commit_is_a_success_once(cut: Cut) -> None:
    """The callback that used the state up gets the attempt though it saw no answer; no other does."""
    state = Secret(secrets.token_hex(8))
    cut.attempts.begin(state, Secret("b"), ATTEMPT, seconds=60)
    cut.arm("UPDATE")
    assert cut.attempts.take(state, Secret("b")) == ATTEMPT
    assert cut.attempts.take(state, Secret("b")) == "already_used"


def test_a_cut_alone_does_not_tell_what_was_written(served: CuttingProxy, moment: Moment) -> None:
    """The control: both times the write says UNKNOWN, and the row differs. Only reading back can tell."""
    cut = Cut(served, moment, "READ COMMITTED")
    grant = cut.store.add(new_grant())
    cut.arm("UPDATE")
    write = update(grants).where(grants.c.id == grant.id).values(version=grants.c.version + 1)
    assert Transactions(cut.database).write(write) is Outcome.UNKNOWN
    assert loaded(cut.rows, grant.id).version == (0 if moment == "before" else 1)
    cut.close()


# the row alone is believed


WRITES: dict[str, Callable[[SqlGrantStore, Any, Any], object]] = {
    "claim": lambda store, grant, claim: claimed(store, loaded(store, grant.id), doubts=1) is not None,
    "save": lambda store, grant, claim: store.save(grant, claim, token_set(1)) is SaveOutcome.SAVED,
    "release": lambda store, grant, claim: store.release(claim, UNKNOWN, in_doubt=True),
    "end": lambda store, grant, claim: store.end(grant.id, "signed_out"),
    "refusal": lambda store, grant, claim: store.end(grant.id, "refused", claim=claim),
    "expire": lambda store, grant, claim: store.expire(grant.id, 0),
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlGrantStore]:
    """A store that waits for locks only shortly."""
    opened = Database.from_uri(
        "sqlite:///tokens.sqlite", {"connect_args": {"timeout": 0.01}}, folder=tmp_path
    )
    yield sql_stores(opened)[0]
    assert opened.engine().pool.checkedout() == 0  # type: ignore[attr-defined]
    opened.engine().dispose()


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize(
    ("outcome", "applied"),
    [
        pytest.param(Outcome.UNTOUCHED, False, id="stale"),
        pytest.param(Outcome.LOST, False, id="lost"),
        pytest.param(Outcome.UNKNOWN, False, id="unanswered"),
        pytest.param(Outcome.UNKNOWN, True, id="unanswered-but-applied"),
    ],
)
def test_a_write_goes_by_the_row(
    store: SqlGrantStore, monkeypatch: pytest.MonkeyPatch, name: str, outcome: Outcome, applied: bool
) -> None:
    """Stale row counts (Galera), lost races without a winner, lost answers: done once, and told as done."""
    grant = store.add(new_grant())
    claim = claimed(store, grant)
    really = store._transactions.write
    said = [outcome]

    def write(*statements: Any, **how: Any) -> Outcome:
        if not said:
            return really(*statements, **how)
        if applied:
            assert really(*statements, **how) is Outcome.WRITTEN
        return said.pop()

    monkeypatch.setattr(store._transactions, "write", write)
    assert WRITES[name](store, grant, claim)
    assert said == []
    assert loaded(store, grant.id).version == (1 if name == "expire" else 2)


@pytest.mark.parametrize("outcome", Outcome)
def test_a_renewal_is_tried_once(
    store: SqlGrantStore, monkeypatch: pytest.MonkeyPatch, outcome: Outcome
) -> None:
    """The holder reads its socket meanwhile: whatever came of the write, it is not repeated here."""
    claim = claimed(store, store.add(new_grant()))
    said = [outcome]
    monkeypatch.setattr(store._transactions, "write", lambda *statements, **how: said.pop())
    monkeypatch.setattr(store._transactions, "read_all", lambda *statements, **how: pytest.fail("a read"))
    assert store.renew(claim, seconds=10.0) is (outcome is Outcome.WRITTEN)
    assert said == []


@pytest.mark.parametrize("name", WRITES)
def test_a_write_that_never_gets_through_ends_in_an_error(
    store: SqlGrantStore, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Bounded: in the end the caller gets our error, and the row is as it was."""
    grant = store.add(new_grant())
    claim = claimed(store, grant)
    before = loaded(store, grant.id)
    monkeypatch.setattr(transactions, "KEEP_TRYING_SECONDS", 0.02)
    monkeypatch.setattr(store._transactions, "write", lambda *statements, **how: Outcome.LOST)
    with pytest.raises(StoreUnavailable, match="lock"):
        WRITES[name](store, grant, claim)
    after = loaded(store, grant.id)
    assert (after.version, after.tokens, after.standing) == (before.version, before.tokens, before.standing)


# locks, pools, dead connections


def test_a_locked_file_is_readable_and_not_writable(
    store: SqlGrantStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another process writes, reads go on; a write waits, gives up with our error, and works later."""
    monkeypatch.setattr(transactions, "KEEP_TRYING_SECONDS", 0.02)
    grant = store.add(new_grant())
    other = sqlite3.connect(tmp_path / "tokens.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert loaded(store, grant.id).version == 0
    with pytest.raises(StoreUnavailable):
        claimed(store, grant)
    other.execute("ROLLBACK")
    other.close()
    assert claimed(store, grant) is not None


LOCK_WAITS = {
    "postgresql": {"options": "-c lock_timeout=50"},
    "mariadb": {"init_command": "SET SESSION innodb_lock_wait_timeout = 1"},
}


@on_servers
def test_a_locked_row_is_readable_and_not_writable(
    request: pytest.FixtureRequest, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock wait that runs out (55P03, 1205) is a lost race, bounded, and leaves no transaction open."""
    monkeypatch.setattr(transactions, "KEEP_TRYING_SECONDS", 0.02)
    waits = LOCK_WAITS[request.node.callspec.params["database"]]
    opened = Database.from_uri(database, {"connect_args": waits, "isolation_level": "READ COMMITTED"})
    create_tables(opened.engine())
    store = sql_stores(opened)[0]
    grant = store.add(new_grant())
    locker = create_engine(database)
    with locker.connect() as connection:
        connection.execute(update(grants).where(grants.c.id == grant.id).values(failures=9))
        assert loaded(store, grant.id).failures == 0
        with pytest.raises(StoreUnavailable):
            claimed(store, grant)
        connection.rollback()
    assert claimed(store, grant) is not None
    assert opened.engine().pool.checkedout() == 0  # type: ignore[attr-defined]
    locker.dispose()
    opened.engine().dispose()


@on_servers
@pytest.mark.parametrize("passed", [False, True], ids=["own", "passed"])
def test_connections_that_died_while_idle_cost_nothing(
    request: pytest.FixtureRequest, servers: Servers, database: str, passed: bool
) -> None:
    """The server was restarted or a firewall cut idle connections: the next call works, read or write."""
    opened = Database.from_application(create_engine(database)) if passed else Database.from_uri(database)
    create_tables(opened.engine())
    store, attempts = sql_stores(opened)
    grant = store.add(new_grant())
    calls: list[Callable[[], object]] = [
        lambda: loaded(store, grant.id),
        lambda: claimed(store, grant),
        lambda: store.expire(grant.id, 0),
        lambda: store.find("ada", "spotify"),
        lambda: attempts.begin(Secret("s"), Secret("b"), ATTEMPT, seconds=60) or True,
        lambda: store.add(new_grant()),
        lambda: store.add(new_grant(), replaces=grant.id),
        lambda: store.end(grant.id, "signed_out") is False,
    ]
    for call in calls:
        servers.cut_off(request.node.callspec.params["database"], database)
        assert call()
    opened.engine().dispose()


def test_an_exhausted_pool_says_what_to_raise(database: str) -> None:
    """Threads that hold all connections make others fail in time, with the option's name."""
    opened = Database.from_uri(database, {"pool_size": 1, "max_overflow": 0, "pool_timeout": 0.01})
    create_tables(opened.engine())
    store = sql_stores(opened)[0]
    grant = store.add(new_grant())
    with opened.engine().connect():
        for call in (lambda: store.load(grant.id), lambda: claimed(store, grant)):
            with pytest.raises(StoreUnavailable, match="pool_size"):
                call()
    assert claimed(store, grant) is not None
    opened.engine().dispose()


READ_ONLY = {
    "postgresql": {"connect_args": {"options": "-c default_transaction_read_only=on"}},
    "mariadb": {"connect_args": {"init_command": "SET SESSION TRANSACTION READ ONLY"}},
    "sqlite": {},
}


def test_a_read_only_database_can_be_read(request: pytest.FixtureRequest, database: str) -> None:
    """After a fail-over to a read-only replica tokens are still served; a write says StoreUnavailable."""
    name = request.node.callspec.params["database"]
    writable = Database.from_uri(database)
    create_tables(writable.engine())
    grant = sql_stores(writable)[0].add(new_grant())
    uri = (
        f"sqlite:///file:{writable.engine().url.database}?mode=ro&uri=true" if name == "sqlite" else database
    )
    opened = Database.from_uri(uri, READ_ONLY[name])
    store = sql_stores(opened)[0]
    assert loaded(store, grant.id).version == 0
    with pytest.raises(StoreUnavailable) as raised:
        claimed(store, grant)
    assert not isinstance(raised.value.__cause__, DBAPIError)
    for database_ in (opened, writable):
        database_.engine().dispose()


def test_a_server_that_is_down_is_unavailable_for_every_method() -> None:
    """Each method raises our error with the driver's as its cause."""
    opened = Database.from_uri(f"mysql://u:hunter2@127.0.0.1:{free_port()}/d")
    store, attempts = sql_stores(opened)
    grant_calls = [
        lambda: store.add(new_grant()),
        lambda: store.load("x"),
        lambda: store.find("u", "p"),
        lambda: store.end("x", "signed_out"),
        lambda: store.renew(Claim(id="c", grant_id="x", version=1, redeems=0), seconds=10.0),
        lambda: store.release(Claim(id="c", grant_id="x", version=1, redeems=0), BUSY),
        lambda: attempts.begin(Secret("s"), Secret("b"), ATTEMPT, seconds=1),
        lambda: attempts.take(Secret("s"), Secret("b")),
    ]
    for call in grant_calls:
        with pytest.raises(StoreUnavailable) as raised:
            call()
        assert raised.value.__cause__ is not None
        assert "hunter2" not in str(raised.value)


def test_no_connection_is_held_between_two_calls(store: SqlGrantStore) -> None:
    """Every connection that is checked out is checked in by the time that the call returns."""
    opened = store._transactions._database
    moves: list[str] = []
    for move in ("checkout", "checkin"):
        event.listen(opened.engine(), move, lambda *args, move=move: moves.append(move))
    grant = store.add(new_grant())
    claim = claimed(store, grant)
    store.save(grant, claim, token_set(1))
    assert moves == ["checkout", "checkin"] * (len(moves) // 2)
    with opened.engine().connect() as connection:
        assert connection.scalar(select(func.count()).select_from(grants)) == 1


# what the drivers say


class Said(Exception):
    """A driver's error with a code where drivers put it."""

    def __init__(self, *args: object, **attributes: object) -> None:
        super().__init__(*args)
        vars(self).update(attributes)


@pytest.mark.parametrize(
    ("said", "means"),
    [
        (Said("x", sqlstate="40001"), Failure.LOST),
        (Said("x", sqlstate="40P01"), Failure.LOST),
        (Said("x", sqlstate="55P03"), Failure.LOST),
        (Said("x", pgcode="40001"), Failure.LOST),
        (Said("x", sqlstate="42P01"), Failure.TABLES_MISSING),
        (Said("x", sqlstate="25006"), Failure.REFUSED),
        (Said("x", sqlstate=None), Failure.REFUSED),
        (Said(1213, "x", sqlstate="40001"), Failure.LOST),
        (Said(1205, "x", sqlstate="HY000"), Failure.LOST),
        (Said(1020, "x"), Failure.LOST),
        (Said(1180, "x"), Failure.UNKNOWN),
        (Said(1047, "x", sqlstate="08S01"), Failure.REFUSED),
        (Said(1146, "x", sqlstate="42S02"), Failure.TABLES_MISSING),
        (Said(), Failure.REFUSED),
        (sqlite3.OperationalError("no such table: tokenrotate_grants"), Failure.TABLES_MISSING),
        (sqlite3.OperationalError("disk I/O error"), Failure.REFUSED),
    ],
)
def test_a_drivers_error_has_one_meaning(said: Exception, means: Failure) -> None:
    """The table in `failures`, line by line."""
    assert classify(DBAPIError("UPDATE", {}, said)) is means


@pytest.mark.parametrize("said", [Said("x", sqlstate="40001"), Said(1213, "x")])
def test_a_broken_connection_is_unknown_whatever_the_code(said: Exception) -> None:
    """A code that arrives with the end of the connection says nothing for certain."""
    assert classify(DBAPIError("UPDATE", {}, said, connection_invalidated=True)) is Failure.UNKNOWN
