"""The process whose instructions are counted: requests that use a fresh token, or none.

Its command line names the application to ask (``floor`` or ``tokenrotate``) and a folder for files.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path

from .contestants import make_app, make_tables
from .inprocess import Caller, signed_in_cookie

REQUESTS = 200
WARM_UP = 20
TOKENS = {"access_token": "a" * 43, "refresh_token": "r" * 43, "token_type": "Bearer", "expires_in": 86_400}


def ask(which: str, folder: Path) -> None:
    """Set both applications up, then send the requests that are counted to one of them."""
    database = f"sqlite:///{folder}/grants.sqlite3"
    endpoint = {"TOKEN_ENDPOINT": "http://127.0.0.1:9/token", "CLIENT_ID": "c", "CLIENT_SECRET": "s"}
    # The cache must not expire while valgrind runs.
    place = {"INSTANCE": str(folder), "DATABASE": database, "CACHE_SECONDS": "86400", **endpoint}
    make_tables("tokenrotate", database)
    callers = {}
    for name, path in (("floor", "/plain"), ("tokenrotate", "/token")):
        app = make_app(name, place)
        callers[name] = Caller(app, path, signed_in_cookie(app, {**TOKENS, "user": "ada"}))
        callers[name].microseconds(WARM_UP)
    # How often the collector looks at all objects, and how long it takes, depends on what has been imported.
    gc.collect()
    gc.freeze()
    gc.collect()
    callers[which].microseconds(REQUESTS)


if __name__ == "__main__":
    ask(sys.argv[1], Path(sys.argv[2]))
