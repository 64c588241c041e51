"""A server-side session and a fresh token in one request, with all sessions and tokens in PostgreSQL.

The page of all contestants reads a value of the session and uses the token. The extension reads both in one
statement. The others have Flask-Session's SQLAlchemy back end, which by default also writes the session in
each request (``SESSION_REFRESH_EACH_REQUEST``): they are measured with that and without it. The Redis lock
keeps its token in Redis, as it does everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from statistics import median

from ..contestants import TITLES, make_app
from ..inprocess import Caller, signed_in_cookie
from ..lab import Lab
from ..measure import median_difference
from ..report import Table

LASTING = 86_400.0
TITLE = "Server-side session and token together"
ALONE = "session alone: "
MISS = "Flask-TokenRotate, cache miss"
HIT = "Flask-TokenRotate, cache hit"
OWN_SESSION = f"{ALONE}Flask-TokenRotate"
FLASK_SESSION = f"{ALONE}Flask-Session, SQLAlchemy"

Key = tuple[str, str]
"""The title of a row, and what ``SESSION_REFRESH_EACH_REQUEST`` is: ``"yes"`` or ``"no"``."""

REFRESHES = ("yes", "no")


def callers(lab: Lab) -> dict[Key, Caller]:
    """Return a caller for each cell of the table."""
    found: dict[Key, Caller] = {}
    names = lab.chosen(*TITLES)
    for name, refresh in product(names, REFRESHES):
        if name == "tokenrotate":
            found[OWN_SESSION, refresh] = _caller(lab, name, refresh, "/plain")
            found[HIT, refresh] = _caller(lab, name, refresh, "/token")
            found[MISS, refresh] = _caller(lab, name, refresh, "/token", CACHE_ENTRIES="0")
        elif name == "floor":
            found[FLASK_SESSION, refresh] = _caller(lab, name, refresh, "/plain")
        else:
            found[TITLES[name], refresh] = _caller(lab, name, refresh, "/token")
    return found


def table(times: Mapping[Key, Sequence[float]], floor: Sequence[float]) -> Table:
    """Return the table; ``floor`` is the page that uses a signed cookie and no token, in the same rounds."""
    rows = [
        [
            title,
            median(times[title, "yes"]),
            median_difference(times[title, "yes"], floor),
            median(times[title, "no"]),
            median_difference(times[title, "no"], floor),
        ]
        for title in dict.fromkeys(title for title, _ in times)
    ]
    columns = [
        "",
        "µs per request",
        "added µs per request",
        "µs, session only read",
        "added µs, session only read",
    ]
    note = (
        "The page reads the session and uses the token. All sessions are in PostgreSQL, in Flask-Session's "
        "SQLAlchemy back end except for Flask-TokenRotate, which has its own and reads session and grant in "
        "one statement, hit or miss; at a miss the token set is also decrypted. By default Flask-Session "
        "writes the session in each request; in the last two columns SESSION_REFRESH_EACH_REQUEST is False, "
        "so that it only reads. What is added is the difference to the floor, whose session is a signed "
        "cookie. *Session alone* is the same page without the token."
    )
    return Table(title=TITLE, columns=columns, rows=rows, plot=4, note=note)


def _caller(lab: Lab, name: str, refresh: str, path: str, **more: str) -> Caller:
    app = make_app(name, lab.place(name, SERVER_SESSIONS="1", REFRESH_EACH_REQUEST=refresh, **more))
    return Caller(app, path, signed_in_cookie(app, lab.tokens(lab.user(name), expires_in=LASTING)))
