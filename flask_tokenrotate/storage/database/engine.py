"""The store's engine: its own, or one that the application passes.

Nothing connects before the first use, and no connection crosses a fork: the child starts with an empty
pool. The database commits each statement by itself (AUTOCOMMIT), so that a worker that is stopped between two
statements holds no row lock. An ``isolation_level`` in the engine options is respected; the store is correct
at every level.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from ...errors import ConfigurationError
from ...forks import call_in_forked_child
from .tables import create_tables
from .urls import check_backend, create_own_engine, make_folder, read_url

_SWITCHED_WITHOUT_A_ROUND_TRIP = ("postgresql", "sqlite")
"""Where the connections of a passed engine are used in AUTOCOMMIT. On MariaDB and MySQL each switch costs a
round trip, and waiting for a row that a stopped worker locked has a limit."""


class Database:
    """Has the engine, ready for use. Make one with `from_uri` or `from_application`."""

    def __init__(self, source: Any, *, owned: bool) -> None:
        self._source = source
        self._owned = owned
        self._engine: Engine | None = None
        self._lock = threading.Lock()
        call_in_forked_child(self._forget_parent)

    @classmethod
    def from_uri(
        cls, uri: str, options: Mapping[str, Any] | None = None, *, folder: str | Path = "."
    ) -> Database:
        """Return the database at ``uri`` (``TOKENROTATE_DATABASE_URI``), on an engine of its own.

        ``options`` (``TOKENROTATE_ENGINE_OPTIONS``) go to `sqlalchemy.create_engine` and override the
        defaults of `urls`. A relative SQLite path starts at ``folder``; folders are made at first
        use. ``postgresql://`` means psycopg, ``mysql://`` and ``mariadb://`` PyMySQL. Raises
        `ConfigurationError` for a URI that cannot be read, an engine that is not supported, a driver that
        is not installed, and options that the engine does not know.
        """
        return cls(create_own_engine(read_url(uri, Path(folder)), options or {}), owned=True)

    @classmethod
    def from_application(cls, source: Any) -> Database:
        """Return the database of an engine, or of a Flask-SQLAlchemy object, that the application passes.

        The object's ``engine`` is read at first use, inside the application's context. The engine's pool is
        shared; connections return to it with the isolation level that they had.
        Raises `ConfigurationError` when ``source`` is neither.
        """
        if isinstance(source, Engine):
            check_backend(source.url)
        elif not hasattr(type(source), "engine"):
            raise ConfigurationError(
                f"The database passed to TokenRotate is a {type(source).__name__}; pass a SQLAlchemy "
                "Engine or a Flask-SQLAlchemy object, or set TOKENROTATE_DATABASE_URI."
            )
        return cls(source, owned=False)

    def engine(self) -> Engine:
        """Return the engine; on SQLite the tables exist then.

        Raises `StoreUnavailable` when SQLite's file cannot be opened, `ConfigurationError` when its folder
        cannot be made or the passed object has no engine that the store can use.
        """
        if self._engine is None:
            with self._lock:
                if self._engine is None:
                    self._engine = self._prepared()
        return self._engine

    def _prepared(self) -> Engine:
        engine = self._source
        if not isinstance(engine, Engine):
            engine = engine.engine
            if not isinstance(engine, Engine):
                raise ConfigurationError(f"{type(self._source).__name__}.engine is not a SQLAlchemy Engine.")
            check_backend(engine.url)
        if engine.dialect.name == "sqlite":
            make_folder(engine.url)
            create_tables(engine)
        if not self._owned and engine.dialect.name in _SWITCHED_WITHOUT_A_ROUND_TRIP:
            return engine.execution_options(isolation_level="AUTOCOMMIT")
        return engine

    def _forget_parent(self) -> None:
        """Start with an empty pool, in a forked child."""
        self._lock = threading.Lock()
        engine = self._engine or self._source
        if isinstance(engine, Engine):
            # Kept from the garbage collector, which would close the parent's connections from here.
            _left_to_the_parent.append(engine.pool)
            engine.dispose(close=False)


_left_to_the_parent: list[object] = []
