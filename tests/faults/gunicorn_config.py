"""gunicorn's settings for the fault table: those of the real tests, and a step after the response."""

from __future__ import annotations

from tests.faults.steps import after_response as post_request
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
