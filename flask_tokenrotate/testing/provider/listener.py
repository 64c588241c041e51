"""The HTTP server of the FakeProvider: a threaded Werkzeug server that can be stopped and started again."""

from __future__ import annotations

import socket
import struct
import threading
from typing import TYPE_CHECKING

from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

_BACKLOG = 1024
_POLL_SECONDS = 0.02


class _Handler(WSGIRequestHandler):
    """Logs nothing, and closes a connection that is to be cut without another byte."""

    _reset = False

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log nothing: the URLs have codes and states in them."""

    def connection_dropped(self, error: BaseException, environ: WSGIEnvironment | None = None) -> None:
        self.close_connection = True
        self._reset = isinstance(error, ConnectionResetError)

    def finish(self) -> None:
        super().finish()
        if self._reset:
            # Closing with a linger time of 0 sends RST. It has to come before the server's own
            # orderly shutdown, which sends FIN: the client would see an end, not a reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()


class Listener:
    """Serves ``app`` on ``host``. If ``port`` is 0, the first start chooses a port."""

    def __init__(self, host: str, port: int, app: WSGIApplication) -> None:
        self._host, self._port, self._app = host, port, app
        self._running: tuple[BaseWSGIServer, threading.Thread] | None = None

    @property
    def url(self) -> str:
        """The base URL. Raises `RuntimeError` before there is a port."""
        if not self._port:
            raise RuntimeError("This FakeProvider has no URL yet: call start() or use it in a with block.")
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    def start(self) -> None:
        """Listen, and serve in a thread. Raises `OSError` if the port is in use."""
        if self._running is not None:
            raise RuntimeError("This FakeProvider is already running.")
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        # Bound here, because Werkzeug ends the whole process if the port is in use.
        with socket.create_server((self._host, self._port), family=family, backlog=_BACKLOG) as bound:
            self._port = bound.getsockname()[1]
            server = make_server(
                self._host,
                self._port,
                self._app,
                threaded=True,
                request_handler=_Handler,
                fd=bound.fileno(),
            )
        thread = threading.Thread(
            target=server.serve_forever, args=(_POLL_SECONDS,), name="FakeProvider", daemon=True
        )
        self._running = server, thread
        thread.start()

    def stop(self) -> None:
        """Stop listening, if it does."""
        if self._running is None:
            return
        server, thread = self._running
        server.shutdown()
        thread.join()
        self._running = None
