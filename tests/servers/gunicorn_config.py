"""gunicorn's configuration, the same for every server of the tests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

keepalive = 0
loglevel = "warning"
# Fewer than a storm has: otherwise one worker takes all connections before another wakes up.
worker_connections = 12
# A control socket would be made in the home folder, the same for every instance.
control_socket_disable = True


def post_worker_init(worker: Any) -> None:
    """Make a file which says that this worker has loaded the application."""
    Path(os.environ["INSTANCE"], f"worker-{worker.pid}").touch()


def post_request(worker: Any, request: Any, environ: object, response: object) -> None:
    """Call what the application put into ``extensions["after_response"]``: the response has been sent."""
    after_response = getattr(worker.wsgi, "extensions", {}).get("after_response")
    if after_response is not None:
        after_response(request.path)
