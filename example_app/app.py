"""The demo application: a page that signs in, calls an API, and can be stormed.

What it does with a token takes `TokenRotate`, `require_fresh_token` and `current_token`; `signed_in` and
the row in `grant` are there for people who want to watch.
"""

from __future__ import annotations

import os
import threading
import time
from datetime import UTC, datetime
from typing import Any

import requests
from flask import Blueprint, Flask, Response, abort, current_app, g, render_template, request, session

from flask_tokenrotate import SignInRequired, TokenRotate, current_token, require_fresh_token, signed_in

STORM_REQUESTS = 64
"""Requests that the page's storm sends: sixteen for each of four workers, which have a few threads more."""

TIMEOUT_SECONDS = 10.0

rotate = TokenRotate()
pages = Blueprint("pages", __name__)


def create_app(instance_path: str, **config: Any) -> Flask:
    """Return the application; files that it makes live in ``instance_path``.

    ``config`` wins over the environment (``FLASK_…``). Besides Flask's and the extension's keys:
    ``DEMO_PROVIDER_URL`` is where the FakeProvider listens, ``DEMO_PORTS`` are the ports that the
    application itself listens on.
    """
    app = Flask(__name__, instance_path=instance_path)
    app.config.from_mapping(DEMO_PORTS=[], TRUSTED_HOSTS=["127.0.0.1", "localhost"])
    app.config.from_prefixed_env()
    app.config.from_mapping(config)
    app.config["TOKENROTATE_PROVIDERS"] = {"demo": registration(app.config["DEMO_PROVIDER_URL"])}
    rotate.init_app(app)
    signed_in.connect(remember_grant, app)
    app.register_blueprint(pages)
    app.before_request(start_the_clock)
    app.after_request(let_the_other_ports_in)
    app.after_request(restrict_the_page)
    return app


def registration(url: str) -> dict[str, Any]:
    """Return how this client is registered at the provider at ``url``."""
    return {
        "client_id": "demo-client",
        "client_secret": "demo-client-secret",
        "issuer": url,
        "authorization_endpoint": f"{url}/authorize",
        "token_endpoint": f"{url}/token",
        "revocation_endpoint": f"{url}/revoke",
        "userinfo_endpoint": f"{url}/userinfo",
        "scopes": ["profile", "email"],
    }


def provider(path: str) -> str:
    """Return an address at the provider."""
    return f"{current_app.config['DEMO_PROVIDER_URL']}{path}"


# What the visitor sees


def welcome(error: SignInRequired) -> str:
    """Show the page of somebody who has not signed in, or has been signed out."""
    return render_template("welcome.html", reason=error.reason)


@pages.get("/")
@require_fresh_token(on_missing=welcome)
def home() -> str:
    """Show who has signed in, what the protected resource said, and the grant."""
    resource = current_token.get(provider("/api/me"), timeout=TIMEOUT_SECONDS)
    return render_template(
        "home.html",
        name=current_token.subject,
        scopes=sorted(current_token.scopes),
        resource=resource,
        origin=current_token.origin,
        grant=grant(),
        log=provider("/log"),
        ports=current_app.config["DEMO_PORTS"],
        storm_requests=STORM_REQUESTS,
    )


def remember_grant(sender: Flask, *, grant_id: str, **facts: Any) -> None:
    """Keep the id of the visitor's grant at hand for `grant`."""
    session["grant_id"] = grant_id


@pages.get("/grant")
def grant() -> dict[str, Any]:
    """Return the state of the visitor's grant, without its secrets.

    It asks for no token, or nobody could watch a claim that stands: they would wait for it.
    """
    if "grant_id" not in session:
        abort(401)
    row = rotate.grant(session["grant_id"])
    if row is None:
        abort(401)
    expires_at = row.tokens.expires_at
    return {
        "id": row.id,
        "version": row.version,
        "token_version": row.token_version,
        "expires_at": None if expires_at is None else f"{datetime.fromtimestamp(expires_at, UTC):%F %T} UTC",
        "claimed_by": None if row.standing is None else row.standing.holder,
    }


# The storm


@pages.get("/work")
@require_fresh_token
def work() -> tuple[dict[str, Any], int]:
    """Call the protected resource and say how this request came by its token.

    Times are seconds since the epoch. The status is the resource's own.
    """
    resource = current_token.get(provider("/api/me"), timeout=TIMEOUT_SECONDS)
    report = {
        "origin": current_token.origin,
        "token_version": current_token.token_version,
        "process": os.getpid(),
        "thread": threading.current_thread().name,
        "began": g.began,
        "ended": time.time(),
    }
    return report, resource.status_code


@pages.post("/expire")
@require_fresh_token
def expire() -> tuple[str, int]:
    """Kill the visitor's access token, here and at the provider; the refresh token stays good."""
    grant_id = current_token.grant_id
    wish = {"expire_access_tokens": True, "user": current_token.subject}
    requests.post(provider("/control"), json=wish, timeout=TIMEOUT_SECONDS).raise_for_status()
    rotate.expire(grant_id)
    return "", 204


@pages.get("/redemptions")
@require_fresh_token
def redemptions() -> list[dict[str, Any]]:
    """Return the redemptions of the visitor's refresh tokens, by the provider's own log."""
    log = requests.get(provider("/log"), timeout=TIMEOUT_SECONDS).json()
    return [
        {"at": entry["at"], "outcome": entry["outcome"]}
        for entry in log["entries"]
        if entry["grant_type"] == "refresh_token" and entry["user"] == current_token.subject
    ]


def start_the_clock() -> None:
    """Note when the request began, before anything waits for a token."""
    g.began = time.time()


def own_origins() -> list[str]:
    """Return the origins of this application on all of its ports.

    A browser opens six connections to an origin at most; eleven ports make 64 requests at once
    possible. Cookies do not tell ports apart, so the session comes along.
    """
    config = current_app.config
    return [f"http://{host}:{port}" for host in config["TRUSTED_HOSTS"] for port in config["DEMO_PORTS"]]


def let_the_other_ports_in(response: Response) -> Response:
    """Let the page read what the application answers on its other ports, and nobody else (CORS)."""
    response.vary.add("Origin")
    if request.headers.get("Origin") in own_origins():
        response.access_control_allow_origin = request.headers["Origin"]
        response.access_control_allow_credentials = True
    return response


def restrict_the_page(response: Response) -> Response:
    """Allow the page its own files and ports only (Content Security Policy)."""
    sources = " ".join(["'self'", *own_origins()])
    response.headers.setdefault(
        "Content-Security-Policy",
        f"default-src 'none'; style-src 'self'; script-src 'self'; img-src data:; connect-src {sources}; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    )
    return response
