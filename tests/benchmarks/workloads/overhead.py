"""What a fresh token adds to a request, in process.

Blocks of requests to all applications follow each other closely, and each contestant is compared with
the floor of the same round: what else the machine does meanwhile hits both.
"""

from __future__ import annotations

from statistics import median
from typing import Any

from ..contestants import TITLES, make_app
from ..inprocess import Caller, signed_in_cookie
from ..lab import Lab
from ..measure import median_difference
from ..report import Bound, Report, Table

LASTING = 86_400.0
"""Seconds that the tokens live here: nothing rotates."""

MISS = "tokenrotate, no cache"
HIT_LIMIT = 10.0
MISS_SHARE = 0.25


def measure(lab: Lab) -> Report:
    """Measure all contestants, and this extension without its cache as well."""
    callers = _callers(lab)
    times: dict[str, list[float]] = {name: [] for name in callers}
    block = lab.scaled(200, 20)
    for caller in callers.values():
        caller.microseconds(block)
    for _ in range(lab.rounds * lab.scaled(40, 10)):
        for name, caller in callers.items():
            times[name].append(caller.microseconds(block))
    added = {name: median_difference(times[name], times[_floor_of(name)]) for name in callers}
    rows = [
        [TITLES.get(name, "Flask-TokenRotate, cache miss"), median(times[name]), added[name]]
        for name in callers
        if not name.startswith("floor")
    ]
    report = Report(name="overhead", title="Fresh token, in process")
    note = (
        f"The floor takes {median(times['floor']):.0f} µs. All sessions are signed cookies but that of "
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
    return callers


def _signed_in(lab: Lab, name: str, **more: str) -> tuple[Any, str]:
    app = make_app(name, lab.place(name, **more))
    return app, signed_in_cookie(app, lab.tokens(lab.user(name), expires_in=LASTING))
