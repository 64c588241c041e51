"""Uses the public names as an application would; checked by mypy, never run."""

from __future__ import annotations

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from requests import Response
from requests_oauthlib import OAuth2Session
from sqlalchemy import create_engine

from flask_tokenrotate import (
    CurrentToken,
    Grant,
    SignInRequired,
    TokenRotate,
    TokenRotateError,
    current_token,
    require_fresh_token,
    token_rotated,
)

rotate = TokenRotate()
app = Flask(__name__)
rotate.init_app(app)
on_an_engine = TokenRotate(engine=create_engine("sqlite://"))
on_flask_sqlalchemy = TokenRotate(engine=SQLAlchemy())
rotate.register("spotify", client_id="x", scopes=["a"])
rotate.register("auth0", client_id="x", client_secret="y", domain="acme.eu.auth0.com", grace_seconds=5)
rotate.register("spotify", clientid="x")  # type: ignore[call-arg]
rotate.register("spotify", client_id="x", client_auth="digest")  # type: ignore[arg-type]


@require_fresh_token
def bare(number: int, *, mark: str = "") -> str:
    return current_token.access_token + mark * number


@require_fresh_token("spotify", min_ttl=60, scopes=["a"], on_missing=lambda error: error.reason)
def named(number: int) -> Response:
    return current_token.get("https://api.spotify.com/v1/me")


@require_fresh_token()
async def asynchronous(word: str) -> bytes:
    return word.encode()


async def calls() -> tuple[str, Response, bytes]:
    return bare(1, mark="x"), named(2), await asynchronous("w")


def by_session() -> Response:
    session: OAuth2Session = current_token.session
    return session.get("https://api.spotify.com/v1/me")


def jobs(grant_id: str) -> Response:
    return rotate.token(grant_id).post("https://api.spotify.com/v1/me", json={})


def block(user_id: str) -> int:
    return rotate.sign_out_everywhere(user_id)


def holder(token: CurrentToken) -> Grant | None:
    return rotate.grant(token.grant_id)


@app.errorhandler(TokenRotateError)
def failed(error: TokenRotateError) -> tuple[str, int]:
    return error.code, error.status


def user_of(provider: str, claims: object) -> str | None:
    return None


def on_rotation(sender: Flask, grant_id: str, **facts: object) -> None:
    raise SignInRequired("spotify", "refused")


token_rotated.connect(on_rotation)
