"""Jobs that need a token outside any request, as RQ, Celery and `multiprocessing` run them.

All settings come from the environment, as those of `application`. With ``LEAVE_TO_THREADS`` a job gets its
token as a request does, leaves a redemption to the rotation threads, and ends when the file of that name is
there: for the controls.
"""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
import sys
from pathlib import Path
from typing import Any

from flask import Flask

from flask_tokenrotate.web.state import state_of

from .application import create_app, rotate, rotation_threads
from .visitors import eventually


@functools.cache
def application() -> Flask:
    """Return the application of this process; a forked child has its parent's."""
    return create_app()


def get_token(grant: str) -> dict[str, Any]:
    """Return what is known of the fresh token of a grant, and of the process that got it."""
    app = application()
    with app.app_context():
        leave_until = os.environ.get("LEAVE_TO_THREADS")
        if leave_until is None:
            version = rotate.token(grant).token_version
        else:
            version = state_of(app).rotation.tokens.get(grant, here=False).token_version
            eventually(Path(leave_until).exists, seconds=30)
        return {"version": version, "pid": os.getpid(), "rotation_threads": rotation_threads("fake")}


def in_children(grant: str, children: int) -> None:
    """Get the token in forked children at once, and print what each has got as a line of JSON."""
    application()
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(children)

    def work() -> None:
        barrier.wait()
        # One write: lines of several children do not mix.
        os.write(sys.stdout.fileno(), json.dumps(get_token(grant)).encode() + b"\n")

    processes = [context.Process(target=work) for _ in range(children)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()


if __name__ == "__main__":
    in_children(sys.argv[1], int(sys.argv[2]))
