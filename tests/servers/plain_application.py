"""The control: the token in a server-side session, refreshed by whichever request finds it expired.

It uses requests-oauthlib as its documentation shows, and answers at the addresses of `application`.
"""

from __future__ import annotations

import os
import time
from typing import Any

from cachelib.file import FileSystemCache
from flask import Flask, request, session
from flask_session import Session
from oauthlib.oauth2 import OAuth2Error
from requests.auth import HTTPBasicAuth
from requests_oauthlib import OAuth2Session


def create_app() -> Flask:
    """Return a client (``CLIENT_ID``, ``CLIENT_SECRET``) of the provider at ``TOKEN_ENDPOINT``."""
    app = Flask(__name__, instance_path=os.environ["INSTANCE"])
    cache = FileSystemCache(os.path.join(app.instance_path, "plain-sessions"), threshold=0)
    app.config.update(SESSION_TYPE="cachelib", SESSION_CACHELIB=cache, SECRET_KEY="plain")
    Session(app)
    app.add_url_rule("/adopt/<provider>", view_func=adopt, methods=["POST"])
    app.add_url_rule("/token/<provider>", view_func=token)
    return app


def adopt(provider: str) -> dict[str, Any]:
    """Put a token response into the session."""
    answer = request.get_json()
    session["token"] = {"expires_at": time.time() + answer["expires_in"], **answer}
    return {"grant": ""}


def token(provider: str) -> tuple[dict[str, Any], int]:
    """Refresh the token if it has expired."""
    held = session["token"]
    if held["expires_at"] > time.time():
        return {"origin": "session"}, 200
    client = OAuth2Session(os.environ["CLIENT_ID"], token=held)
    credentials = HTTPBasicAuth(os.environ["CLIENT_ID"], os.environ["CLIENT_SECRET"])
    try:
        session["token"] = client.refresh_token(os.environ["TOKEN_ENDPOINT"], auth=credentials)
    except OAuth2Error as error:
        return {"error": error.error}, 401
    return {"origin": "rotated"}, 200
