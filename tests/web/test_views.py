"""Sign-in, callback and sign-out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from flask import Flask, session
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from flask_tokenrotate import signed_in
from flask_tokenrotate.testing import FakeProvider, LoginAs
from flask_tokenrotate.web.urls import safe_next

from .conftest import MakeApp

SignInAs = Callable[..., Any]


def begin(client: FlaskClient, path: str = "/auth/fake/login", **kwargs: Any) -> str:
    """Begin a sign-in and return the provider's address."""
    return str(client.get(path, **kwargs).location)


class TestSignIn:
    def test_the_whole_way(self, client: FlaskClient, sign_in: SignInAs) -> None:
        """A page that needs a token sends the browser to sign in, and it comes back to the page."""
        page = client.get("/me?x=1", headers={"Accept": "text/html"})
        assert page.status_code == 302
        back = sign_in(client, "alice", page.location)
        assert (back.status_code, back.location) == (303, "/me?x=1")
        assert client.get("/me").json["user"] == "alice"

    def test_pkce_s256_state_and_nonce_are_always_there(self, client: FlaskClient) -> None:
        """Each attempt has its own state, nonce and challenge, and nothing of the verifier."""
        queries = [parse_qs(urlsplit(begin(client)).query) for _ in range(2)]
        for query in queries:
            assert query["code_challenge_method"] == ["S256"]
            assert query["response_type"] == ["code"]
            assert len(query["code_challenge"][0]) == 43
        for name in ("state", "nonce", "code_challenge"):
            assert queries[0][name] != queries[1][name]

    def test_two_tabs_at_once_both_work(self, client: FlaskClient, fake_provider: FakeProvider) -> None:
        """Two attempts of one browser do not disturb each other, even if neither knew of the other."""
        tabs = [client.application.test_client() for _ in range(2)]
        begun = [tab.get("/auth/fake/login") for tab in tabs]
        for response in begun:
            name, _, value = response.headers["Set-Cookie"].partition(";")[0].partition("=")
            client.set_cookie(name, value)
        for response in reversed(begun):
            assert client.get(fake_provider.sign_in(response.location)).status_code == 303

    def test_the_session_id_is_new(self, app: Flask, client: FlaskClient, sign_in: SignInAs) -> None:
        """A session id that was known before the sign-in is worth nothing after it."""

        @app.get("/touch")
        def touch() -> str:
            session["cart"] = "full"
            return session.sid  # type: ignore[attr-defined]

        before = client.get("/touch").text
        sign_in(client)
        after = client.get("/touch").text
        assert before != after
        stranger = app.test_client()
        stranger.set_cookie("session", before)
        assert stranger.get("/me").status_code == 401

    def test_a_new_sign_in_ends_the_old_grant(
        self, app: Flask, client: FlaskClient, sign_in: SignInAs
    ) -> None:
        """Signing in again makes a new grant and ends the one that it replaces."""
        sign_in(client, "alice")
        old = client.get("/me").json["grant"]
        sign_in(client, "bob")
        assert client.get("/me").json["user"] == "bob"
        with app.app_context():
            row = app.extensions["tokenrotate"].grants.load(old)
        assert row.end_reason == "replaced"

    def test_the_signal_carries_who_it_is(self, app: Flask, client: FlaskClient, sign_in: SignInAs) -> None:
        """Receivers learn the user and the claims, and no token."""
        heard: list[dict[str, Any]] = []

        def receive(sender: Flask, **facts: Any) -> None:
            heard.append({"sender": sender, **facts})

        with signed_in.connected_to(receive, sender=app):
            sign_in(client, "alice")
        assert heard[0]["sender"] is app
        assert (heard[0]["subject"], heard[0]["provider"]) == ("alice", "fake")
        assert "token" not in str(heard[0]["claims"])

    def test_identify_chooses_the_user_id(self, make_app: MakeApp, sign_in: SignInAs) -> None:
        """The application's own user id goes onto the grant."""
        app, rotate = make_app()

        @rotate.identify
        def user_of(provider: str, claims: Any) -> str:
            return f"{provider}/{claims['sub']}"

        client = app.test_client()
        sign_in(client, "alice")
        assert client.get("/me").json["user"] == "fake/alice"

    def test_an_unknown_provider_is_not_found(self, client: FlaskClient) -> None:
        """A name in an address is the visitor's input: 404, not a server error."""
        assert client.get("/auth/nobody/login").status_code == 404
        assert client.get("/auth/nobody/callback").status_code == 404


class TestMismatch:
    """The callback's failures are told apart, and each says what to do."""

    def callback(self, client: FlaskClient, **query: str) -> Any:
        return client.get("/auth/fake/callback?" + urlencode(query), headers={"Accept": "text/html"})

    def reason(self, client: FlaskClient, **query: str) -> tuple[int, str]:
        response = client.get("/auth/fake/callback?" + urlencode(query))
        return response.status_code, response.json["reason"]

    def back(self, client: FlaskClient, provider: FakeProvider, **kwargs: Any) -> dict[str, str]:
        address = provider.sign_in(begin(client), **kwargs)
        return {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}

    def test_no_cookie(self, app: Flask, client: FlaskClient, fake_provider: FakeProvider) -> None:
        """Another browser, or one without cookies, cannot finish the sign-in; the first still can."""
        query = self.back(client, fake_provider)
        assert self.reason(app.test_client(), **query) == (400, "no_cookie")
        other = app.test_client()
        begin(other)
        assert self.reason(other, **query) == (400, "no_cookie")
        assert self.callback(client, **query).status_code == 303

    def test_already_used(self, client: FlaskClient, fake_provider: FakeProvider) -> None:
        """A reloaded callback gets its own error."""
        query = self.back(client, fake_provider)
        self.callback(client, **query)
        assert self.reason(client, **query) == (400, "already_used")

    def test_expired(self, app: Flask, client: FlaskClient, fake_provider: FakeProvider) -> None:
        """An attempt that took too long gets its own error."""
        query = self.back(client, fake_provider)
        with app.app_context():
            engine = app.extensions["tokenrotate"].grants._transactions._database.engine()
            with engine.begin() as connection:
                connection.execute(text("UPDATE tokenrotate_attempts SET expires_at = expires_at - 10000"))
        assert self.reason(client, **query) == (400, "expired")

    def test_other_host(self, app: Flask, client: FlaskClient, fake_provider: FakeProvider) -> None:
        """localhost and 127.0.0.1 do not share cookies; the page says that, and not "no cookie"."""
        query = self.back(client, fake_provider)
        other = app.test_client()
        response = other.get("/auth/fake/callback?" + urlencode(query), base_url="http://127.0.0.1")
        assert response.json["reason"] == "other_host"
        assert "TOKENROTATE_BASE_URL" in response.json["detail"]

    def test_unknown_state(self, client: FlaskClient) -> None:
        """A made-up or missing state is refused."""
        begin(client)
        assert self.reason(client, code="x", state="made-up")[1] == "unknown_state"
        assert self.reason(client, code="x")[1] == "unknown_state"

    def test_denied_by_the_user(self, client: FlaskClient, fake_provider: FakeProvider) -> None:
        """Denial is a case of its own, and no error in the log."""
        query = self.back(client, fake_provider, allow=False)
        assert self.reason(client, **query) == (400, "denied")

    def test_other_issuer(self, client: FlaskClient, fake_provider: FakeProvider) -> None:
        """A response that names another issuer is refused (RFC 9207), and its code is not sent anywhere."""
        query = self.back(client, fake_provider)
        assert self.reason(client, **{**query, "iss": "https://evil.example"}) == (400, "issuer_mismatch")
        assert [entry.grant_type for entry in fake_provider.log] == []

    def test_other_providers_callback(self, make_app: MakeApp, fake_provider: FakeProvider) -> None:
        """An attempt that began at one provider does not end at another's callback (mix-up)."""
        app, rotate = make_app()
        rotate.register("other", **fake_provider.registration())
        client = app.test_client()
        query = self.back(client, fake_provider)
        response = client.get("/auth/other/callback?" + urlencode(query))
        assert response.json["reason"] == "issuer_mismatch"

    def test_a_wrong_code(self, client: FlaskClient, fake_provider: FakeProvider) -> None:
        """A code that the provider does not know fails the sign-in, not the server."""
        query = self.back(client, fake_provider)
        assert self.reason(client, **{**query, "code": "made-up"}) == (400, "exchange_failed")

    def test_a_provider_that_is_away(self, client: FlaskClient, fake_provider: FakeProvider) -> None:
        """An outage at the exchange is 503, with when to try again."""
        query = self.back(client, fake_provider)
        fake_provider.outage = True
        response = self.callback(client, **query)
        assert response.status_code == 503
        assert int(response.headers["Retry-After"]) >= 1

    def test_a_hostile_error_is_not_echoed(self, client: FlaskClient) -> None:
        """What stands in the address is not repeated on the page."""
        state = parse_qs(urlsplit(begin(client)).query)["state"][0]
        response = self.callback(
            client, state=state, error="<script>alert(1)</script>", error_description="<b>call 555</b>"
        )
        assert response.status_code == 400
        assert "script" not in response.text
        assert "555" not in response.text

    def test_the_page_is_private(self, client: FlaskClient) -> None:
        """Failure pages are not cached, leak no referrer and run no script."""
        response = self.callback(client, state="x", code="y")
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        assert "Sign in again" in response.text


class TestNext:
    @pytest.mark.parametrize(
        "address",
        ["//evil.example", "/\\evil.example", "https://evil.example", "javascript:alert(1)", "evil", "",
         "/\tevil", "/a\nb", "/ a", "\\\\evil.example", "/ä", "///evil.example", "/" + "a" * 3000, "http:/x"],
    )  # fmt: skip
    def test_other_origins_are_refused(self, address: str) -> None:
        """Everything that a browser could take for another origin becomes the front page."""
        assert safe_next(address) == "/"

    @pytest.mark.parametrize("address", ["/", "/me", "/a/b?c=d&e=%2F%2F", "/a#b", "/a?next=//x", "/@me:80"])
    def test_addresses_of_this_site_are_kept(self, address: str) -> None:
        """The control of the test above."""
        assert safe_next(address) == address

    @pytest.mark.parametrize(
        "path", ["/files/my%20file", "/files/a%3Fb", "/files/50%25", "/files/%C3%A9", "/a;b=c,d?x=1&y=%2F"]
    )
    def test_the_page_that_was_wanted_comes_back_as_it_was(
        self, app: Flask, client: FlaskClient, path: str
    ) -> None:
        """Encoded paths survive the way through the sign-in."""
        view = app.view_functions["me"]
        app.add_url_rule("/<path:rest>", "rest", lambda rest: view())
        login = client.get(path, headers={"Accept": "text/html"}).location
        assert parse_qs(urlsplit(login).query)["next"] == [path]
        assert safe_next(path) == path

    @given(st.text(max_size=40))
    def test_whatever_comes_the_result_is_relative(self, address: str) -> None:
        """The result always starts with one slash and has no host."""
        result = safe_next(address)
        assert result.startswith("/")
        assert not result.startswith(("//", "/\\"))
        assert not urlsplit(result).netloc


class TestSignOut:
    def test_nothing_is_usable_afterwards(
        self, app: Flask, client: FlaskClient, sign_in: SignInAs, fake_provider: FakeProvider
    ) -> None:
        """The row is ended, the session empty, and nothing lives at the provider."""
        sign_in(client)
        grant = client.get("/me").json["grant"]
        assert fake_provider.live_tokens() > 0
        assert client.post("/auth/fake/logout").status_code == 204
        assert client.get("/me").status_code == 401
        assert fake_provider.live_tokens() == 0
        with app.app_context():
            assert app.extensions["tokenrotate"].grants.load(grant).end_reason == "signed_out"

    def test_a_session_that_comes_back_revives_nothing(
        self, app: Flask, client: FlaskClient, login_as: LoginAs
    ) -> None:
        """The row decides: a session written back after the sign-out gives no token."""
        grant = login_as(client)
        client.post("/auth/fake/logout")
        with client.session_transaction() as revived:
            revived["_tokenrotate_grant:fake"] = grant.id
        response = client.get("/me")
        assert (response.status_code, response.json["reason"]) == (401, "signed_out")

    def test_it_succeeds_while_the_provider_is_down(
        self, client: FlaskClient, login_as: LoginAs, fake_provider: FakeProvider
    ) -> None:
        """A provider that is away changes nothing about the sign-out here."""
        login_as(client)
        fake_provider.stop()
        assert client.post("/auth/fake/logout").status_code == 204
        assert client.get("/me").status_code == 401

    def test_a_form_is_redirected(self, client: FlaskClient, login_as: LoginAs) -> None:
        """A person who pressed a button sees a page of this site next."""
        login_as(client)
        html = {"Accept": "text/html"}
        response = client.post("/auth/fake/logout", data={"next": "/bye"}, headers=html)
        assert (response.status_code, response.location) == (303, "/bye")
        response = client.post("/auth/fake/logout", data={"next": "//evil.example"}, headers=html)
        assert response.location == "/"

    def test_a_link_does_not_sign_out(self, client: FlaskClient, login_as: LoginAs) -> None:
        """Another site's link or image cannot sign anybody out: GET is not allowed."""
        login_as(client)
        assert client.get("/auth/fake/logout").status_code == 405
        assert client.get("/me").status_code == 200


class TestBehindAProxy:
    def test_one_warning_with_the_line_to_add(
        self, client: FlaskClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        """X-Forwarded-Proto that nobody reads is said once, with the cure."""
        with caplog.at_level(logging.WARNING):
            for _ in range(2):
                begin(client, headers={"X-Forwarded-Proto": "https"})
        warnings = [record.message for record in caplog.records if "X-Forwarded-Proto" in record.message]
        assert len(warnings) == 1
        assert "ProxyFix(app.wsgi_app, x_proto=1, x_host=1)" in warnings[0]

    def test_proxy_fix_silences_it(
        self, app: Flask, client: FlaskClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The control: with ProxyFix there is no warning, and the address is https."""
        from werkzeug.middleware.proxy_fix import ProxyFix

        app.wsgi_app = ProxyFix(app.wsgi_app, x_proto=1)  # type: ignore[method-assign]
        address = begin(client, headers={"X-Forwarded-Proto": "https"})
        assert "redirect_uri=https%3A" in address
        assert not caplog.records

    def test_base_url_overrides(self, make_app: MakeApp) -> None:
        """TOKENROTATE_BASE_URL is the origin of the callback, and of the sign-in that leads to it."""
        app, _ = make_app(TOKENROTATE_BASE_URL="https://App.example.com:443/")
        client = app.test_client()
        hop = begin(client, "/auth/fake/login?next=/me", base_url="http://10.0.0.1/mounted")
        assert hop == "https://app.example.com/mounted/auth/fake/login?next=%2Fme&hop=1"
        address = begin(client, base_url="https://app.example.com")
        assert "redirect_uri=https%3A%2F%2Fapp.example.com%2Fauth%2Ffake%2Fcallback" in address

    def test_a_proxy_that_hides_the_host_makes_no_circle(self, make_app: MakeApp) -> None:
        """The public origin is tried once; behind such a proxy the next request goes on."""
        app, _ = make_app(TOKENROTATE_BASE_URL="https://app.example.com")
        client = app.test_client()
        hop = urlsplit(begin(client, base_url="http://127.0.0.1:8000"))
        address = begin(client, f"{hop.path}?{hop.query}", base_url="http://127.0.0.1:8000")
        assert "redirect_uri=https%3A%2F%2Fapp.example.com" in address


class TestAbandoned:
    def test_tokens_of_a_sign_in_that_fails_late_are_kept(self, make_app: MakeApp, sign_in: SignInAs) -> None:
        """When it fails after the code was exchanged, the tokens are kept in a grant that has ended."""
        app, rotate = make_app()
        rotate.identify(lambda provider, claims: 4711)  # type: ignore[arg-type, return-value]
        client = app.test_client()
        response = sign_in(client)
        assert response.json["code"] == "misconfigured"
        with app.app_context():
            engine = app.extensions["tokenrotate"].grants._transactions._database.engine()
            with engine.connect() as connection:
                rows = connection.execute(text("SELECT end_reason FROM tokenrotate_grants")).all()
        assert rows == [("abandoned",)]
        assert client.get("/me").json["reason"] == "no_grant"


class TestCookies:
    def test_flags_over_tls(self, client: FlaskClient) -> None:
        """The browser's cookie is host-bound, secure, invisible to scripts, and survives the way back."""
        response = client.get("/auth/fake/login", base_url="https://app.example.com")
        cookie = response.headers["Set-Cookie"]
        assert cookie.startswith("__Host-tokenrotate-")
        for flag in ("Secure", "HttpOnly", "SameSite=Lax", "Path=/"):
            assert flag in cookie

    def test_plain_http_on_loopback_works(self, client: FlaskClient) -> None:
        """On this machine the cookie is sent without TLS, so it must not be Secure."""
        assert "Secure" not in client.get("/auth/fake/login").headers["Set-Cookie"]
