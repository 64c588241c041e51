"""Finds a server for each engine, or starts a private one, and makes databases in it.

A server is, in this order: the one that ``TOKENROTATE_TEST_POSTGRESQL``, ``TOKENROTATE_TEST_MARIADB`` or
``TOKENROTATE_TEST_REDIS`` names by URL, the one on loopback at its usual port, or a private one where the
binaries are installed. Every run makes databases of its own, so that runs do not meet.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import redis
from sqlalchemy import URL, create_engine, make_url, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from .processes import ServerProcess, Unavailable, find_binary, free_port, hand_over, run_as, server_folder

POSTGRESQL_FOLDERS = [str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]


class Servers:
    """The servers of one test run; each is looked for when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._found: dict[str, URL | Unavailable] = {}
        self._stops = contextlib.ExitStack()
        self._databases: list[tuple[str, str]] = []

    def url(self, engine: str) -> URL:
        """Return the administrator's URL of the server for ``engine``. Raises `Unavailable`."""
        if engine not in self._found:
            try:
                self._found[engine] = self._find(engine)
            except Unavailable as reason:
                self._found[engine] = reason
        found = self._found[engine]
        if isinstance(found, Unavailable):
            raise found
        return found

    def new_database(self, engine: str) -> str:
        """Make an empty database and return its URI; `close` drops it. Raises `Unavailable`."""
        name = f"tokenrotate_test_{os.getpid()}_{secrets.token_hex(4)}"
        if engine == "sqlite":
            return f"sqlite:///{self._folder / name}.sqlite"
        url = self.url(engine)
        execute(url, f"CREATE DATABASE {name}")
        uri = url.set(database=name).render_as_string(hide_password=False)
        self._databases.append((engine, uri))
        return uri

    def empty(self, engine: str, uri: str) -> None:
        """Drop everything in the database at ``uri``, cutting off who still uses it."""
        self.cut_off(engine, uri)
        name = make_url(uri).database
        if engine == "sqlite":
            for suffix in ("", "-wal", "-shm"):
                Path(f"{name}{suffix}").unlink(missing_ok=True)
        elif engine == "postgresql":
            execute(make_url(uri), "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
        else:
            execute(self.url(engine), f"DROP DATABASE {name}", f"CREATE DATABASE {name}")

    def cut_off(self, engine: str, uri: str) -> None:
        """End all connections to the database at ``uri``, from the server's side."""
        name = make_url(uri).database
        if engine == "postgresql":
            ours = f"FROM pg_stat_activity WHERE datname = '{name}'"
            execute(self.url(engine), f"SELECT pg_terminate_backend(pid) {ours}")
        elif engine == "mariadb":
            self._cut_off_mariadb(name)

    def close(self) -> None:
        """Drop the databases that were made and stop the servers that were started."""
        for engine, uri in self._databases:
            self.cut_off(engine, uri)
            execute(self.url(engine), f"DROP DATABASE {make_url(uri).database}")
        self._stops.close()

    def _cut_off_mariadb(self, name: str | None) -> None:
        query = text("SELECT id FROM information_schema.processlist WHERE db = :name")
        with create_engine(self.url("mariadb"), poolclass=NullPool).connect() as connection:
            for (number,) in connection.execute(query, {"name": name}).all():
                # It may have gone by itself.
                with contextlib.suppress(SQLAlchemyError):
                    connection.exec_driver_sql(f"KILL {number}")

    def _find(self, engine: str) -> URL:
        default, start = _KNOWN[engine]
        configured = os.environ.get(f"TOKENROTATE_TEST_{engine.upper()}")
        url = make_url(configured or default)
        if answers(url):
            return url
        if configured:
            raise Unavailable(f"TOKENROTATE_TEST_{engine.upper()} names a server that does not answer")
        folder = server_folder()
        self._stops.callback(folder.cleanup)
        url, process = start(Path(folder.name) / engine)
        self._stops.callback(process.stop, signal.SIGINT if engine == "postgresql" else signal.SIGTERM)
        return url


def execute(url: URL, *statements: str) -> None:
    """Execute ``statements``, each committed by itself."""
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def answers(url: URL) -> bool:
    """Return whether a server answers at ``url``."""
    try:
        if url.get_backend_name() == "redis":
            with redis.Redis.from_url(url.render_as_string(hide_password=False)) as client:
                return bool(client.ping())
        execute(url, "SELECT 1")
    except (SQLAlchemyError, redis.RedisError):
        return False
    return True


@dataclass(frozen=True)
class Kind:
    """How to install and run one kind of database server, which answers at ``url`` with its port put in."""

    user: str
    url: str
    install: Callable[[Path], None]
    command: Callable[[Path, int], list[str]]

    def start(self, data: Path, log: Path) -> tuple[URL, ServerProcess]:
        """Install a server in ``data`` and start it on a free port. Raises `Unavailable`."""
        self.install(data)
        port = free_port()
        url = self.at(port)
        return url, self.run(data, log, url)

    def at(self, port: int) -> URL:
        """Return the administrator's URL of a server on ``port``."""
        return make_url(self.url.format(port=port))

    def run(self, data: Path, log: Path, url: URL, *options: str) -> ServerProcess:
        """Run a server that has been installed, and wait until it answers at ``url``."""
        assert url.port is not None
        process = ServerProcess(self.user, [*self.command(data, url.port), *options], log)
        process.wait_until(lambda: answers(url))
        return process


def install_postgresql(data: Path) -> None:
    """Make an empty data folder, with a superuser ``postgres`` who needs no password on loopback."""
    initdb = find_binary("initdb", *POSTGRESQL_FOLDERS)
    data.parent.mkdir(exist_ok=True)
    hand_over(data.parent, "postgres")
    run_as("postgres", [initdb, "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"])


def postgresql_command(data: Path, port: int) -> list[str]:
    """Return the command that runs a server on ``data``."""
    options = ["-c", "fsync=off", "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={data}"]
    return [find_binary("postgres", *POSTGRESQL_FOLDERS), "-D", str(data), "-p", str(port), *options]


def install_mariadb(data: Path) -> None:
    """Make an empty data folder, with a root who needs no password on loopback."""
    install = find_binary("mariadb-install-db")
    data.mkdir(parents=True)
    hand_over(data, "mysql")
    options = ["--auth-root-authentication-method=normal", "--skip-test-db"]
    run_as("mysql", [install, "--no-defaults", f"--datadir={data}", *options])


def mariadb_command(data: Path, port: int) -> list[str]:
    """Return the command that runs a server on ``data``."""
    options = [f"--datadir={data}", f"--socket={data}/s", f"--pid-file={data}/pid", f"--port={port}"]
    options += ["--bind-address=127.0.0.1", "--innodb-flush-log-at-trx-commit=2"]
    return [find_binary("mariadbd"), "--no-defaults", *options]


POSTGRESQL = Kind(
    "postgres",
    "postgresql+psycopg://postgres@127.0.0.1:{port}/postgres",
    install_postgresql,
    postgresql_command,
)
MARIADB = Kind("mysql", "mysql+pymysql://root@127.0.0.1:{port}/mysql", install_mariadb, mariadb_command)


def redis_server(folder: Path, port: int) -> tuple[URL, ServerProcess]:
    """Start a Redis that keeps nothing on the disk. Raises `Unavailable`."""
    command = [find_binary("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    process = ServerProcess(None, [*command, "--dir", str(folder.parent)], folder.with_suffix(".log"))
    url = make_url(f"redis://127.0.0.1:{port}/0")
    process.wait_until(lambda: answers(url))
    return url, process


_KNOWN: dict[str, tuple[str, Callable[[Path], tuple[URL, ServerProcess]]]] = {
    "postgresql": (
        POSTGRESQL.url.format(port=5432),
        lambda folder: POSTGRESQL.start(folder / "data", folder.with_suffix(".log")),
    ),
    "mariadb": (
        MARIADB.url.format(port=3306),
        lambda folder: MARIADB.start(folder / "data", folder.with_suffix(".log")),
    ),
    "redis": ("redis://127.0.0.1:6379/0", lambda folder: redis_server(folder, free_port())),
}
