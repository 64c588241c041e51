"""One rule of cookie flags: the session's cookie and a sign-in attempt's are Secure on the same addresses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask, session
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flask_tokenrotate import cookies
from flask_tokenrotate.testing import FakeProvider
from flask_tokenrotate.web import browser_binding
from tests.web.conftest import MakeApp
from tests.web.conftest import make_app as make_app

LAN = "http://192.168.1.5:5000"


class Browser(FlaskClient):
    """A test client that drops a Secure cookie that comes over plain http, as browsers do."""

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        response = super().open(*args, **kwargs)
        if not response.request.is_secure:
            for key, cookie in list((self._cookies or {}).items()):
                if cookie.secure:
                    del self._cookies[key]  # type: ignore[index]
        return response


def cookies_of(app: Flask, url: str) -> list[str]:
    """Return the cookies of a session and of a sign-in attempt that begin at ``url``."""
    app.add_url_rule("/write", "write", lambda: session.update(x=1) or "")
    client = app.test_client()
    return [client.get(path, base_url=url).headers["Set-Cookie"] for path in ("/write", "/auth/fake/login")]


@pytest.mark.parametrize(
    ("url", "debug", "config", "secure"),
    [
        ("https://app.example.com", False, {}, True),
        ("https://app.example.com", True, {}, True),
        ("http://app.example.com", False, {}, True),
        ("http://app.example.com", True, {}, False),
        ("http://app.example.com", True, {"SESSION_COOKIE_SECURE": True}, True),
        ("http://localhost", False, {}, False),
        ("http://localhost", False, {"SESSION_COOKIE_SECURE": True}, True),
        ("http://App.localhost", False, {}, False),
        ("http://[::1]:5000", False, {}, False),
        (LAN, True, {}, False),
        (LAN, False, {}, True),
    ],
)
def test_both_cookies_have_the_same_flags(
    make_app: MakeApp, url: str, debug: bool, config: dict[str, Any], secure: bool
) -> None:
    """Secure outside debug mode and loopback; HttpOnly, SameSite=Lax and Path=/ always; __Host- over TLS."""
    app, _ = make_app(**config)
    app.debug = debug
    for cookie in cookies_of(app, url):
        assert ("Secure" in cookie.split("; ")) is secure
        assert cookie.startswith("__Host-") is url.startswith("https")
        assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(cookie.split("; "))


@pytest.fixture
def fake_provider() -> Iterator[FakeProvider]:
    """A provider that the application is registered at with its address in the local network."""
    with FakeProvider(redirect_uris=[f"{LAN}/auth/fake/callback"]) as provider:
        yield provider


def sign_in_on_the_lan(make_app: MakeApp, provider: FakeProvider) -> TestResponse:
    """Sign in to an application in debug mode, from another machine of the same network."""
    app, _ = make_app()
    app.debug = True
    client = Browser(app)
    begun = client.get("/auth/fake/login?next=/me", base_url=LAN)
    client.get(provider.sign_in(begun.location, user="alice"), base_url=LAN)
    return client.get("/me", base_url=LAN)


def test_a_sign_in_in_debug_mode_on_the_local_network(make_app: MakeApp, fake_provider: FakeProvider) -> None:
    """It completes: the browser keeps both cookies."""
    response = sign_in_on_the_lan(make_app, fake_provider)
    assert (response.status_code, response.json["user"]) == (200, "alice")


class _SecureAlways:
    """A rule of its own for the attempt's cookie, in place of `cookies`."""

    host_bound = staticmethod(cookies.host_bound)
    is_secure = staticmethod(lambda *_: True)


def test_two_rules_break_it(
    make_app: MakeApp, fake_provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: an attempt's cookie with a rule of its own is dropped, and nobody is signed in."""
    monkeypatch.setattr(browser_binding, "cookies", _SecureAlways)
    assert sign_in_on_the_lan(make_app, fake_provider).status_code == 401
