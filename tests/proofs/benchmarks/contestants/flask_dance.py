"""Flask-Dance with its SQLAlchemy storage, one token for each user.

As its documentation shows, but for the refresh, which is requests-oauthlib's own recipe: it would
otherwise need a call to the provider's API, which is not what is measured.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from flask import Flask, g, session
from flask_dance.consumer import OAuth2ConsumerBlueprint
from flask_dance.consumer.storage.sqla import OAuthConsumerMixin, SQLAlchemyStorage
from flask_sqlalchemy import SQLAlchemy
from oauthlib.oauth2 import OAuth2Error
from requests.auth import HTTPBasicAuth
from sqlalchemy import Column, Engine, ForeignKey, String
from sqlalchemy.orm import DeclarativeBase, relationship

from .pages import ProviderAway, SignInAgain, add_pages, is_fresh, new_app, with_expiry
from .server_sessions import keep_sessions


class Base(DeclarativeBase):
    """The models' base."""


class User(Base):
    """The application's users."""

    __tablename__ = "flask_dance_users"
    id = Column(String(64), primary_key=True)


class OAuth(OAuthConsumerMixin, Base):
    """The table of Flask-Dance, with the user."""

    user_id = Column(String(64), ForeignKey(User.id), nullable=False, index=True)
    user = relationship(User)


def create_tables(engine: Engine) -> None:
    """Make the table."""
    Base.metadata.create_all(engine)


def create_app(place: Mapping[str, str] = os.environ) -> Flask:
    """Return the application."""
    app = new_app("flask_dance", place)
    app.config["SQLALCHEMY_DATABASE_URI"] = place["DATABASE"]
    db = SQLAlchemy(app)
    keep_sessions(app, place, db)
    blueprint = OAuth2ConsumerBlueprint(
        "fake",
        __name__,
        client_id=place["CLIENT_ID"],
        client_secret=place["CLIENT_SECRET"],
        token_url=place["TOKEN_ENDPOINT"],
        authorization_url=place["TOKEN_ENDPOINT"].replace("/token", "/authorize"),
    )

    def current_user() -> User | None:
        # Once for each request, as Flask-Login's current_user.
        if "user" not in g:
            g.user = db.session.get(User, session["user"])
        return g.user

    blueprint.storage = SQLAlchemyStorage(OAuth, db.session, user=current_user)
    app.register_blueprint(blueprint, url_prefix="/login")

    def sign_in(tokens: dict[str, Any]) -> None:
        db.session.add(User(id=session["user"]))
        blueprint.token = with_expiry(tokens)

    def access_token() -> str:
        client = blueprint.session
        if not client.authorized:
            raise SignInAgain
        tokens = client.token
        if not is_fresh(tokens):
            credentials = HTTPBasicAuth(place["CLIENT_ID"], place["CLIENT_SECRET"])
            try:
                tokens = client.refresh_token(place["TOKEN_ENDPOINT"], auth=credentials)
            except OAuth2Error as error:
                raise (ProviderAway if error.error == "temporarily_unavailable" else SignInAgain) from error
            blueprint.token = tokens
        return str(tokens["access_token"])

    add_pages(app, sign_in, access_token)
    return app
