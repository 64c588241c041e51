"""From a database URI and options to an engine with good defaults. Nothing here connects."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from ...errors import ConfigurationError

_DRIVERS = {
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
}
_EXTRAS = {"postgresql": "postgresql", "mysql": "mysql", "mariadb": "mysql"}
_BACKENDS = ("sqlite", "postgresql", "mysql", "mariadb")

_DEFAULTS: Mapping[str, Any] = {
    "isolation_level": "AUTOCOMMIT",
    "hide_parameters": True,
    # Shorter than a request waits for a token: one that gets no connection reports it before.
    "pool_timeout": 5.0,
}
_SERVER_DEFAULTS: Mapping[str, Any] = {"pool_recycle": 280, "pool_use_lifo": True}
_CONNECT_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "pysqlite": {"timeout": 4.0},
    # A worker that is stopped inside a transaction keeps its lock; PostgreSQL waits forever by default.
    "psycopg": {"connect_timeout": 5, "options": "-c lock_timeout=4000"},
    "pymysql": {
        "connect_timeout": 5,
        "read_timeout": 10,
        "write_timeout": 10,
        # The server waits 50 s for a row by default.
        "init_command": "SET SESSION innodb_lock_wait_timeout = 4",
    },
}
_WAL_TRIES = 20
_WAL_PAUSE_SECONDS = 0.05


def read_url(uri: str, folder: Path) -> URL:
    """Return ``uri`` with our default driver, and a relative SQLite path starting at ``folder``.

    Raises `ConfigurationError`, without the URI: it may contain a password.
    """
    try:
        url = make_url(uri)
    except (ArgumentError, ValueError):
        raise ConfigurationError(
            "TOKENROTATE_DATABASE_URI cannot be read as a database URI. Examples: sqlite:///tokens.sqlite, "
            "postgresql://user:password@host/name or mysql://user:password@host/name."
        ) from None
    url = url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))
    check_backend(url)
    if any("," in host for host in url.normalized_query.get("host", ())):
        raise ConfigurationError(
            "TOKENROTATE_DATABASE_URI has several hosts in one host=, which the driver reads as one name. "
            "Repeat it: postgresql://user@/name?host=first:5432&host=second:5432&target_session_attrs=read-write."
        )
    if url.get_backend_name() == "sqlite" and url.database and not url.database.startswith("file:"):
        url = url.set(database=str(folder.absolute() / url.database))
    return url


def check_backend(url: URL) -> None:
    """Raise `ConfigurationError` when the store does not work on the database of ``url``."""
    backend = url.get_backend_name()
    if backend not in _BACKENDS:
        raise ConfigurationError(
            f"TokenRotate does not support {backend!r}: use SQLite, PostgreSQL, MariaDB or MySQL."
        )
    if backend == "sqlite" and _is_in_memory(url):
        raise ConfigurationError(
            "TokenRotate does not support an in-memory SQLite database: other processes and threads do not "
            "see it, and all grants are lost with the process. Use a file (in tests, in a temporary folder)."
        )


def _is_in_memory(url: URL) -> bool:
    database = url.database or ""
    return database in ("", ":memory:") or (
        database.startswith("file:")
        and (url.query.get("mode") == "memory" or "mode=memory" in database or ":memory:" in database)
    )


def create_own_engine(url: URL, options: Mapping[str, Any]) -> Engine:
    """Return an engine for ``url``; ``options`` override the defaults. Raises `ConfigurationError`."""
    sqlite = url.get_backend_name() == "sqlite"
    try:
        driver = url.get_dialect().driver
        connect_args = {**_CONNECT_DEFAULTS.get(driver, {}), **options.get("connect_args", {})}
        defaults = {**_DEFAULTS, **({} if sqlite else _SERVER_DEFAULTS)}
        if "poolclass" in options:
            # Other pools have other arguments; whoever chooses one sets them.
            defaults = {name: value for name, value in defaults.items() if not name.startswith("pool_")}
        engine = create_engine(url, **{**defaults, **options, "connect_args": connect_args})
    except (ImportError, NoSuchModuleError) as error:
        extra = _EXTRAS.get(url.get_backend_name())
        cure = f" Install it with: pip install 'Flask-TokenRotate[{extra}]'" if extra else ""
        raise ConfigurationError(f"The database driver {url.drivername!r} is not installed.{cure}") from error
    except (TypeError, ArgumentError) as error:
        raise ConfigurationError(f"TOKENROTATE_ENGINE_OPTIONS: {error}") from None
    if engine.dialect.is_async:
        raise ConfigurationError(f"{url.drivername!r} is an asynchronous driver; use a synchronous one.")
    if sqlite:
        event.listen(engine, "connect", _set_up_sqlite)
    return engine


def _set_up_sqlite(connection: sqlite3.Connection, record: object) -> None:
    """Readers do not wait for writers (WAL), and a committed token set survives a power cut (FULL)."""
    for tries_left in reversed(range(_WAL_TRIES)):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError as error:
            # Two processes switch a new file to WAL at once: SQLite refuses one without waiting.
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or not tries_left:
                raise
            time.sleep(_WAL_PAUSE_SECONDS)
    connection.execute("PRAGMA synchronous = FULL")


def make_folder(url: URL) -> None:
    """Create the folder of an SQLite file. Raises `ConfigurationError` when that fails."""
    database = url.database or ""
    if database.startswith("file:"):
        return
    folder = Path(database).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"The folder {folder} for the grant database cannot be created ({error.strerror}): create it, or "
            "set TOKENROTATE_DATABASE_URI."
        ) from error
