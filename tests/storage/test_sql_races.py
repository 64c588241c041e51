"""Races that only a database has: tables that two processes create, and a row that a transaction locks."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import inspect, select, update

from flask_tokenrotate.storage.database.engine import Database
from flask_tokenrotate.storage.database.schema import grants, metadata
from flask_tokenrotate.storage.database.tables import create_tables

from .backends import claimed, loaded, new_grant, sql_stores


@pytest.fixture
def opened(database: str) -> Iterator[Database]:
    """The database, its tables made."""
    opened = Database.from_uri(database)
    create_tables(opened.engine())
    yield opened
    assert opened.engine().pool.checkedout() == 0  # type: ignore[attr-defined]
    opened.engine().dispose()


def _create(uri: str, ready: Any, failures: Any) -> None:
    """In a process of its own: make the tables when all are ready."""
    database = Database.from_uri(uri)
    ready.wait(30)
    try:
        create_tables(database.engine())
        sql_stores(database)[0].add(new_grant())
    except Exception as error:
        failures.put(repr(error))
    finally:
        database.engine().dispose()


def test_processes_create_the_tables_at_once(database: str) -> None:
    """Two processes that create the tables and use them at once: none fails."""
    context = multiprocessing.get_context("spawn")
    ready, failures = context.Barrier(2), context.Queue()
    children = [context.Process(target=_create, args=(database, ready, failures)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    found = [] if failures.empty() else [failures.get()]
    failures.close()
    failures.join_thread()
    assert found == []
    assert [child.exitcode for child in children] == [0] * 2
    opened = Database.from_uri(database)
    with opened.engine().connect() as connection:
        assert set(inspect(connection).get_table_names()) == set(metadata.tables)
        assert len(connection.execute(select(grants.c.id)).all()) == 2
    opened.engine().dispose()


def test_a_row_that_somebody_locks_does_not_hang_the_others(opened: Database) -> None:
    """Reading goes on while another transaction holds the row, and a claim made after it wins."""
    store = sql_stores(opened)[0]
    grant = store.add(new_grant())
    sqlite = opened.engine().dialect.name == "sqlite"
    level = "SERIALIZABLE" if sqlite else "READ COMMITTED"
    with opened.engine().connect().execution_options(isolation_level=level) as connection:
        connection.execute(update(grants).where(grants.c.id == grant.id).values(subject="another"))
        assert loaded(store, grant.id).version == 0
        connection.rollback()
    assert claimed(store, grant) is not None
