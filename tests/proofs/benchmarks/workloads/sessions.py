"""The extension's session store next to Flask-Session's: a request that reads, and one that writes."""

from __future__ import annotations

import os
from collections.abc import Callable
from statistics import median
from typing import Any

import redis
from flask import Flask, session
from flask_session import Session
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from flask_tokenrotate import TokenRotate
from flask_tokenrotate.storage.database.tables import create_tables

from ..inprocess import Caller, signed_in_cookie
from ..lab import Lab
from ..measure import median_ratio
from ..report import Bound, Report, Table

OURS = "Flask-TokenRotate"
SQLALCHEMY = "Flask-Session, SQLAlchemy"
REDIS = "Flask-Session, Redis"
READ_LIMIT = 0.5
WRITE_LIMIT = 1.0


def measure(lab: Lab) -> Report:
    """Measure the three stores in turn, all SQL on PostgreSQL."""
    apps = {name: make(lab) for name, make in _STORES.items()}
    cookies = {name: signed_in_cookie(app, {"user": "ada"}) for name, app in apps.items()}
    pages = ("/none", "/read", "/write")
    callers = {(name, page): Caller(apps[name], page, cookies[name]) for name in apps for page in pages}
    times: dict[tuple[str, str], list[float]] = {key: [] for key in callers}
    block = lab.scaled(50, 20)
    for _ in range(lab.rounds * lab.scaled(8, 4)):
        for key, caller in callers.items():
            times[key].append(caller.microseconds(block))
    rows = [[name, *[median(times[name, page]) for page in pages]] for name in apps]
    columns = ["", "session not used, µs", "read only, µs", "written, µs"]
    report = Report(name="sessions", title="Session store")
    report.tables.append(Table(title="One request, in process", columns=columns, rows=rows, plot=2))
    for page, limit in (("/read", READ_LIMIT), ("/write", WRITE_LIMIT)):
        ratio = median_ratio(times[OURS, page], times[SQLALCHEMY, page])
        figure = f"session store: {page[1:]}, over Flask-Session's SQLAlchemy backend"
        report.bounds.append(Bound(figure=figure, value=ratio, limit=limit))
    return report


def _app(lab: Lab, name: str) -> Flask:
    folder = lab.folder / f"sessions-{name}-{os.urandom(4).hex()}"
    folder.mkdir()
    app = Flask(f"sessions-{name}", instance_path=str(folder))
    app.secret_key = "a-secret-key-for-the-benchmarks"
    counter = iter(range(10**9))

    @app.post("/sign-in")
    def sign_in() -> dict[str, Any]:
        session["user"] = "ada"
        session["cart"] = list(range(20))
        return {}

    @app.get("/none")
    def none() -> dict[str, Any]:
        return {}

    @app.get("/read")
    def read() -> dict[str, Any]:
        return {"user": session["user"]}

    @app.get("/write")
    def write() -> dict[str, Any]:
        session["seen"] = next(counter)
        return {}

    return app


def _ours(lab: Lab) -> Flask:
    app = _app(lab, "ours")
    app.config["TOKENROTATE_DATABASE_URI"] = lab.servers.new_database("postgresql")
    create_tables(create_engine(app.config["TOKENROTATE_DATABASE_URI"], poolclass=NullPool))
    TokenRotate(app)
    return app


def _sqlalchemy(lab: Lab) -> Flask:
    app = _app(lab, "sqlalchemy")
    app.config["SQLALCHEMY_DATABASE_URI"] = lab.servers.new_database("postgresql")
    db = SQLAlchemy(app)
    app.config.update(SESSION_TYPE="sqlalchemy", SESSION_SQLALCHEMY=db)
    with app.app_context():
        Session(app)
        db.create_all()
    return app


def _redis(lab: Lab) -> Flask:
    app = _app(lab, "redis")
    url = lab.servers.url("redis").render_as_string(hide_password=False)
    prefix = f"tokenrotate-benchmark:{os.urandom(4).hex()}:"
    app.config.update(
        SESSION_TYPE="redis",
        SESSION_REDIS=redis.Redis.from_url(url),
        SESSION_KEY_PREFIX=prefix,
        PERMANENT_SESSION_LIFETIME=3600,
    )
    Session(app)
    return app


_STORES: dict[str, Callable[[Lab], Flask]] = {OURS: _ours, SQLALCHEMY: _sqlalchemy, REDIS: _redis}
