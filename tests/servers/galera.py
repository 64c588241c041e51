"""A Galera cluster of three MariaDB nodes on loopback: every node takes writes."""

from __future__ import annotations

import secrets
import signal
from pathlib import Path

from sqlalchemy import URL, create_engine, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from .databases import execute, install_mariadb, mariadb_command
from .processes import ServerProcess, Unavailable, find_binary, free_port, server_folder

NODES = 3
_LIBRARIES = ("/usr/lib/galera/libgalera_smm.so", "/usr/lib64/galera-4/libgalera_smm.so")


class Galera:
    """A running cluster; `stop` ends every node."""

    def __init__(self, urls: list[URL]) -> None:
        self.urls = urls
        self._processes: list[ServerProcess] = []
        self._folder = server_folder()

    @classmethod
    def start(cls) -> Galera:
        """Start the nodes one after the other. Raises `Unavailable` where something is not installed."""
        library = next((path for path in _LIBRARIES if Path(path).exists()), None)
        if library is None:
            raise Unavailable("the Galera library is not installed")
        find_binary("rsync")
        ports = [(free_port(), free_port(), free_port(), free_port()) for _ in range(NODES)]
        cluster = cls([make_url(f"mysql+pymysql://root@127.0.0.1:{sql}/mysql") for sql, *_ in ports])
        members = ",".join(f"127.0.0.1:{group}" for _, group, *_ in ports)
        name = f"test-{secrets.token_hex(4)}"
        try:
            for number in range(NODES):
                options = [f"--wsrep-provider={library}", f"--wsrep-cluster-name={name}"]
                options += [f"--wsrep-cluster-address=gcomm://{members}"]
                options += ["--wsrep-new-cluster"] if number == 0 else []
                cluster._start_node(
                    Path(cluster._folder.name) / f"node{number}", number, ports[number], options
                )
        except Unavailable:
            cluster.stop()
            raise
        return cluster

    def _start_node(
        self, data: Path, number: int, ports: tuple[int, int, int, int], options: list[str]
    ) -> None:
        install_mariadb(data)
        sql, group, transfer, increment = ports
        provider = f"gmcast.listen_addr=tcp://127.0.0.1:{group};ist.recv_addr=127.0.0.1:{increment};"
        provider += "ist.recv_bind=127.0.0.1;gcache.size=32M;"
        provider += "evs.keepalive_period=PT0.5S;evs.suspect_timeout=PT2S;evs.inactive_timeout=PT6S"
        command = [
            *mariadb_command(data, sql),
            *options,
            "--wsrep-on=ON",
            "--binlog-format=ROW",
            "--innodb-autoinc-lock-mode=2",
            "--innodb-buffer-pool-size=64M",
            "--wsrep-sst-method=rsync",
            f"--wsrep-node-name=node{number}",
            f"--wsrep-node-address=127.0.0.1:{group}",
            f"--wsrep-sst-receive-address=127.0.0.1:{transfer}",
            f"--wsrep-provider-options={provider}",
        ]
        process = ServerProcess("mysql", command, data.with_suffix(".log"))
        self._processes.append(process)
        process.wait_until(lambda: _is_synced(self.urls[number]), seconds=120.0)

    def new_database(self, node: int = 0) -> str:
        """Make an empty database in the cluster and return its URI at ``node``."""
        name = f"tokenrotate_{secrets.token_hex(4)}"
        execute(self.urls[node], f"CREATE DATABASE {name}")
        return self.urls[node].set(database=name).render_as_string(hide_password=False)

    def at_node(self, uri: str, node: int) -> str:
        """Return the URI of the same database at another node."""
        url = self.urls[node].set(database=make_url(uri).database)
        return url.render_as_string(hide_password=False)

    def kill(self, node: int) -> None:
        """End the node's process as a crash would."""
        self._processes[node].stop(signal.SIGKILL)

    def wait_for_quorum(self, node: int, *, has_it: bool, seconds: float = 40.0) -> None:
        """Wait until the node has its quorum, or has lost it."""
        self._processes[node].wait_until(lambda: _has_quorum(self.urls[node]) == has_it, seconds=seconds)

    def freeze(self, node: int) -> None:
        """Stop the node's process without ending it; `thaw` lets it go on."""
        self._processes[node].signal(signal.SIGSTOP)

    def thaw(self, node: int) -> None:
        """Let a frozen node go on."""
        self._processes[node].signal(signal.SIGCONT)

    def stop(self) -> None:
        """End every node and remove what they stored."""
        for process in self._processes:
            process.signal(signal.SIGCONT)
            process.stop()
        self._folder.cleanup()


def _is_synced(url: URL) -> bool:
    return _status(url, "wsrep_local_state_comment") == "Synced"


def _has_quorum(url: URL) -> bool:
    return _status(url, "wsrep_cluster_status") == "Primary"


def _status(url: URL, name: str) -> str | None:
    try:
        with create_engine(url, poolclass=NullPool).connect() as connection:
            row = connection.exec_driver_sql(f"SHOW STATUS LIKE '{name}'").first()
    except SQLAlchemyError:
        return None
    return None if row is None else str(row[1])
