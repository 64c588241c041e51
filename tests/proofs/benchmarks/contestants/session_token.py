"""The token inside a server-side session, refreshed by requests-oauthlib.

Flask-Session on Redis, or on PostgreSQL where ``SERVER_SESSIONS`` is in the place.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import redis
from flask import Flask, session
from flask_session import Session
from oauthlib.oauth2 import OAuth2Error
from requests.auth import HTTPBasicAuth
from requests_oauthlib import OAuth2Session

from .pages import ProviderAway, SignInAgain, add_pages, is_fresh, new_app, with_expiry
from .server_sessions import keep_sessions


def create_app(place: Mapping[str, str] = os.environ) -> Flask:
    """Return the application."""
    app = new_app("session_token", place)
    if "SERVER_SESSIONS" in place:
        keep_sessions(app, place)
    else:
        keep_sessions_in_redis(app, place)

    def sign_in(tokens: dict[str, Any]) -> None:
        session["tokens"] = with_expiry(tokens)

    def access_token() -> str:
        tokens = session["tokens"]
        if not is_fresh(tokens):
            client = OAuth2Session(place["CLIENT_ID"], token=tokens)
            credentials = HTTPBasicAuth(place["CLIENT_ID"], place["CLIENT_SECRET"])
            try:
                tokens = client.refresh_token(place["TOKEN_ENDPOINT"], auth=credentials)
            except OAuth2Error as error:
                raise (ProviderAway if error.error == "temporarily_unavailable" else SignInAgain) from error
            session["tokens"] = tokens
        return str(tokens["access_token"])

    add_pages(app, sign_in, access_token)
    return app


def keep_sessions_in_redis(app: Flask, place: Mapping[str, str]) -> None:
    """Set Flask-Session up on Redis."""
    app.config.update(
        SESSION_TYPE="redis",
        SESSION_REDIS=redis.Redis.from_url(place["REDIS"]),
        SESSION_KEY_PREFIX=f"tokenrotate-benchmark:{os.path.basename(app.instance_path)}:session:",
        PERMANENT_SESSION_LIFETIME=3600,
    )
    Session(app)
