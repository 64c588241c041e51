"""Server-side sessions in PostgreSQL, for the contestants that have none of their own: Flask-Session's."""

from __future__ import annotations

from collections.abc import Mapping

from flask import Flask
from flask_session import Session
from flask_sqlalchemy import SQLAlchemy


def keep_sessions(app: Flask, place: Mapping[str, str], db: SQLAlchemy | None = None) -> None:
    """Keep the sessions in PostgreSQL where ``SERVER_SESSIONS`` is in the place; in ``db`` if there is one.

    Set up as Flask-Session's documentation shows. ``REFRESH_EACH_REQUEST`` in the place is
    ``SESSION_REFRESH_EACH_REQUEST``: by default Flask-Session writes each session in each request.
    """
    if "SERVER_SESSIONS" not in place:
        return
    if db is None:
        app.config["SQLALCHEMY_DATABASE_URI"] = place["DATABASE"]
        db = SQLAlchemy(app)
    app.config.update(SESSION_TYPE="sqlalchemy", SESSION_SQLALCHEMY=db)
    app.config["SESSION_REFRESH_EACH_REQUEST"] = place.get("REFRESH_EACH_REQUEST") != "no"
    with app.app_context():
        Session(app)
        db.create_all()
