"""A private database server that a test stops, as a crash would, and starts again on the same data."""

from __future__ import annotations

import signal
import sqlite3
from pathlib import Path
from typing import Protocol

from .databases import MARIADB, POSTGRESQL, execute
from .processes import server_folder


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
        self._kind = POSTGRESQL if engine == "postgresql" else MARIADB
        self._data = Path(self._folder.name) / "server" / "data"
        self._log = Path(self._folder.name) / "server.log"
        self._url, self._process = self._kind.start(self._data, self._log)
        execute(self._url, "CREATE DATABASE tokenrotate")
        self.uri = self._url.set(database="tokenrotate").render_as_string(hide_password=False)

    def stop(self) -> None:
        """Kill the server. PostgreSQL's own way to crash; killed outright, its children would live on."""
        self._process.stop(signal.SIGQUIT if self._kind is POSTGRESQL else signal.SIGKILL)

    def start(self) -> None:
        """Start the server, which recovers from the crash first."""
        self._process = self._kind.run(self._data, self._log, self._url)

    def close(self) -> None:
        """End the server and remove what it stored."""
        self._process.stop(signal.SIGQUIT if self._kind is POSTGRESQL else signal.SIGTERM)
        self._folder.cleanup()


class LockedFile:
    """An SQLite file. It has no server: a lock keeps all writers out."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "grants.sqlite3"
        self.uri = f"sqlite:///{self._file}"
        self._lock: sqlite3.Connection | None = None

    def stop(self) -> None:
        """Lock the file: in WAL mode nobody else can write until it is unlocked, but all can read."""
        self._lock = sqlite3.connect(self._file, timeout=10, isolation_level=None, check_same_thread=False)
        self._lock.execute("BEGIN IMMEDIATE")

    def start(self) -> None:
        """Unlock the file."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def close(self) -> None:
        """Unlock the file."""
        self.start()


def restarting_database(engine: str, folder: Path) -> RestartingDatabase:
    """Return a new database of its own on ``engine``. Raises `Unavailable`."""
    return LockedFile(folder) if engine == "sqlite" else RestartingServer(engine)
