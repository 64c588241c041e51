"""The engine: what a URI means, what is refused, when it connects, and that no connection crosses a fork."""

from __future__ import annotations

import multiprocessing
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import create_engine, event, inspect, select, text

from flask_tokenrotate.errors import ConfigurationError, StoreUnavailable, TablesMissing
from flask_tokenrotate.rotation.tokens import Secret
from flask_tokenrotate.rotation.verdict import NotPosted
from flask_tokenrotate.storage.database.engine import Database
from flask_tokenrotate.storage.database.schema import db_now, metadata
from flask_tokenrotate.storage.database.tables import create_tables

from ..servers.processes import free_port
from .backends import claimed, loaded, new_grant, sql_stores


@pytest.fixture
def opened(database: str) -> Iterator[Database]:
    """An engine of our own on each database, with the tables."""
    opened = Database.from_uri(database)
    create_tables(opened.engine())
    yield opened
    opened.engine().dispose()


# URIs and options


@pytest.mark.parametrize(
    ("uri", "driver"),
    [
        ("postgres://u@h/d", "postgresql+psycopg"),
        ("postgresql://u@h/d", "postgresql+psycopg"),
        ("mysql://u@h/d", "mysql+pymysql"),
        ("mariadb://u@h/d", "mariadb+pymysql"),
        ("mysql+pymysql://u@h/d", "mysql+pymysql"),
    ],
)
def test_a_bare_scheme_means_the_driver_of_our_extras(uri: str, driver: str) -> None:
    """`pip install Flask-TokenRotate[postgresql]` and a common URI are enough."""
    assert Database.from_uri(uri).engine().url.drivername == driver


@pytest.mark.parametrize(
    ("uri", "extra"),
    [("postgresql+psycopg2://u:hunter2@h/d", "postgresql"), ("mysql+mysqldb://u:hunter2@h/d", "mysql")],
)
def test_a_missing_driver_names_the_extra(uri: str, extra: str) -> None:
    """The cure is in the message, the password is not."""
    with pytest.raises(ConfigurationError, match=rf"Flask-TokenRotate\[{extra}\]") as raised:
        Database.from_uri(uri)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("hunter2", "cannot be read"),
        ("", "cannot be read"),
        ("postgresql://hunter2@/d?host=a:1,b:2", "Repeat it"),
        ("postgresql://u:hunter2@h:port/d", "cannot be read"),
        ("oracle://u:hunter2@h/d", "oracle"),
        ("postgresql+nosuch://u:hunter2@h/d", "not installed"),
        ("postgresql+asyncpg://u:hunter2@h/d", "asynchronous|not installed"),
        ("sqlite://", "in-memory"),
        ("sqlite:///:memory:", "in-memory"),
        ("sqlite:///file::memory:?uri=true", "in-memory"),
        ("sqlite:///file:x?mode=memory&uri=true", "in-memory"),
    ],
)
def test_a_uri_that_cannot_work_is_refused_at_once(uri: str, says: str) -> None:
    """The message says what is wrong and never shows the URI, which may hold a password."""
    with pytest.raises(ConfigurationError, match=says) as raised:
        Database.from_uri(uri)
    assert "hunter2" not in str(raised.value)


def test_an_unknown_engine_option_is_named(tmp_path: Path) -> None:
    """A misspelt option is told by its name at once."""
    with pytest.raises(ConfigurationError, match=r"TOKENROTATE_ENGINE_OPTIONS.*pool_sise"):
        Database.from_uri("postgresql://u@h/d", {"pool_sise": 3})


def test_options_win_over_the_defaults_one_by_one(tmp_path: Path) -> None:
    """Options replace the default of their name; the others stay, those of the driver too."""
    database = Database.from_uri("mysql://u@h/d", {"pool_size": 1, "connect_args": {"read_timeout": 99}})
    engine = database.engine()
    assert engine.pool.size() == 1  # type: ignore[attr-defined]
    assert engine.pool.timeout() == 5.0  # type: ignore[attr-defined]


def test_a_relative_file_lies_in_the_folder_which_is_made_at_first_use(tmp_path: Path) -> None:
    """Nothing is made before the first use; then the folder, the file and the tables are."""
    database = Database.from_uri("sqlite:///sub/tokens.sqlite", folder=tmp_path)
    assert list(tmp_path.iterdir()) == []
    sql_stores(database)[0].add(new_grant())
    assert (tmp_path / "sub" / "tokens.sqlite").exists()
    database.engine().dispose()


def test_a_folder_that_cannot_be_made_is_a_configuration_error(tmp_path: Path) -> None:
    """A file where the folder should be: the message names the folder and the key."""
    (tmp_path / "sub").write_text("")
    database = Database.from_uri("sqlite:///sub/deep/tokens.sqlite", folder=tmp_path)
    with pytest.raises(ConfigurationError, match=r"sub.*TOKENROTATE_DATABASE_URI"):
        database.engine()


def test_sqlite_is_durable_and_lets_readers_read(tmp_path: Path) -> None:
    """WAL, and FULL: with NORMAL a power cut would take the newest token set with it."""
    database = Database.from_uri("sqlite:///tokens.sqlite", folder=tmp_path)
    with database.engine().connect() as connection:
        pragmas = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "busy_timeout")
        ]
    assert pragmas == ["wal", 2, 4000]
    database.engine().dispose()


def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    """Whatever the driver says, the caller sees an error of ours, again and again."""
    (tmp_path / "tokens.sqlite").write_text("this is no database, but it is long enough to be read" * 20)
    store = sql_stores(Database.from_uri("sqlite:///tokens.sqlite", folder=tmp_path))[0]
    for _ in range(2):
        with pytest.raises(StoreUnavailable) as raised:
            store.load("x")
        assert isinstance(raised.value.__cause__, sqlite3.DatabaseError)


def test_nothing_connects_before_the_first_use() -> None:
    """A server that is down does not stop the application from starting."""
    database = Database.from_uri(f"postgresql://u:hunter2@127.0.0.1:{free_port()}/d")
    store = sql_stores(database)[0]
    with pytest.raises(StoreUnavailable, match=r"postgresql at 127\.0\.0\.1") as raised:
        store.load("x")
    assert raised.value.__cause__ is not None
    assert "hunter2" not in str(raised.value) + str(raised.value.__cause__)


@pytest.mark.engine
@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
def test_missing_tables_name_the_command(database: str) -> None:
    """On a server the tables are not made behind anybody's back; each method names the command."""
    opened = Database.from_uri(database)
    grants, attempts = sql_stores(opened)
    calls = [
        lambda: grants.add(new_grant()),
        lambda: grants.add(new_grant(), replaces="x"),
        lambda: grants.load("x"),
        lambda: grants.find("u", "p"),
        lambda: grants.end("x", "signed_out"),
        lambda: grants.expire("x", 0),
        lambda: attempts.take(Secret("s"), None),
    ]
    for call in calls:
        with pytest.raises(TablesMissing, match="flask tokenrotate create-tables"):
            call()
    opened.engine().dispose()


def test_creating_the_tables_twice_changes_nothing(opened: Database) -> None:
    """The command can be run on each deployment; the rows stay."""
    store = sql_stores(opened)[0]
    grant = store.add(new_grant())
    create_tables(opened.engine())
    assert store.load(grant.id) is not None


# the schema


def test_no_index_touches_a_column_that_the_protocol_writes(opened: Database) -> None:
    """Nothing that a rotation writes to a grant is indexed: heap-only updates on PostgreSQL."""
    inspector = inspect(opened.engine())
    indexed = {
        column
        for table in metadata.tables
        for index in inspector.get_indexes(table)
        for column in index["column_names"]
    }
    assert indexed == {"user_id", "provider", "login_id", "expires_at", "grant_id", "redeems", "slot"}
    assert {tuple(index["column_names"]) for index in inspector.get_indexes("tokenrotate_grants")} == {
        ("user_id", "provider"),
        ("login_id",),
    }


def test_a_renewal_is_one_statement(opened: Database) -> None:
    """A guarded UPDATE and no read: on every engine, while the holder's socket waits."""
    store = sql_stores(opened)[0]
    claim = claimed(store, store.add(new_grant()))
    statements: list[str] = []
    event.listen(
        opened.engine(), "before_cursor_execute", lambda *args: statements.append(args[2].split()[0])
    )
    assert store.renew(claim, seconds=10.0)
    assert statements == ["UPDATE"]


UPDATES = 8
"""As many as fit on the row's page without the clean-up that another session may hold up."""


@pytest.mark.engine
@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_rotations_are_heap_only_updates(opened: Database) -> None:
    """PostgreSQL's own counters: every update of a grant stayed on its page, which has room."""
    store = sql_stores(opened)[0]
    grant = store.add(new_grant(login_id="1" * 32))
    for _ in range(UPDATES // 4):
        claim = claimed(store, loaded(store, grant.id))
        for _ in range(2):
            assert store.renew(claim, seconds=10.0)
        store.release(claim, NotPosted())
    counters = text("SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = :name")
    give_up_at = time.monotonic() + 20
    updates = hot = 0
    while updates < UPDATES and time.monotonic() < give_up_at:
        with opened.engine().connect() as connection:
            connection.exec_driver_sql("SELECT pg_stat_force_next_flush()")
        with opened.engine().connect() as connection:
            updates, hot = connection.execute(counters, {"name": "tokenrotate_grants"}).one()
    assert (updates, hot) == (UPDATES, UPDATES)
    settings = text("SELECT reloptions FROM pg_class WHERE relname = :name")
    with opened.engine().connect() as connection:
        assert connection.scalar(settings, {"name": "tokenrotate_grants"}) == ["fillfactor=50"]


def test_the_clock_is_the_databases_in_epoch_seconds(opened: Database) -> None:
    """`db_now` is a float, goes on, and agrees with this host's clock (the same machine here)."""
    with opened.engine().connect() as connection:
        before = time.time()
        first, second = (connection.scalar(select(db_now())) for _ in range(2))
        after = time.time()
    assert isinstance(first, float)
    assert before - 0.01 <= first <= second <= after + 0.01


@pytest.mark.engine
@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
def test_the_clock_does_not_depend_on_the_sessions_time_zone(opened: Database) -> None:
    """A server in another time zone, or one whose clocks go back tonight, tells the same time."""
    with opened.engine().connect() as connection:
        postgresql = connection.dialect.name == "postgresql"
        connection.exec_driver_sql(f"SET {'TIME ZONE' if postgresql else 'time_zone ='} '-11:30'")
        now = connection.scalar(select(db_now()))
    assert abs(now - time.time()) < 1


# engines that the application passes


def test_a_passed_engine_keeps_its_pool_and_its_isolation_level(database: str) -> None:
    """The store works on the application's pool and gives connections back as it found them."""
    engine = create_engine(database, isolation_level="SERIALIZABLE")
    create_tables(engine)
    opened = Database.from_application(engine)
    sql_stores(opened)[0].add(new_grant())
    assert opened.engine().pool is engine.pool
    with engine.connect() as connection:
        assert connection.get_isolation_level() == "SERIALIZABLE"
    engine.dispose()


def test_a_flask_sqlalchemy_object_is_asked_inside_the_application_context(database: str) -> None:
    """Nothing is asked of it before the first use; then its engine carries the store."""
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = database
    db = SQLAlchemy()
    opened = Database.from_application(db)
    db.init_app(app)
    with app.app_context():
        create_tables(db.engine)
        store = sql_stores(opened)[0]
        grant = store.add(new_grant())
        assert opened.engine().pool is db.engine.pool
    assert store.load(grant.id) is not None
    with app.app_context():
        db.engine.dispose()


@pytest.mark.parametrize("passed", [None, "sqlite:///x", object()])
def test_anything_else_passed_is_refused(passed: Any) -> None:
    """What has no engine is named by its type, with the two things that can be passed."""
    with pytest.raises(ConfigurationError, match=f"{type(passed).__name__}.*Flask-SQLAlchemy"):
        Database.from_application(passed)


def test_a_passed_engine_in_memory_is_refused() -> None:
    """Also by way of the application's engine, an in-memory SQLite loses everything."""
    with pytest.raises(ConfigurationError, match="in-memory"):
        Database.from_application(create_engine("sqlite://"))


# forks


def _in_child(store: Any, engine: Any, grant_id: str, answers: Any) -> None:
    try:
        found = store.load(grant_id)
        with engine.connect() as connection:
            own = None
            if connection.dialect.name == "postgresql":
                own = connection.scalar(text("SELECT pg_backend_pid()"))
            elif connection.dialect.name == "mysql":
                own = connection.scalar(text("SELECT connection_id()"))
        answers.send((found is not None, own))
    except BaseException as error:
        answers.send((repr(error), None))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("passed", [False, True], ids=["own", "passed"])
def test_no_connection_crosses_a_fork(database: str, passed: bool) -> None:
    """A child of a process that has used the store (gunicorn --preload) opens connections of its own.

    Both use the store at once afterwards; on a shared connection they would read each other's answers.
    """
    opened = Database.from_application(create_engine(database)) if passed else Database.from_uri(database)
    engine = opened.engine()
    create_tables(engine)
    store = sql_stores(opened)[0]
    grant = store.add(new_grant())
    sessions = {"postgresql": "SELECT pg_backend_pid()", "mysql": "SELECT connection_id()"}
    query = sessions.get(engine.dialect.name, "SELECT NULL")
    with engine.connect() as connection:
        parents = connection.scalar(text(query))
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_in_child, args=(store, engine, grant.id, sender))
    child.start()
    for _ in range(20):
        assert store.load(grant.id) is not None
    found, childs = receiver.recv()
    child.join(30)
    assert found is True
    assert childs is None or childs != parents
    with engine.connect() as connection:
        assert connection.scalar(text(query)) == parents
    assert child.exitcode == 0
    for end in (receiver, sender):
        end.close()
    engine.dispose()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_while_another_thread_holds_the_lock_does_not_hang_the_child(tmp_path: Path) -> None:
    """A thread of the parent that was at the first use is not there in the child to let the lock go."""
    opened = Database.from_uri("sqlite:///tokens.sqlite", folder=tmp_path)
    context = multiprocessing.get_context("fork")
    held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with opened._lock:
            held.set()
            let_go.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(30)
    child = context.Process(target=opened.engine)
    child.start()
    child.join(10)
    let_go.set()
    thread.join(30)
    hung = child.is_alive()
    child.kill()
    child.join(30)
    assert not hung
    assert child.exitcode == 0
