"""What all contestants have in common: their pages, and what those answer."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from flask import Flask, request, session


class SignInAgain(Exception):
    """There is no token, and no way to get one without the user."""


class ProviderAway(Exception):
    """The provider did not answer with a token; later it may."""


def new_app(name: str, place: Mapping[str, str]) -> Flask:
    """Return an application whose sessions are Flask's signed cookies."""
    app = Flask(name, instance_path=place["INSTANCE"])
    app.secret_key = "a-secret-key-for-the-benchmarks"
    return app


def add_pages(
    app: Flask,
    sign_in: Callable[[dict[str, Any]], object],
    access_token: Callable[[], str],
) -> None:
    """Give ``app`` the pages that the workloads ask for.

    ``POST /sign-in`` gets a token response and keeps it for the user of the session, by ``sign_in``;
    ``/token`` needs a fresh access token, by ``access_token``; ``/plain`` reads the session, no token.
    """

    @app.post("/sign-in")
    def sign_in_page() -> dict[str, str]:
        tokens = request.get_json()
        session["user"] = tokens.pop("user")
        sign_in(tokens)
        return {}

    @app.get("/token")
    def token_page() -> dict[str, str]:
        user = session["user"]
        return {"user": user, "token": digest(access_token())}

    @app.get("/plain")
    def plain_page() -> dict[str, str]:
        user = session["user"]
        return {"user": user, "token": digest(user)}

    app.register_error_handler(SignInAgain, lambda error: ({"error": "sign in"}, 401))
    app.register_error_handler(ProviderAway, lambda error: ({"error": "provider"}, 503))


def digest(token: str) -> str:
    """Return a value that tells two tokens apart and reveals neither."""
    return hashlib.sha256(token.encode()).hexdigest()[:16]


def with_expiry(tokens: Mapping[str, Any]) -> dict[str, Any]:
    """Return the token response with ``expires_at``, as all client libraries store it."""
    return {**tokens, "expires_at": time.time() + tokens["expires_in"]}


def is_fresh(tokens: Mapping[str, Any]) -> bool:
    """Return whether the access token can still be used."""
    return bool(tokens["expires_at"] > time.time())
