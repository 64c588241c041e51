"""The stores under test, each with a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from flask_tokenrotate.storage import attempts, grants, ledger, statements
from flask_tokenrotate.storage.database.engine import Database
from flask_tokenrotate.testing.clock import ManualClock

from ..conftest import available
from ..servers import ENGINES, Servers
from ..servers.databases import execute
from ..servers.galera import Galera
from ..servers.pgbouncer import OPTIONS, PgBouncer
from .backends import VARIANTS, Stores, Variant, clock_in_statements, memory_stores, stores_on

LONG = [pytest.mark.long, pytest.mark.engine]
BACKENDS = [
    # A store of your own: a function that returns `backends.Stores` on a clock, as this one does.
    pytest.param(memory_stores, id="memory"),
    *ENGINES,
    *(pytest.param(variant, id=str(variant), marks=LONG) for variant in VARIANTS),
    pytest.param("galera", id="galera", marks=LONG),
    pytest.param("pgbouncer", id="pgbouncer", marks=LONG),
    pytest.param("partitioned", id="partitioned", marks=LONG),
]

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


@pytest.fixture(scope="session")
def galera() -> Iterator[Galera]:
    """A running cluster of three nodes."""
    cluster = available(Galera.start)
    yield cluster
    cluster.stop()


@pytest.fixture(scope="session")
def pgbouncer(servers: Servers) -> Iterator[str]:
    """The URI of a new database behind a PgBouncer in transaction mode."""
    uri = available(lambda: servers.new_database("postgresql"))
    bouncer = available(lambda: PgBouncer(uri))
    yield bouncer.uri
    bouncer.close()


def sql_in(page: Path) -> str:
    """Return the SQL that a page shows."""
    return page.read_text().split("```sql\n")[1].split("```")[0]


@pytest.fixture(scope="module")
def connections() -> int:
    """How many connections the pool has; a module whose threads race asks for one each."""
    return 2


def _open(
    request: pytest.FixtureRequest, servers: Servers, backend: str | Variant, connections: int
) -> Database:
    if backend == "galera":
        uri = request.getfixturevalue("galera").new_database()
        backend = Variant(engine="mariadb", options={})
    elif backend == "partitioned":
        uri = available(lambda: servers.new_database("postgresql"))
        execute(make_url(uri).set(drivername="postgresql+psycopg"), sql_in(OPERATIONS))
        backend = Variant(engine="postgresql", options={})
    elif backend == "pgbouncer":
        uri = request.getfixturevalue("pgbouncer")
        backend = Variant(engine="postgresql", options=OPTIONS)
    else:
        backend = Variant(engine=backend, options={}) if isinstance(backend, str) else backend
        engine = backend.engine
        uri = available(lambda: servers.new_database(engine))
    # A leak shows as a time-out at once instead of hiding behind an overflow connection.
    return backend.database(uri, pool_size=connections, max_overflow=0, pool_timeout=1.0)


@pytest.fixture(scope="module", params=BACKENDS)
def opened(
    request: pytest.FixtureRequest, servers: Servers, connections: int
) -> Iterator[Database | Callable[[ManualClock], Stores]]:
    """The database under test, or what makes stores that need none."""
    if callable(request.param):
        yield request.param
        return
    database = _open(request, servers, request.param, connections)
    yield database
    database.engine().dispose()


@pytest.fixture
def stores(
    opened: Database | Callable[[ManualClock], Stores], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stores]:
    """Both stores; after the test no connection may be checked out."""
    clock = ManualClock()
    if not isinstance(opened, Database):
        yield opened(clock)
        return
    for module in (grants, statements, attempts, ledger):
        monkeypatch.setattr(module, "db_now", clock_in_statements(clock))
    yield stores_on(opened, clock)
    assert opened.engine().pool.checkedout() == 0  # type: ignore[attr-defined]
