"""A private database server that a test stops, as a crash would, and starts again on the same data."""

from __future__ import annotations

import signal
import sqlite3
from pathlib import Path
from typing import Protocol

from sqlalchemy import URL, make_url

from .processes import ServerProcess, free_port, server_folder
from .servers import (
    answers,
    execute,
    install_mariadb,
    install_postgresql,
    mariadb_command,
    postgresql_command,
)


class RestartingDatabase(Protocol):
    """A database at ``uri`` that is there or not."""

    uri: str

    def stop(self) -> None:
        """Take the database away from everybody."""
        ...

    def start(self) -> None:
        """Bring it back, with all that was committed."""
        ...

    def close(self) -> None:
        """End it for good and remove what it stored."""
        ...


class RestartingServer:
    """PostgreSQL or MariaDB in a process of its own."""

    def __init__(self, engine: str) -> None:
        self._folder = server_folder()
        data, port = Path(self._folder.name) / "server" / "data", free_port()
        if engine == "postgresql":
            self._user = "postgres"
            install_postgresql(data)
            self._command = postgresql_command(data, port)
            self._url = make_url(f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres")
        else:
            self._user = "mysql"
            install_mariadb(data)
            self._command = mariadb_command(data, port)
            self._url = make_url(f"mysql+pymysql://root@127.0.0.1:{port}/mysql")
        self._log = Path(self._folder.name) / "server.log"
        self.start()
        execute(self._url, "CREATE DATABASE tokenrotate")
        self.uri = _as_text(self._url.set(database="tokenrotate"))

    def stop(self) -> None:
        """Kill the server. PostgreSQL's own way to crash; killed outright, its children would live on."""
        self._process.stop(signal.SIGQUIT if self._user == "postgres" else signal.SIGKILL)

    def start(self) -> None:
        """Start the server, which recovers from the crash first."""
        self._process = ServerProcess(self._user, self._command, self._log)
        self._process.wait_until(lambda: answers(self._url))

    def close(self) -> None:
        """End the server and remove what it stored."""
        self._process.stop(signal.SIGQUIT if self._user == "postgres" else signal.SIGTERM)
        self._folder.cleanup()


class LockedFile:
    """An SQLite file, which has no server: somebody else's lock takes it away from all writers."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "grants.sqlite3"
        self.uri = f"sqlite:///{self._file}"
        self._lock: sqlite3.Connection | None = None

    def stop(self) -> None:
        """Lock the file: in WAL mode nobody else can write until it is let go, but all can read."""
        self._lock = sqlite3.connect(self._file, timeout=10, isolation_level=None, check_same_thread=False)
        self._lock.execute("BEGIN IMMEDIATE")

    def start(self) -> None:
        """Let go of the file."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def close(self) -> None:
        """Let go of the file."""
        self.start()


def restarting_database(engine: str, folder: Path) -> RestartingDatabase:
    """Return a new database of its own on ``engine``. Raises `Unavailable`."""
    return LockedFile(folder) if engine == "sqlite" else RestartingServer(engine)


def _as_text(url: URL) -> str:
    return url.render_as_string(hide_password=False)
