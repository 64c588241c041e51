"""What a fresh token adds to a request, in process.

Blocks of requests to all applications follow each other closely, and each contestant is compared with
the floor of the same round: what else the machine does meanwhile hits both.
"""

from __future__ import annotations

from statistics import median
from typing import Any

from flask import session
from sqlalchemy import bindparam, create_engine, make_url, select

from flask_tokenrotate.storage.database.schema import db_now, grants

from ..contestants import TITLES, make_app
from ..inprocess import Caller, signed_in_cookie
from ..lab import Lab
from ..measure import median_difference
from ..report import Bound, Report, Table

LASTING = 86_400.0
"""Seconds that the tokens live here: nothing rotates."""

MISS = "tokenrotate, no cache"
READS = {"a read by primary key: psycopg alone": "psycopg", "a read by primary key: SQLAlchemy Core": "core"}
"""What a cache miss cannot do without, on the floor's own application."""

_TITLES = {**TITLES, MISS: "Flask-TokenRotate, cache miss"}
HIT_LIMIT = 10.0
MISS_SHARE = 0.25


def measure(lab: Lab) -> Report:
    """Measure all contestants, and this extension without its cache as well."""
    callers = _callers(lab)
    times: dict[str, list[float]] = {name: [] for name in callers}
    block = lab.scaled(100, 20)
    for caller in callers.values():
        caller.microseconds(block)
    for _ in range(lab.rounds * 10):
        for name, caller in callers.items():
            times[name].append(caller.microseconds(block))
    added = {name: median_difference(times[name], times[_floor_of(name)]) for name in callers}
    rows = [
        [_TITLES.get(name, name), median(times[name]), added[name]]
        for name in callers
        if not name.startswith("floor")
    ]
    report = Report(name="overhead", title="Fresh token, in process")
    note = (
        f"The floor takes {median(times['floor']):.0f} µs. Sessions are signed cookies, except for "
        "the token inside the session, whose floor is the same application's page without a token."
    )
    columns = ["", "µs per request", "added µs per request"]
    report.tables.append(Table(title="Added by a fresh token", columns=columns, rows=rows, plot=2, note=note))
    report.bounds += _bounds(added)
    return report


def _bounds(added: dict[str, float]) -> list[Bound]:
    bounds = []
    if "tokenrotate" in added:
        hit = added["tokenrotate"]
        bounds.append(Bound(figure="fresh token, cache hit: added", value=hit, limit=HIT_LIMIT, unit="µs"))
    if MISS in added and "for_update" in added:
        limit = added["for_update"] * MISS_SHARE
        bounds.append(
            Bound(
                figure="fresh token, cache miss: added",
                value=added[MISS],
                limit=limit,
                unit="µs",
                against="a quarter of FOR UPDATE",
            )
        )
    return bounds


def _floor_of(name: str) -> str:
    return "floor of session_token" if name == "session_token" else "floor"


def _callers(lab: Lab) -> dict[str, Caller]:
    names = dict.fromkeys(("floor", *lab.contestants))
    callers: dict[str, Caller] = {}
    for name in names:
        app, cookie = _signed_in(lab, name)
        callers[name] = Caller(app, "/plain" if name == "floor" else "/token", cookie)
        if name == "session_token":
            callers[_floor_of(name)] = Caller(app, "/plain", cookie)
    if "tokenrotate" in names:
        app, cookie = _signed_in(lab, "tokenrotate", CACHE_SECONDS="0")
        callers[MISS] = Caller(app, "/token", cookie)
        callers.update(_bare_reads(lab))
    return callers


def _bare_reads(lab: Lab) -> dict[str, Caller]:
    """Return callers of pages that read one grant's row and do nothing else with it."""
    app = make_app("floor", lab.place("floor"))
    url = make_url(lab.database("tokenrotate")).set(drivername="postgresql+psycopg")
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    statement = select(grants, db_now().label("seen_at")).where(grants.c.id == bindparam("the_id"))
    query = str(statement.compile(dialect=engine.dialect))
    alone: Any = engine.raw_connection().driver_connection
    alone.autocommit = True
    with engine.connect() as connection:
        parameters = {"the_id": connection.execute(select(grants.c.id).limit(1)).scalar_one()}

    def by_psycopg() -> dict[str, str]:
        alone.execute(query, parameters).fetchall()
        return {"user": session["user"]}

    def by_core() -> dict[str, str]:
        with engine.connect() as connection:
            connection.execute(statement, parameters).all()
        return {"user": session["user"]}

    app.add_url_rule("/psycopg", view_func=by_psycopg)
    app.add_url_rule("/core", view_func=by_core)
    cookie = signed_in_cookie(app, lab.tokens(lab.user("floor"), expires_in=LASTING))
    return {title: Caller(app, f"/{page}", cookie) for title, page in READS.items()}


def _signed_in(lab: Lab, name: str, **more: str) -> tuple[Any, str]:
    app = make_app(name, lab.place(name, **more))
    return app, signed_in_cookie(app, lab.tokens(lab.user(name), expires_in=LASTING))
