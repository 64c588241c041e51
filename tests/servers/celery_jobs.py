"""The jobs for Celery, with their broker and their results in Redis; as a program, a prefork worker."""

from __future__ import annotations

import os
import sys

from celery import Celery

from .jobs import get_token

TASK = "get_token"


def celery_app(broker: str, queue: str) -> Celery:
    """Return the application; all keys in Redis begin with ``queue``."""
    app = Celery("jobs", broker=broker, backend=broker)
    options = {"global_keyprefix": f"{queue}:"}
    app.conf.update(
        broker_transport_options=options,
        result_backend_transport_options=options,
        task_default_queue=queue,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
    )
    app.task(get_token, name=TASK)
    return app


if __name__ == "__main__":
    options = ["--pool=prefork", "--loglevel=warning", "--without-gossip", "--without-mingle"]
    celery_app(os.environ["BROKER"], os.environ["QUEUE"]).worker_main(["worker", *options, *sys.argv[1:]])
