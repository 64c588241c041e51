"""A TCP proxy that cuts a connection at a chosen statement, before or after the server has it."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from typing import Literal

from sqlalchemy import make_url

Moment = Literal["before", "after"]


class CuttingProxy:
    """Stands before a database server; `arm` it, and the next statement that matches is cut.

    ``before``: the statement never reaches the server. ``after``: the server has answered it, but the
    client never sees the answer. Cuts once; all other traffic passes. ``round_trips``: how often a client
    has sent something and waited for the answer.
    """

    def __init__(self, uri: str) -> None:
        url = make_url(uri)
        self._server = (url.host or "127.0.0.1", url.port or 0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._trigger: re.Pattern[bytes] | None = None
        self._moment: Moment = "before"
        self._sockets: list[socket.socket] = []
        self.cuts = 0
        self.round_trips = 0
        self.server_uri = uri
        self.uri = url.set(port=self._listener.getsockname()[1]).render_as_string(hide_password=False)
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def arm(self, statement: str, moment: Moment) -> None:
        """Cut the next message of a client that holds ``statement``."""
        # BEGIN ISOLATION LEVEL READ COMMITTED is not a COMMIT.
        self._trigger, self._moment = re.compile(statement.encode() + b"(?!TED)"), moment

    @property
    def is_disarmed(self) -> bool:
        """Whether the cut that was wanted has come."""
        return self._trigger is None

    def close(self) -> None:
        """Cut everything and stop."""
        # shutdown, not close: it is what wakes a thread that waits in accept or recv.
        for open_socket in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                open_socket.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for open_socket in [self._listener, *self._sockets]:
            open_socket.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(self._server)
                except OSError:  # it is down; the next connection may find it up again
                    client.close()
                    continue
                self._sockets += [client, server]
                link = _Link(client, server)
                for pump in (self._from_client, self._from_server):
                    thread = threading.Thread(target=pump, args=(link,))
                    self._threads.append(thread)
                    thread.start()

    def _from_client(self, link: _Link) -> None:
        with contextlib.suppress(OSError):
            while data := link.client.recv(65536):
                self.round_trips += link.answered
                link.answered = False
                if self._trigger is not None and self._trigger.search(data):
                    self._trigger = None
                    self.cuts += 1
                    if self._moment == "before":
                        break
                    # From here on the server's answers are read and dropped; the first one cuts.
                    link.cut_at_answer = True
                link.server.sendall(data)
        link.cut()

    def _from_server(self, link: _Link) -> None:
        with contextlib.suppress(OSError):
            while (data := link.server.recv(65536)) and not link.cut_at_answer:
                link.answered = True
                link.client.sendall(data)
        link.cut()


class _Link:
    """One connection through the proxy."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.cut_at_answer = False
        self.answered = True

    def cut(self) -> None:
        """End both sides."""
        for side in (self.client, self.server):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
