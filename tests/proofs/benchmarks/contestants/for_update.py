"""By hand: the row is locked by SELECT … FOR UPDATE, read, and redeemed inside the transaction if need be.

Flask-SQLAlchemy with its default pool, as its quick start shows.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from flask import Flask, session
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import JSON, Column, Engine, MetaData, String, Table, delete, insert, select, update

from .by_hand import redeem
from .pages import add_pages, is_fresh, new_app, with_expiry
from .server_sessions import keep_sessions

metadata = MetaData()
tokens_table = Table(
    "by_hand_tokens", metadata, Column("user", String(64), primary_key=True), Column("tokens", JSON)
)


def create_tables(engine: Engine) -> None:
    """Make the table."""
    metadata.create_all(engine)


def create_app(place: Mapping[str, str] = os.environ) -> Flask:
    """Return the application."""
    app = new_app("for_update", place)
    app.config["SQLALCHEMY_DATABASE_URI"] = place["DATABASE"]
    db = SQLAlchemy(app)
    keep_sessions(app, place, db)
    mine = tokens_table.c.user

    def sign_in(tokens: dict[str, Any]) -> None:
        db.session.execute(delete(tokens_table).where(mine == session["user"]))
        db.session.execute(insert(tokens_table).values(user=session["user"], tokens=with_expiry(tokens)))
        db.session.commit()

    def access_token() -> str:
        locked = select(tokens_table.c.tokens).where(mine == session["user"]).with_for_update()
        tokens = db.session.execute(locked).scalar_one()
        if not is_fresh(tokens):
            tokens = redeem(place, tokens)
            db.session.execute(update(tokens_table).where(mine == session["user"]).values(tokens=tokens))
        db.session.commit()
        return str(tokens["access_token"])

    add_pages(app, sign_in, access_token)
    return app
