"""Fixtures for the whole suite: databases and Redis, found or started by `tests.servers`.

A test whose server is neither running nor installed is skipped with the reason; where
``TOKENROTATE_REQUIRE_ENGINES`` is set, it fails.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from .servers import ENGINES, Servers, Unavailable

T = TypeVar("T")

MEMORY = Path("/dev/shm")
ROOM = 2**30
"""Bytes that must be free in memory for temporary folders."""


def pytest_configure() -> None:
    """Put temporary folders into memory where there is room: on a disk each commit of SQLite waits for it."""
    if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """The database servers of this run."""
    servers = Servers(tmp_path_factory.mktemp("engines"))
    yield servers
    servers.close()


def available(get: Callable[[], T]) -> T:
    """Return what ``get`` returns; skip the test, or fail it, when the server is not available."""
    try:
        return get()
    except Unavailable as reason:
        if os.environ.get("TOKENROTATE_REQUIRE_ENGINES"):
            pytest.fail(f"TOKENROTATE_REQUIRE_ENGINES is set, but {reason}")
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def database_of(servers: Servers) -> Callable[[str], str]:
    """One database for each engine, shared by the tests that take ``database``."""
    made: dict[str, str] = {}

    def of(engine: str) -> str:
        if engine not in made:
            made[engine] = available(lambda: servers.new_database(engine))
        return made[engine]

    return of


@pytest.fixture(params=ENGINES)
def database(
    request: pytest.FixtureRequest, servers: Servers, database_of: Callable[[str], str]
) -> Iterator[str]:
    """The URI of an empty database on each engine; emptied again after the test."""
    uri = database_of(request.param)
    yield uri
    servers.empty(request.param, uri)


@pytest.fixture(scope="session")
def redis_url(servers: Servers) -> str:
    """The URL of a Redis server; its databases are shared with others, so use keys of your own."""
    return available(lambda: servers.url("redis")).render_as_string(hide_password=False)
