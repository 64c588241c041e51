"""Server-side sessions: set up when there are none, left alone when there are."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import pytest
import redis
from cachelib import SimpleCache
from flask import Flask
from flask.sessions import SecureCookieSessionInterface
from flask_session import Session
from flask_session.cachelib import CacheLibSessionInterface

from flask_tokenrotate import ConfigurationError
from flask_tokenrotate.testing import FakeProvider, LoginAs
from tests.web.conftest import MakeApp


def test_sessions_are_set_up_where_there_are_none(make_app: MakeApp, login_as: LoginAs) -> None:
    """Without any configuration the session lives in the database of the grants, the only file there is."""
    app, _ = make_app()
    client = app.test_client()
    login_as(client)
    assert client.get("/me").status_code == 200
    assert {path.name.partition("-")[0] for path in Path(app.instance_path).iterdir()} == {
        "tokenrotate.sqlite3"
    }


def test_the_applications_own_sessions_are_used(make_app: MakeApp, login_as: LoginAs) -> None:
    """Flask-Session set up before or after init_app stays as it is."""

    def set_up(app: Flask) -> None:
        app.config.update(SESSION_TYPE="cachelib", SESSION_CACHELIB=SimpleCache())
        Session(app)

    for before in (set_up, None):
        app, _ = make_app(before=before)
        if before is None:
            set_up(app)
        client = app.test_client()
        login_as(client)
        assert client.get("/me").status_code == 200
        assert isinstance(app.session_interface.cache, SimpleCache)  # type: ignore[attr-defined]


class OwnCookieSessions(SecureCookieSessionInterface):
    """Cookie sessions that an application chose itself."""


def use_cookie_sessions(app: Flask) -> None:
    """Choose cookie sessions on purpose."""
    app.session_interface = OwnCookieSessions()


def test_cookie_sessions_are_refused(make_app: MakeApp) -> None:
    """Sessions that live in the cookie alone are refused with an explanation."""
    with pytest.raises(ConfigurationError, match="TOKENROTATE_ALLOW_COOKIE_SESSIONS=True"):
        make_app(before=use_cookie_sessions)


@pytest.mark.parametrize("allow", [False, True])
def test_session_type_alone_sets_flask_session_up(make_app: MakeApp, login_as: LoginAs, allow: bool) -> None:
    """An application that names a back end of Flask-Session need not call ``Session(app)``."""
    cache = SimpleCache()
    app, _ = make_app(
        SESSION_TYPE="cachelib", SESSION_CACHELIB=cache, TOKENROTATE_ALLOW_COOKIE_SESSIONS=allow
    )
    assert isinstance(app.session_interface, CacheLibSessionInterface)
    client = app.test_client()
    login_as(client)
    assert client.get("/me").status_code == 200
    assert len(cache._cache) == 1


@pytest.mark.engine
def test_redis_by_session_type_alone(make_app: MakeApp, login_as: LoginAs, redis_url: str) -> None:
    """The session is in Redis under the configured prefix, and is deleted there at the sign-out."""
    prefix = f"tokenrotate-test-{secrets.token_hex(4)}:"
    with redis.Redis.from_url(redis_url) as server:
        app, _ = make_app(SESSION_TYPE="redis", SESSION_REDIS=server, SESSION_KEY_PREFIX=prefix)
        client = app.test_client()
        login_as(client)
        assert client.get("/me").status_code == 200
        assert len(list(server.scan_iter(f"{prefix}*"))) == 1
        client.post("/auth/fake/logout")
        assert list(server.scan_iter(f"{prefix}*")) == []


@pytest.mark.filterwarnings("ignore:.*FileSystem:DeprecationWarning")
def test_files_by_session_type_alone(make_app: MakeApp, login_as: LoginAs, tmp_path: Path) -> None:
    """The session is a file in the configured folder."""
    folder = tmp_path / "sessions"
    app, _ = make_app(SESSION_TYPE="filesystem", SESSION_FILE_DIR=str(folder))
    client = app.test_client()
    login_as(client)
    assert client.get("/me").status_code == 200
    assert any(folder.iterdir())


def test_an_unknown_session_type(make_app: MakeApp) -> None:
    """It is refused at once, with its value."""
    with pytest.raises(ConfigurationError, match="memcachd"):
        make_app(SESSION_TYPE="memcachd")


def test_cookie_sessions_that_are_set_later_are_refused(make_app: MakeApp) -> None:
    """An interface that is set after init_app is looked at before the first request."""
    app, _ = make_app()
    use_cookie_sessions(app)
    response = app.test_client().get("/me")
    assert (response.status_code, response.json["code"]) == (500, "misconfigured")


def test_cookie_sessions_may_be_allowed(
    make_app: MakeApp, login_as: LoginAs, fake_provider: FakeProvider
) -> None:
    """With the setting they work; the token still never enters them."""
    app, _ = make_app(before=use_cookie_sessions, TOKENROTATE_ALLOW_COOKIE_SESSIONS=True)
    client = app.test_client()
    login_as(client, expires_in=-1)
    assert client.get("/me").status_code == 200


def test_no_token_enters_the_session(make_app: MakeApp, sign_in: Any) -> None:
    """The session holds ids only."""
    app, _ = make_app()
    client = app.test_client()
    sign_in(client)
    with client.session_transaction() as contents:
        stored = dict(contents)
    grant = client.get("/me").json["grant"]
    assert stored.pop("_tokenrotate_grant:fake") == grant
    assert stored.pop("_tokenrotate_user") == "alice"
    assert stored.pop("_tokenrotate_asked_scopes:fake") == ["email", "profile"]
    assert set(stored) <= {"_permanent"}
