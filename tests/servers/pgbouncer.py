"""A PgBouncer before the PostgreSQL server, which hands out another connection for each transaction."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import make_url

from .databases import answers
from .processes import ServerProcess, find_binary, free_port, hand_over, server_folder

OPTIONS = {"connect_args": {"options": "", "prepare_threshold": None}}
"""What the README says of such a pooler."""


class PgBouncer:
    """One in transaction mode, in a process of its own. Raises `Unavailable` where it is not installed."""

    def __init__(self, server_uri: str) -> None:
        binary = find_binary("pgbouncer")
        server = make_url(server_uri)
        self._folder = server_folder()
        folder = Path(self._folder.name)
        port = free_port()
        self.uri = server.set(host="127.0.0.1", port=port).render_as_string(hide_password=False)
        (folder / "users").write_text(f'"{server.username}" "{server.password or ""}"\n')
        settings = folder / "pgbouncer.ini"
        settings.write_text(
            f"[databases]\n* = host={server.host} port={server.port or 5432}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            f"auth_type = trust\nauth_file = {folder / 'users'}\npool_mode = transaction\n"
        )
        hand_over(folder, "postgres")
        self._process = ServerProcess("postgres", [binary, str(settings)], folder / "log")
        through = make_url(self.uri).set(drivername="postgresql+psycopg")
        self._process.wait_until(lambda: answers(through), seconds=20)

    def close(self) -> None:
        """End it."""
        self._process.stop()
        self._folder.cleanup()
