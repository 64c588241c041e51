"""The contestants: one application for each way of keeping a token fresh, all with the same pages.

Each module has ``create_app(place)``, where ``place`` maps the application's settings (`PLACE`; under
gunicorn it is the environment), and, where it needs tables, ``create_tables(engine)``. The pages are those of
`pages.add_pages`. With ``SERVER_SESSIONS`` in the place the sessions are in PostgreSQL.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import ModuleType

from flask import Flask
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

TITLES = {
    "floor": "floor: no token handling",
    "tokenrotate": "Flask-TokenRotate",
    "for_update": "by hand: SELECT … FOR UPDATE",
    "redis_lock": "by hand: Redis lock, token in Redis",
    "session_token": "token inside a server-side session",
    "flask_dance": "Flask-Dance + SQLAlchemy",
    "authlib_client": "Authlib Flask client + SQLAlchemy",
}

PLACE = ("INSTANCE", "DATABASE", "REDIS", "TOKEN_ENDPOINT", "CLIENT_ID", "CLIENT_SECRET")
"""A folder, the URLs of PostgreSQL and Redis, the provider, and how the client authenticates there."""


def module(name: str) -> ModuleType:
    """Return the contestant's module."""
    return importlib.import_module(f"{__name__}.{name}")


def make_tables(name: str, database: str) -> None:
    """Make the tables that the contestant needs."""
    create_tables = getattr(module(name), "create_tables", None)
    if create_tables is not None:
        create_tables(create_engine(database, poolclass=NullPool))


def make_app(name: str, place: Mapping[str, str]) -> Flask:
    """Return the contestant's application, for use in this process."""
    app = module(name).create_app(place)
    assert isinstance(app, Flask)
    return app
