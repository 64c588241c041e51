"""An application with the extension, signed in at a FakeProvider or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, jsonify
from flask.testing import FlaskClient
from sqlalchemy import Engine, create_engine

from flask_tokenrotate import TokenRotate, current_token, require_fresh_token
from flask_tokenrotate.testing import FakeProvider

MakeApp = Callable[..., tuple[Flask, TokenRotate]]


@pytest.fixture
def make_app(fake_provider: FakeProvider, tmp_path: Path) -> Iterator[MakeApp]:
    """Return a factory of applications with one provider, ``fake``, and one view, ``/me``."""
    apps: list[Flask] = []

    def make(
        *,
        register: dict[str, Any] | None = None,
        engine: Any = None,
        store: Any = None,
        before: Any = None,
        **config: Any,
    ) -> tuple[Flask, TokenRotate]:
        app = Flask(f"app{len(apps)}", instance_path=str(tmp_path / "instance"))
        app.config.update(SECRET_KEY="a-secret-key-for-the-tests", TESTING=False, **config)
        apps.append(app)
        rotate = TokenRotate(engine=engine, store=store)
        rotate.register("fake", **fake_provider.registration(**(register or {})))
        if before is not None:
            before(app)
        rotate.init_app(app)

        @app.get("/me")
        @require_fresh_token
        def me() -> Any:
            reply = current_token.get(fake_provider.url + "/api/me")
            return jsonify(
                status=reply.status_code,
                user=current_token.user_id,
                origin=current_token.origin,
                version=current_token.token_version,
                grant=current_token.grant_id,
            )

        return app, rotate

    yield make
    for app in apps:
        if "tokenrotate" in app.extensions:
            database_of(app).dispose()


def database_of(app: Flask) -> Engine:
    """Return the engine of the application's tables."""
    engine = app.extensions["tokenrotate"].maintenance._database._engine
    return engine if isinstance(engine, Engine) else create_engine("sqlite://")


def end_every_family(provider: FakeProvider) -> None:
    """Let the provider refuse every refresh token, as after a revocation by an administrator."""
    with provider.ledger.lock:
        for token in provider.ledger.refresh_tokens.values():
            token.family.alive = False


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    """The application with its default settings."""
    return make_app()[0]


@pytest.fixture
def rotate(app: Flask) -> TokenRotate:
    """An extension object bound to no application in particular; state is read from the app."""
    return TokenRotate()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A browser that has not signed in."""
    return app.test_client()


@pytest.fixture
def sign_in(fake_provider: FakeProvider) -> Callable[..., Any]:
    """Return a function that takes a client through the provider's pages and back."""

    def sign_in(client: FlaskClient, user: str = "alice", path: str = "/auth/fake/login?next=/me") -> Any:
        begun = client.get(path)
        assert begun.status_code == 302, begun.text
        return client.get(fake_provider.sign_in(begun.location, user=user))

    return sign_in
