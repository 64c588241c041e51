"""Authlib's Flask client, with ``fetch_token`` and ``update_token`` on a SQLAlchemy table."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.flask_client import OAuth
from flask import Flask, session
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Column, Engine, Integer, String
from sqlalchemy.orm import DeclarativeBase

from .pages import ProviderAway, SignInAgain, add_pages, new_app, with_expiry
from .server_sessions import keep_sessions


class Base(DeclarativeBase):
    """The models' base."""


class OAuth2Token(Base):
    """The table of Authlib's documentation."""

    __tablename__ = "authlib_tokens"
    user_id = Column(String(64), primary_key=True)
    name = Column(String(40), primary_key=True)
    token_type = Column(String(40))
    access_token = Column(String(200))
    refresh_token = Column(String(200), index=True)
    expires_at = Column(Integer)

    def to_token(self) -> dict[str, Any]:
        """Return the row as Authlib wants it."""
        names = ("access_token", "token_type", "refresh_token", "expires_at")
        return {name: getattr(self, name) for name in names}


def create_tables(engine: Engine) -> None:
    """Make the table."""
    Base.metadata.create_all(engine)


def create_app(place: Mapping[str, str] = os.environ) -> Flask:
    """Return the application."""
    app = new_app("authlib_client", place)
    app.config["SQLALCHEMY_DATABASE_URI"] = place["DATABASE"]
    db = SQLAlchemy(app)
    keep_sessions(app, place, db)

    def fetch_token(name: str) -> dict[str, Any] | None:
        item = db.session.query(OAuth2Token).filter_by(name=name, user_id=session["user"]).first()
        return None if item is None else item.to_token()

    def update_token(
        name: str, token: dict[str, Any], refresh_token: str | None = None, access_token: str | None = None
    ) -> None:
        known = {"refresh_token": refresh_token} if refresh_token else {"access_token": access_token}
        item = db.session.query(OAuth2Token).filter_by(name=name, **known).first()
        if item is None:
            return
        item.access_token = token["access_token"]
        item.refresh_token = token.get("refresh_token")
        item.expires_at = token["expires_at"]
        db.session.commit()

    oauth = OAuth(app, fetch_token=fetch_token, update_token=update_token)
    oauth.register(
        "fake",
        client_id=place["CLIENT_ID"],
        client_secret=place["CLIENT_SECRET"],
        access_token_url=place["TOKEN_ENDPOINT"],
        authorize_url=place["TOKEN_ENDPOINT"].replace("/token", "/authorize"),
    )

    def sign_in(tokens: dict[str, Any]) -> None:
        kept = with_expiry(tokens)
        columns = {name: kept[name] for name in ("access_token", "token_type", "refresh_token", "expires_at")}
        db.session.merge(OAuth2Token(user_id=session["user"], name="fake", **columns))
        db.session.commit()

    def access_token() -> str:
        # What the client's get() does before it calls the API; no API is called here.
        metadata = {"token_endpoint": place["TOKEN_ENDPOINT"]}
        with oauth.fake._get_oauth_client(**metadata) as client:
            client.token = fetch_token("fake")
            if client.token is None:
                raise SignInAgain
            try:
                client.ensure_active_token(client.token)
            except OAuthError as error:
                raise SignInAgain from error
            except requests.RequestException as error:
                raise ProviderAway from error
            return str(client.token["access_token"])

    add_pages(app, sign_in, access_token)
    return app
