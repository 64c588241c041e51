"""This extension, on PostgreSQL.

The place may have its settings ``CACHE_SECONDS``, ``CACHE_ENTRIES`` and ``MIN_TTL_SECONDS``. ``NO_LISTEN``
turns LISTEN off, ``COUNT_READS`` appends each read of a grant to the file ``reads``. The session is Flask's
signed cookie, as for the others. With ``SERVER_SESSIONS`` it is the extension's own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from flask import Flask
from sqlalchemy import Engine, event

from flask_tokenrotate import TokenRotate, current_token, require_fresh_token
from flask_tokenrotate.errors import SignInRequired, TryLater
from flask_tokenrotate.storage.database.tables import create_tables

from .pages import add_pages, new_app

__all__ = ["create_app", "create_tables"]


def create_app(place: Mapping[str, str] = os.environ) -> Flask:
    """Return the application."""
    app = new_app("tokenrotate", place)
    app.config["TOKENROTATE_DATABASE_URI"] = place["DATABASE"]
    if "SERVER_SESSIONS" not in place:
        app.config["TOKENROTATE_ALLOW_COOKIE_SESSIONS"] = True
    for name, kind in (("CACHE_SECONDS", float), ("CACHE_ENTRIES", int), ("MIN_TTL_SECONDS", float)):
        if name in place:
            app.config[f"TOKENROTATE_{name}"] = kind(place[name])
    app.config["TOKENROTATE_LISTEN"] = "NO_LISTEN" not in place
    rotate = TokenRotate(app)
    rotate.register(
        "fake",
        client_id=place["CLIENT_ID"],
        client_secret=place["CLIENT_SECRET"],
        authorization_endpoint=place["TOKEN_ENDPOINT"].replace("/token", "/authorize"),
        token_endpoint=place["TOKEN_ENDPOINT"],
    )
    add_pages(app, lambda tokens: rotate.adopt("fake", tokens), access_token)
    # For the benchmark's client, which counts statuses; a browser would be redirected to sign in.
    app.register_error_handler(SignInRequired, lambda error: ({"error": "sign in"}, 401))
    app.register_error_handler(TryLater, lambda error: ({"error": "provider"}, 503))
    if "COUNT_READS" in place:
        count_reads(os.path.join(place["INSTANCE"], "reads"))
    return app


@require_fresh_token("fake")
def access_token() -> str:
    """Return the current access token."""
    return current_token.access_token


def count_reads(path: str) -> None:
    """Append the process and the grant of each read of a grant's row to the file at ``path``."""
    notes = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    @event.listens_for(Engine, "before_cursor_execute")
    def note(
        connection: object, cursor: object, statement: str, parameters: Any, context: object, many: bool
    ) -> None:
        if statement.startswith("SELECT") and "FROM tokenrotate_grants" in statement:
            grant = next(iter(parameters.values() if isinstance(parameters, dict) else parameters))
            os.write(notes, f"{os.getpid()} {grant}\n".encode())
