"""The floor: the same pages without any token handling, on the same kind of session."""

from __future__ import annotations

import os
from collections.abc import Mapping

from flask import Flask, session

from .pages import add_pages, new_app
from .server_sessions import keep_sessions


def create_app(place: Mapping[str, str] = os.environ) -> Flask:
    """Return the application."""
    app = new_app("floor", place)
    keep_sessions(app, place)
    add_pages(app, lambda tokens: None, lambda: str(session["user"]))
    return app
