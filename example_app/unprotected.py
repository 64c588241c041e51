"""The control of the storm: plain requests-oauthlib with its automatic refresh, as documented.

The token lives in a server-side session and is refreshed by the request that finds it expired:
https://requests-oauthlib.readthedocs.io/en/latest/oauth2_workflow.html#third-recommended-define-automatic-token-refresh-and-update
Two requests that find it expired refresh it twice. It answers at the same addresses as `app`.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from typing import Any

import requests
from cachelib.file import FileSystemCache
from flask import Blueprint, Flask, current_app, redirect, request, session, url_for
from flask_session import Session
from oauthlib.oauth2 import OAuth2Error
from requests_oauthlib import OAuth2Session
from werkzeug.wrappers import Response

from .app import TIMEOUT_SECONDS, provider, registration

pages = Blueprint("pages", __name__)


def create_app(instance_path: str, **config: Any) -> Flask:
    """Return the application; its session files live in ``instance_path``.

    ``DEMO_PROVIDER_URL`` is where the FakeProvider listens. The process that runs it has to set
    ``OAUTHLIB_INSECURE_TRANSPORT``, because the FakeProvider speaks plain http.
    """
    app = Flask(__name__, instance_path=instance_path)
    app.config.from_prefixed_env()
    app.config.from_mapping(config)
    cache = FileSystemCache(os.path.join(instance_path, "sessions"), threshold=0)
    app.config.update(SESSION_TYPE="cachelib", SESSION_CACHELIB=cache)
    Session(app)
    app.register_blueprint(pages)
    app.register_error_handler(OAuth2Error, sign_in_again)
    return app


def client(**options: Any) -> OAuth2Session:
    """Return a session at the provider."""
    mine = registration(current_app.config["DEMO_PROVIDER_URL"])
    callback = url_for("pages.callback", _external=True)
    return OAuth2Session(mine["client_id"], redirect_uri=callback, scope=mine["scopes"], **options)


def save_token(token: dict[str, Any]) -> None:
    """Keep the token for the visitor's next request."""
    session["token"] = token


@pages.get("/login")
def login() -> Response:
    """Send the visitor to the provider."""
    verifier = secrets.token_urlsafe(48)
    digest = hashlib.sha256(verifier.encode()).digest()
    address, state = client().authorization_url(
        provider("/authorize"),
        code_challenge=base64.urlsafe_b64encode(digest).decode().rstrip("="),
        code_challenge_method="S256",
    )
    session.update(state=state, verifier=verifier)
    return redirect(address)


@pages.get("/callback")
def callback() -> Response:
    """Exchange the code."""
    mine = registration(current_app.config["DEMO_PROVIDER_URL"])
    token = client(state=session.pop("state")).fetch_token(
        mine["token_endpoint"],
        client_secret=mine["client_secret"],
        authorization_response=request.url,
        code_verifier=session.pop("verifier"),
    )
    save_token(token)
    return redirect("/work")


@pages.get("/work")
def work() -> tuple[dict[str, Any], int]:
    """Call the protected resource. The status is the resource's own; 401 asks to sign in again."""
    if "token" not in session:
        return {"error": "sign in"}, 401
    mine = registration(current_app.config["DEMO_PROVIDER_URL"])
    at_provider = client(
        token=session["token"], auto_refresh_url=mine["token_endpoint"], token_updater=save_token
    )
    resource = at_provider.request(
        "GET", provider("/api/me"), client_id=mine["client_id"], client_secret=mine["client_secret"]
    )
    return {}, resource.status_code


@pages.post("/expire")
def expire() -> tuple[str, int]:
    """Kill the visitor's access token, here and at the provider; the refresh token stays good."""
    user = client(token=session["token"]).get(provider("/api/me")).json()["user"]
    wish = {"expire_access_tokens": True, "user": user}
    requests.post(provider("/control"), json=wish, timeout=TIMEOUT_SECONDS).raise_for_status()
    save_token({**session["token"], "expires_in": -1, "expires_at": 1})
    return "", 204


def sign_in_again(error: OAuth2Error) -> tuple[dict[str, Any], int]:
    """Answer a visitor whose refresh token the provider refused."""
    return {"error": error.error}, 401
