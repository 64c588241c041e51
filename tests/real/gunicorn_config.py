"""Settings of gunicorn that are the same in all tests, and a way to know that a worker serves."""

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
    """Leave a file that says that this worker has loaded the application."""
    Path(os.environ["INSTANCE"], f"worker-{worker.pid}").touch()
