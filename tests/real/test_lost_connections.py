"""Connections that the server cut, a pool that the application has used up, and Redis restarted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient
from flask_session import Session
from sqlalchemy import Engine, create_engine

from flask_tokenrotate import TokenRotate, current_token, require_fresh_token
from flask_tokenrotate.storage.database.tables import create_tables
from flask_tokenrotate.testing import FakeProvider
from tests.conftest import available
from tests.servers import ENGINES, Servers
from tests.servers.databases import redis_server
from tests.servers.processes import free_port

pytestmark = pytest.mark.long

SERVERS = ENGINES[1:]

MakeApp = Callable[..., Flask]


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    """A strict provider."""
    with FakeProvider() as provider:
        yield provider


@pytest.fixture
def make_app(tmp_path: Path, provider: FakeProvider) -> Iterator[MakeApp]:
    """Make an application with pages that sign in, let the token run out, and show its version."""
    made = []

    def make(engine: Engine | None = None, **config: Any) -> Flask:
        app = Flask(__name__, instance_path=str(tmp_path))
        app.testing = True
        app.config.update(SECRET_KEY="a-secret-key-for-the-tests", TOKENROTATE_CACHE_SECONDS=0, **config)
        if "SESSION_REDIS" in config:
            Session(app)
        rotate = TokenRotate(app, engine=engine)
        rotate.register("fake", **provider.registration())

        @app.get("/in")
        def sign_in() -> str:
            return rotate.adopt("fake", provider.mint(), user_id="alice").id

        @app.get("/expired/<grant>")
        def expired(grant: str) -> str:
            rotate.expire(grant)
            return ""

        @app.get("/token")
        @require_fresh_token("fake")
        def token() -> str:
            return str(current_token.token_version)

        made.append(app)
        return app

    yield make
    for app in made:
        app.extensions["tokenrotate"].grants._transactions._database.engine().dispose()


def signed_in(app: Flask) -> tuple[FlaskClient, str]:
    """Return a browser that has signed in, and its grant."""
    browser = app.test_client()
    return browser, browser.get("/in").text


@pytest.mark.parametrize("database", SERVERS, indirect=True)
def test_connections_that_the_server_cut_while_idle_are_nobodys_trouble(
    database: str, make_app: MakeApp, provider: FakeProvider, servers: Servers
) -> None:
    """The next request gets its token, and a rotation is done once."""
    engine = create_engine(database)
    create_tables(engine)
    engine.dispose()
    name = "postgresql" if database.startswith("postgresql") else "mariadb"
    browser, grant = signed_in(make_app(TOKENROTATE_DATABASE_URI=database))
    for round_ in range(1, 4):
        servers.cut_off(name, database)
        assert browser.get("/token").status_code == 200
        browser.get(f"/expired/{grant}")
        servers.cut_off(name, database)
        assert browser.get("/token").status_code == 200
        assert provider.outcomes()["rotated"] == round_
    assert provider.double_presentations() == {}


@pytest.mark.parametrize("database", SERVERS, indirect=True)
def test_a_pool_that_the_application_has_used_up(
    database: str, make_app: MakeApp, provider: FakeProvider
) -> None:
    """A request says 503 and what to raise; a redemption under way is served and saved when there is room."""
    engine = create_engine(database, pool_size=2, max_overflow=0, pool_timeout=0.2)
    create_tables(engine)
    app = make_app(engine)
    browser, grant = signed_in(app)
    browser.get(f"/expired/{grant}")
    used_up = ExitStack()
    with used_up, provider.hold("processed") as gate, ThreadPoolExecutor() as threads:
        redeems = threads.submit(browser.get, "/token")
        gate.wait_for(1)
        # Nothing is held while the provider thinks: both connections are there to be taken.
        for _ in range(2):
            used_up.enter_context(engine.connect())
        refused = app.test_client()
        answer = refused.get("/in")
        assert (answer.status_code, int(answer.headers["Retry-After"]) > 0) == (503, True)
        gate.open()
        assert redeems.result().text == "1"
    assert browser.get("/token").status_code == 200
    assert provider.outcomes()["rotated"] == 1
    assert provider.double_presentations() == {}
    engine.dispose()


@pytest.mark.engine
def test_redis_restarted_under_flask_session(
    tmp_path: Path, make_app: MakeApp, provider: FakeProvider
) -> None:
    """Redis takes the sessions with it; the grants stay, and the users sign in again."""
    port = free_port()
    url, server = available(lambda: redis_server(tmp_path / "redis", port))
    try:
        client = redis.Redis.from_url(url.render_as_string())
        app = make_app(SESSION_TYPE="redis", SESSION_REDIS=client)
        app.testing = False
        browser, grant = signed_in(app)
        assert browser.get("/token").text == "0"
        server.stop()
        # Flask-Session's own error: without it nobody knows who asks.
        assert browser.get("/token").status_code == 500
        _, server = redis_server(tmp_path / "redis", port)
        assert browser.get("/token", headers={"Accept": "application/json"}).status_code == 401
        with app.app_context():
            rotate = app.extensions["tokenrotate"]
            assert rotate.grants.load(grant).end_reason is None
        assert browser.get("/in").status_code == 200
        assert browser.get("/token").text == "0"
        client.close()
    finally:
        server.stop()
