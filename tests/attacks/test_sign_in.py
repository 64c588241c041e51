"""Attacks on the sign-in: whoever did not begin it, does not end it, and nothing can be swapped."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from flask import Flask, session
from flask.testing import FlaskClient

from flask_tokenrotate.rotation.tokens import Secret
from flask_tokenrotate.rotation.verdict import Rotated
from flask_tokenrotate.testing import FakeProvider, LoginAs
from tests.web.conftest import MakeApp

CallbackQuery = Callable[..., dict[str, str]]
CALLBACK = "/auth/fake/callback?"


def reason(client: FlaskClient, query: dict[str, str] | str) -> str:
    """Return why the callback was refused."""
    response = client.get(CALLBACK + (query if isinstance(query, str) else urlencode(query)))
    assert response.status_code == 400
    return str(response.json["reason"])


def accepted(client: FlaskClient, query: dict[str, str]) -> bool:
    """Return whether the callback signed the client in."""
    return client.get(CALLBACK + urlencode(query)).status_code == 303


def test_login_csrf(app: Flask, client: FlaskClient, callback_query: CallbackQuery) -> None:
    """A victim who is sent to the attacker's callback is not signed in as the attacker; control: he is."""
    attackers = callback_query(client, "mallory")
    victim = app.test_client()
    assert reason(victim, attackers) == "no_cookie"
    assert victim.get("/me").status_code == 401
    assert accepted(client, attackers)


def test_session_fixation(app: Flask, client: FlaskClient, sign_in: Any) -> None:
    """A session id that the attacker planted is dead after the sign-in; control: the new one works."""

    @app.get("/touch")
    def touch() -> str:
        session["seen"] = True
        return str(session.sid)  # type: ignore[attr-defined]

    planted = client.get("/touch").text
    sign_in(client)
    for sid, status in ((planted, 401), (client.get("/touch").text, 200)):
        attacker = app.test_client()
        attacker.set_cookie("session", sid)
        assert attacker.get("/me").status_code == status


def test_code_injection(
    client: FlaskClient, callback_query: CallbackQuery, fake_provider: FakeProvider
) -> None:
    """A stolen code put into one's own callback fails, since the verifier is of another attempt."""
    stolen, own = (
        callback_query(client.application.test_client(), "victim"),
        callback_query(client, "mallory"),
    )
    assert reason(client, {**own, "code": stolen["code"]}) == "exchange_failed"
    assert client.get("/me").status_code == 401
    assert accepted(client, callback_query(client, "mallory"))


def test_access_token_injection(
    client: FlaskClient, callback_query: CallbackQuery, fake_provider: FakeProvider
) -> None:
    """A token in the callback's address signs nobody in; control: the code beside it does."""
    token = fake_provider.mint("victim")["access_token"]
    query = {**callback_query(client), "access_token": token, "token_type": "Bearer"}
    assert reason(client, {name: query[name] for name in query if name != "code"}) == "provider_error"
    assert client.get("/me").status_code == 401
    assert accepted(client, {**callback_query(client), "access_token": token})
    assert client.get("/me").json["user"] == "alice"


def test_state_injection(app: Flask, client: FlaskClient, callback_query: CallbackQuery) -> None:
    """A state that nobody issued, or that another browser was given, is refused and uses nothing up."""
    own = callback_query(client)
    others = callback_query(app.test_client())
    assert reason(client, {**own, "state": "made-up"}) == "unknown_state"
    assert reason(client, {**own, "state": others["state"]}) == "no_cookie"
    assert accepted(client, own)


def test_replayed_callback(
    client: FlaskClient, callback_query: CallbackQuery, fake_provider: FakeProvider
) -> None:
    """A callback that was used is refused before its code is posted a second time."""
    query = callback_query(client)
    assert accepted(client, query)
    posts = len(fake_provider.log)
    assert reason(client, query) == "already_used"
    assert len(fake_provider.log) == posts


@pytest.mark.parametrize("iss", ["https://evil.example", "", "HTTP://127.0.0.1", None])
def test_mix_up_by_issuer(
    make_app: MakeApp, callback_query: CallbackQuery, fake_provider: FakeProvider, iss: str | None
) -> None:
    """A code that names another issuer, or none where one is due, is posted nowhere (RFC 9207)."""
    app, _ = make_app(register={"checks_iss": True})
    client = app.test_client()
    query = callback_query(client)
    query.pop("iss", None)
    assert reason(client, query if iss is None else {**query, "iss": iss}) == "issuer_mismatch"
    assert fake_provider.log == []
    assert accepted(client, {**callback_query(client), "iss": fake_provider.url})


def test_mix_up_by_callback(
    make_app: MakeApp, callback_query: CallbackQuery, fake_provider: FakeProvider
) -> None:
    """Each provider has its own callback: a code of one is not posted to the other."""
    app, rotate = make_app()
    rotate.register("other", **fake_provider.registration())
    client = app.test_client()
    response = client.get("/auth/other/callback?" + urlencode(callback_query(client)))
    assert response.json["reason"] == "issuer_mismatch"
    assert fake_provider.log == []
    assert accepted(client, callback_query(client))


class TestPkceDowngrade:
    def test_the_request_always_has_an_s256_challenge(self, client: FlaskClient) -> None:
        """No parameter of the visitor takes the challenge out of the request."""
        begun = client.get("/auth/fake/login?code_challenge_method=plain&code_challenge=x")
        query = parse_qs(urlsplit(begun.location).query)
        assert query["code_challenge_method"] == ["S256"]
        assert len(query["code_challenge"][0]) == 43

    def test_a_code_without_its_verifier_is_worthless(
        self, client: FlaskClient, callback_query: CallbackQuery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The provider refuses a code whose verifier is not posted; control: with it, it issues tokens."""
        state = client.application.extensions["tokenrotate"]
        exchange = state.exchange
        monkeypatch.setattr(
            state,
            "exchange",
            lambda attempt, *args: exchange(replace(attempt, verifier=Secret("")), *args),
        )
        assert client.get(CALLBACK + urlencode(callback_query(client))).status_code in (400, 502)
        monkeypatch.undo()
        assert accepted(client, callback_query(client))


class TestHostInjection:
    """Whoever sends a request chooses its Host and X-Forwarded headers, and not where codes are sent."""

    def redirect_uri(self, client: FlaskClient, base_url: str, **headers: str) -> str:
        begun = client.get("/auth/fake/login", base_url=base_url, headers=headers)
        return parse_qs(urlsplit(begun.location).query)["redirect_uri"][0]

    def test_a_host_that_is_not_trusted_is_refused(self, make_app: MakeApp) -> None:
        """With TRUSTED_HOSTS a foreign Host is 400 and begins nothing; a trusted one goes on."""
        app, _ = make_app(TRUSTED_HOSTS=["app.example.com"])
        client = app.test_client()
        refused = client.get("/auth/fake/login", base_url="https://evil.example")
        assert (refused.status_code, refused.location) == (400, None)
        assert urlsplit(self.redirect_uri(client, "https://app.example.com")).hostname == "app.example.com"

    def test_the_base_url_wins(self, make_app: MakeApp) -> None:
        """With TOKENROTATE_BASE_URL a foreign Host is sent to the real origin, where its sign-in begins."""
        app, _ = make_app(TOKENROTATE_BASE_URL="https://app.example.com")
        client = app.test_client()
        sent = client.get("/auth/fake/login", base_url="https://evil.example")
        assert sent.location.startswith("https://app.example.com/auth/fake/login")
        assert self.redirect_uri(client, "https://app.example.com").startswith("https://app.example.com/")

    def test_forwarded_headers_are_not_read(self, client: FlaskClient) -> None:
        """X-Forwarded-* count only where the application has put ProxyFix in front."""
        headers = {
            "X-Forwarded-Host": "evil.example",
            "X-Forwarded-Prefix": "/evil",
            "Forwarded": "host=evil",
        }
        assert "evil" not in self.redirect_uri(client, "http://localhost", **headers)

    def test_without_either_a_warning_names_both_cures(
        self, make_app: MakeApp, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A public host that nothing limits is warned about once; loopback and limited hosts are not."""
        caplog.set_level(logging.WARNING)
        limited, _ = make_app(TRUSTED_HOSTS=["app.example.com"])
        self.redirect_uri(limited.test_client(), "https://app.example.com")
        app, _ = make_app()
        client = app.test_client()
        self.redirect_uri(client, "http://localhost")
        assert caplog.messages == []
        for _ in range(2):
            self.redirect_uri(client, "https://app.example.com")
        assert len(caplog.messages) == 1
        assert "TOKENROTATE_BASE_URL" in caplog.text
        assert "TRUSTED_HOSTS" in caplog.text


def cookie_name(state: str) -> str:
    """Return the name of an attempt's cookie over plain http."""
    return f"tokenrotate-{Secret(state).fingerprint()}"


class TestCookies:
    @pytest.mark.parametrize("planted", ["x", "a" * 4000, "a" * 42 + "!", '"><script>'])
    def test_a_planted_cookie_is_no_cookie(
        self, client: FlaskClient, callback_query: CallbackQuery, planted: str
    ) -> None:
        """A cookie that cannot be ours, oversized or not, is never hashed; control: the true one passes."""
        query = callback_query(client)
        name = cookie_name(query["state"])
        ours = client.get_cookie(name).value  # type: ignore[union-attr]
        client.set_cookie(name, planted)
        assert reason(client, query) == "no_cookie"
        client.set_cookie(name, ours)
        assert accepted(client, query)

    def test_a_sibling_host_cannot_toss_one(self, app: Flask, client: FlaskClient) -> None:
        """Over https the cookie is called __Host-, which browsers take from the host itself alone."""
        begun = client.get("/auth/fake/login", base_url="https://app.example.com")
        cookie = begun.headers["Set-Cookie"]
        assert cookie.startswith("__Host-tokenrotate-")
        for flag in ("Secure", "HttpOnly", "SameSite=Lax", "Path=/"):
            assert flag in cookie
        assert "Domain" not in cookie

    def test_a_tossed_cookie_is_not_read_over_https(self, client: FlaskClient) -> None:
        """The name without the prefix, which a sibling can set, is no way in; control: http reads it."""
        host = "app.example.com"
        begun = client.get("/auth/fake/login", base_url=f"https://{host}")
        state = parse_qs(urlsplit(begun.location).query)["state"][0]
        value = client.get_cookie(f"__Host-{cookie_name(state)}", host).value  # type: ignore[union-attr]
        victim = client.application.test_client()
        victim.set_cookie(cookie_name(state), value, domain=host)
        for scheme, expected in (("https", "no_cookie"), ("http", "provider_error")):
            response = victim.get(f"{CALLBACK}state={state}", base_url=f"{scheme}://{host}")
            assert response.json["reason"] == expected


@pytest.mark.parametrize("name", ["state", "code", "iss", "error"])
def test_oversized_and_repeated_parameters(
    client: FlaskClient, callback_query: CallbackQuery, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """They are refused before a hash is made or the database asked, and use nothing up."""
    query = callback_query(client)
    attempts = client.application.extensions["tokenrotate"].attempts
    with monkeypatch.context() as patch:
        patch.setattr(attempts, "take", lambda *_: pytest.fail("the database was asked"))
        assert reason(client, {**query, name: "a" * 5000}) == "malformed"
        assert reason(client, urlencode({**query, name: "a"}) + f"&{name}=b") == "malformed"
    assert accepted(client, query)


@pytest.mark.parametrize("page", ["login", "callback", "logout"])
def test_a_query_of_raw_bytes(client: FlaskClient, login_as: LoginAs, page: str) -> None:
    """Bytes that no browser leaves unencoded are refused and break nothing; control: encoded ones pass."""
    login_as(client)
    method = "POST" if page == "logout" else "GET"
    environ = {"QUERY_STRING": "next=/\xff"}
    response = client.open(f"/auth/fake/{page}", method=method, environ_overrides=environ)
    assert (response.status_code, response.json["reason"]) == (400, "malformed")
    response = client.open(f"/auth/fake/{page}?next=/%FF", method=method)
    assert response.status_code in (302, 204) or response.json["reason"] == "unknown_state"


def test_the_verdict_of_a_sign_in_is_a_rotation(client: FlaskClient, callback_query: CallbackQuery) -> None:
    """The control of every refusal here: an untouched callback brings a token set."""
    seen: list[object] = []
    state = client.application.extensions["tokenrotate"]
    exchange = state.exchange

    def watch(*args: Any) -> object:
        seen.append(exchange(*args))
        return seen[-1]

    state.exchange = watch
    assert accepted(client, callback_query(client))
    assert [type(each) for each in seen] == [Rotated]
