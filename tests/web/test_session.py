"""Server-side sessions: set up when there are none, left alone when there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cachelib import SimpleCache
from flask import Flask, session
from flask.sessions import SecureCookieSessionInterface
from flask_session import Session

from flask_tokenrotate import ConfigurationError
from flask_tokenrotate.testing import FakeProvider, LoginAs

from .conftest import MakeApp


def test_sessions_are_set_up_where_there_are_none(make_app: MakeApp, login_as: LoginAs) -> None:
    """Without any configuration the session lives in the database of the grants, the only file there is."""
    app, _ = make_app()
    client = app.test_client()
    login_as(client)
    assert client.get("/me").status_code == 200
    assert {path.name.partition("-")[0] for path in Path(app.instance_path).iterdir()} == {
        "tokenrotate.sqlite3"
    }


@pytest.mark.parametrize(
    ("url", "debug", "secure"),
    [("https://app.example.com", False, True), ("http://app.example.com", False, True),
     ("http://localhost", False, False), ("http://App.localhost", False, False),
     ("http://app.example.com", True, False)],
)  # fmt: skip
def test_cookie_flags(make_app: MakeApp, url: str, debug: bool, secure: bool) -> None:
    """Secure outside debug mode and loopback, HttpOnly and SameSite=Lax always."""
    app, _ = make_app()
    app.debug = debug

    @app.get("/write")
    def write() -> str:
        session["x"] = 1
        return ""

    cookie = app.test_client().get("/write", base_url=url).headers["Set-Cookie"]
    assert ("Secure" in cookie) is secure
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie


def test_reading_writes_nothing(make_app: MakeApp, login_as: LoginAs) -> None:
    """A request that only reads sends no cookie and so overwrites no other request's session."""
    app, _ = make_app()
    client = app.test_client()
    login_as(client)
    assert "Set-Cookie" not in client.get("/me").headers


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


def test_sessions_that_were_announced_and_never_set_up(make_app: MakeApp) -> None:
    """SESSION_TYPE without Session(app) leaves cookie sessions, which is told at the first request."""
    app, _ = make_app(SESSION_TYPE="redis")
    answer = app.test_client().get("/me")
    assert answer.status_code == 500
    assert answer.json["code"] == "misconfigured"


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
