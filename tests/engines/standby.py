"""A PostgreSQL primary with a synchronous standby on loopback, and the loss of the primary."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from sqlalchemy import URL, create_engine, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from .processes import ServerProcess, find_binary, free_port, run_as, server_folder
from .servers import POSTGRESQL_FOLDERS, answers, execute, install_postgresql, postgresql_command

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
        self._standby_data = folder / "standby"
        ports = free_port(), free_port()
        first, second = (
            make_url(f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres") for port in ports
        )
        data = folder / "servers" / "primary"
        install_postgresql(data)
        self._standby_data = data.parent / "standby"
        self._primary = self._run(data, ports[0], folder / "primary.log", first)
        execute(first, "CREATE DATABASE tokenrotate")
        self._copy(ports[0])
        self._standby = self._run(self._standby_data, ports[1], folder / "standby.log", second)
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

    def _run(self, data: Path, port: int, log: Path, url: URL) -> ServerProcess:
        server = ServerProcess("postgres", [*postgresql_command(data, port), *_OPTIONS], log)
        server.wait_until(lambda: answers(url))
        return server


def _is_synchronous(url: URL) -> bool:
    query = "SELECT sync_state FROM pg_stat_replication"
    try:
        with create_engine(url, poolclass=NullPool).connect() as connection:
            return connection.exec_driver_sql(query).scalars().all() == ["sync"]
    except SQLAlchemyError:
        return False
