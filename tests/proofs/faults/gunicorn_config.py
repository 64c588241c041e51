"""gunicorn's settings for the fault table: those of the real tests, and a step after the response."""

from __future__ import annotations

import sys
from pathlib import Path

# gunicorn reads this file before it goes to the folder that it is told to serve from.
sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.proofs.faults.steps import after_response as post_request
from tests.real.gunicorn_config import (
    control_socket_disable,
    keepalive,
    loglevel,
    post_worker_init,
    worker_connections,
)

__all__ = [
    "control_socket_disable",
    "keepalive",
    "loglevel",
    "post_request",
    "post_worker_init",
    "worker_connections",
]
