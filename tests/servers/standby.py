"""A PostgreSQL primary with a synchronous standby on loopback, and the loss of the primary."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from sqlalchemy import URL, create_engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from .databases import POSTGRESQL, POSTGRESQL_FOLDERS, execute
from .processes import find_binary, free_port, run_as, server_folder

_NAME = "standby"
_OPTIONS = ["-c", "wal_level=replica", "-c", "max_wal_senders=5", "-c", "hot_standby=on"]


class ReplicatedPostgreSQL:
    """Two servers of which the second has all that the first has committed; `stop` ends both.

    ``uri`` names both hosts, as an application would: its driver connects to the one that takes writes.
    """

    def __init__(self) -> None:
        """Start both. Raises `Unavailable` where PostgreSQL is not installed."""
        self._folder = server_folder()
        folder = Path(self._folder.name)
        ports = free_port(), free_port()
        first, second = (POSTGRESQL.at(port) for port in ports)
        data = folder / "servers" / "primary"
        POSTGRESQL.install(data)
        self._standby_data = data.parent / "standby"
        self._primary = POSTGRESQL.run(data, folder / "primary.log", first, *_OPTIONS)
        execute(first, "CREATE DATABASE tokenrotate")
        self._copy(ports[0])
        self._standby = POSTGRESQL.run(self._standby_data, folder / "standby.log", second, *_OPTIONS)
        # From here on a commit is acknowledged only when the standby has applied it.
        execute(first, f"ALTER SYSTEM SET synchronous_standby_names = '{_NAME}'")
        execute(first, "ALTER SYSTEM SET synchronous_commit = 'remote_apply'", "SELECT pg_reload_conf()")
        self._primary.wait_until(lambda: _is_synchronous(first))
        hosts = "&".join(f"host=127.0.0.1:{port}" for port in ports)
        self.uri = f"postgresql+psycopg://postgres@/tokenrotate?{hosts}&target_session_attrs=read-write"

    def fail_over(self, *, seconds: float = 0.0) -> None:
        """Kill the primary as a crash would, and promote the standby after so many seconds."""
        self._primary.stop(signal.SIGQUIT)
        time.sleep(seconds)
        promote = [find_binary("pg_ctl", *POSTGRESQL_FOLDERS), "promote", "-s", "-w"]
        run_as("postgres", [*promote, "-D", str(self._standby_data)])

    def stop(self) -> None:
        """End both and remove what they stored."""
        for server in (self._standby, self._primary):
            server.stop(signal.SIGQUIT)
        self._folder.cleanup()

    def _copy(self, port: int) -> None:
        backup = find_binary("pg_basebackup", *POSTGRESQL_FOLDERS)
        options = ["-R", "-X", "stream", "-c", "fast", "-C", "-S", _NAME]
        source = f"host=127.0.0.1 port={port} user=postgres application_name={_NAME}"
        run_as("postgres", [backup, "-D", str(self._standby_data), *options, "-d", source])
        # -R writes the connection string without the name by which the primary knows its standby.
        configuration = self._standby_data / "postgresql.auto.conf"
        with configuration.open("a") as lines:
            lines.write(f"primary_conninfo = '{source}'\n")


def _is_synchronous(url: URL) -> bool:
    query = "SELECT sync_state FROM pg_stat_replication"
    try:
        with create_engine(url, poolclass=NullPool).connect() as connection:
            return connection.exec_driver_sql(query).scalars().all() == ["sync"]
    except SQLAlchemyError:
        return False
