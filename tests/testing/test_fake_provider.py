"""The FakeProvider is strict: which requests it accepts, and its responses to others."""

from __future__ import annotations

import re

import pytest
import requests

from flask_tokenrotate.testing import FakeProvider, ManualClock

from .conftest import REDIRECT_URI, ClientApp, parameters_of


class TestAuthorize:
    def test_a_sign_in_brings_a_code_the_state_and_the_issuer(self, app: ClientApp) -> None:
        """The callback carries code, state and the issuer of RFC 9207."""
        location = app.provider.sign_in(app.authorization_url())
        back = parameters_of(location)
        assert location.startswith(f"{REDIRECT_URI}?")
        assert back["state"] == "canary-state"
        assert back["iss"] == app.provider.url
        assert back["code"]

    def test_a_denial_comes_back_as_access_denied(self, app: ClientApp) -> None:
        """The user's no is an error to the client, with state and issuer."""
        back = parameters_of(app.provider.sign_in(app.authorization_url(), allow=False))
        assert (back["error"], back["state"]) == ("access_denied", "canary-state")
        assert back["iss"] == app.provider.url
        assert "code" not in back

    @pytest.mark.parametrize(
        ("over", "error"),
        [
            ({"code_challenge": None, "code_challenge_method": None}, "invalid_request"),
            ({"code_challenge_method": "plain"}, "invalid_request"),
            ({"code_challenge_method": None}, "invalid_request"),
            ({"code_challenge": "short"}, "invalid_request"),
            ({"scope": "profile everything"}, "invalid_scope"),
            ({"response_type": "token"}, "unsupported_response_type"),
            ({"response_type": None}, "invalid_request"),
        ],
    )
    def test_a_wrong_request_is_sent_back_as_an_error(
        self, app: ClientApp, over: dict[str, str | None], error: str
    ) -> None:
        """PKCE with S256, a known scope and response_type=code are required; no page is shown."""
        back = app.callback(**over)
        assert back["error"] == error
        assert (back["state"], back["iss"]) == ("canary-state", app.provider.url)

    @pytest.mark.parametrize(
        "over",
        [
            {"client_id": "somebody-else"},
            {"client_id": None},
            {"redirect_uri": "https://evil.example/callback"},
            {"redirect_uri": "http://evil.example/callback"},
            {"redirect_uri": "http://localhost@evil.example/callback"},
            {"redirect_uri": "http://localhost/callback#fragment"},
            {"redirect_uri": "javascript:alert(1)"},
            {"redirect_uri": None},
        ],
    )
    def test_an_untrusted_client_or_address_is_never_redirected_to(
        self, app: ClientApp, over: dict[str, str | None]
    ) -> None:
        """A wrong client id or redirect_uri ends on an error page (RFC 6749 section 4.1.2.1)."""
        page = app.http.get(app.authorization_url(**over), allow_redirects=False)
        assert page.status_code == 400
        assert page.headers["Content-Type"].startswith("text/html")
        assert "Location" not in page.headers
        with pytest.raises(ValueError, match="No consent page but 400"):
            app.provider.sign_in(app.authorization_url(**over))

    def test_registered_addresses_are_compared_exactly(self) -> None:
        """With redirect_uris given, only these are accepted, loopback or not."""
        with FakeProvider(redirect_uris=[REDIRECT_URI]) as provider:
            app = ClientApp(provider)
            assert "code" in app.callback()
            with pytest.raises(ValueError, match="No consent page"):
                app.callback(redirect_uri=f"{REDIRECT_URI}/more")

    def test_a_parameter_sent_twice_is_refused(self, app: ClientApp) -> None:
        """Authorization parameters must not repeat (RFC 6749 section 3.1)."""
        page = app.http.get(app.authorization_url() + "&state=another", allow_redirects=False)
        assert page.status_code == 400

    def test_an_address_that_is_no_form_encoding_is_refused(self, app: ClientApp) -> None:
        """Garbage in the query is the client's error, not the server's."""
        page = app.http.get(app.authorization_url() + "&x=%zz", allow_redirects=False)
        assert page.status_code == 400

    def test_the_form_is_refused_without_the_page_that_it_belongs_to(self, app: ClientApp) -> None:
        """A post from another site, or for another request, has no valid ticket and grants nothing."""
        page = app.http.get(app.authorization_url())
        ticket = re.search(r'value="([0-9a-f]{64})"', page.text)
        assert ticket is not None
        form = {"user": "mallory", "decision": "allow"}
        other_request = app.authorization_url(state="another")
        for url, sent in [
            (page.url, form),
            (page.url, {**form, "ticket": "0" * 64}),
            (other_request, {**form, "ticket": ticket[1]}),
        ]:
            assert app.http.post(url, data=sent, allow_redirects=False).status_code == 400
        control = app.http.post(page.url, data={**form, "ticket": ticket[1]}, allow_redirects=False)
        assert control.status_code == 303

    def test_a_user_needs_a_name(self, app: ClientApp) -> None:
        """A form without a user name signs nobody in."""
        with pytest.raises(ValueError, match="Give a user name"):
            app.callback(user="  ")

    def test_what_came_in_is_escaped_on_the_page(self) -> None:
        """Client and scope names are shown as text, never as markup."""
        with FakeProvider(client_id="<b>x</b>", scopes=["<i>y</i>"]) as provider:
            page = requests.get(ClientApp(provider).authorization_url(scope="<i>y</i>"), timeout=20)
        assert page.status_code == 200
        assert "<b>" not in page.text
        assert "<i>" not in page.text


class TestCodeExchange:
    def test_a_code_brings_tokens_for_the_user_who_allowed_it(self, app: ClientApp) -> None:
        """The exchange returns a bearer token response, and the token is the user's."""
        response = app.exchange(app.callback(user="bob")["code"])
        tokens = response.json()
        assert response.status_code == 200
        assert response.headers["Content-Type"] == "application/json"
        assert response.headers["Cache-Control"] == "no-store"
        assert (tokens["token_type"], tokens["expires_in"], tokens["scope"]) == ("Bearer", 3600, "profile")
        assert app.get("/userinfo", tokens["access_token"]).json()["sub"] == "bob"

    @pytest.mark.parametrize(
        ("over", "error"),
        [
            ({"code_verifier": "w" * 43}, "invalid_grant"),
            ({"code_verifier": None}, "invalid_request"),
            ({"redirect_uri": "http://localhost/elsewhere"}, "invalid_grant"),
            ({"redirect_uri": None}, "invalid_grant"),
            ({"code": "unknown"}, "invalid_grant"),
            ({"code": None}, "invalid_request"),
            ({"grant_type": "password"}, "unsupported_grant_type"),
            ({"grant_type": None}, "unsupported_grant_type"),
        ],
    )
    def test_a_wrong_exchange_brings_nothing(
        self, app: ClientApp, over: dict[str, str | None], error: str
    ) -> None:
        """Verifier and redirect_uri must be those of the authorization request."""
        code = app.callback()["code"]
        response = app.exchange(**{"code": code, **over})  # type: ignore[arg-type]
        assert (response.status_code, response.json()["error"]) == (400, error)
        assert app.provider.live_tokens() == 0

    def test_a_verifier_too_short_for_rfc_7636_is_refused(self, app: ClientApp) -> None:
        """Even where its hash fits: section 4.1 asks for 43 to 128 characters."""
        app.verifier = "short"
        assert app.exchange(app.callback()["code"]).json()["error"] == "invalid_grant"

    def test_one_wrong_verifier_uses_the_code_up(self, app: ClientApp) -> None:
        """Nobody has two guesses at a verifier."""
        code = app.callback()["code"]
        app.exchange(code, code_verifier="w" * 43)
        assert app.exchange(code).json()["error"] == "invalid_grant"
        assert app.provider.families_revoked == 0

    def test_a_code_used_twice_ends_what_it_brought(self, app: ClientApp) -> None:
        """The second use is refused, and the first one's tokens die (RFC 6749 section 4.1.2)."""
        code = app.callback()["code"]
        tokens = app.exchange(code).json()
        assert app.get("/api/me", tokens["access_token"]).status_code == 200
        assert app.exchange(code).json()["error"] == "invalid_grant"
        assert app.get("/api/me", tokens["access_token"]).status_code == 401

    def test_a_code_lives_a_minute(self, app: ClientApp, clock: ManualClock) -> None:
        """One tick before 60 s it is good, at 60 s it is not."""
        early, late = app.callback()["code"], app.callback()["code"]
        clock.advance(59.999)
        assert app.exchange(early).status_code == 200
        clock.advance(0.001)
        assert app.exchange(late).json()["error"] == "invalid_grant"


class TestClientAuthentication:
    @pytest.mark.parametrize("path", ["/token", "/revoke"])
    @pytest.mark.parametrize(
        "auth", [("demo-client", "wrong"), ("somebody-else", "demo-client-secret"), None]
    )
    def test_a_wrong_secret_is_invalid_client_and_costs_nothing(
        self, app: ClientApp, path: str, auth: tuple[str, str] | None
    ) -> None:
        """401 invalid_client; the refresh token stays good, and the reuse of one is not even noticed."""
        refresh_token = app.provider.mint()["refresh_token"]
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token, "token": refresh_token}
        response = app.post(path, form, auth=auth)
        assert (response.status_code, response.json()["error"]) == (401, "invalid_client")
        assert app.provider.presentations() == {}
        assert app.redeem(refresh_token).status_code == 200

    def test_the_challenge_names_the_scheme_that_was_used(self, app: ClientApp) -> None:
        """A client that used Basic gets a challenge for Basic (RFC 6749 section 5.2)."""
        response = app.post("/token", {"grant_type": "refresh_token", "refresh_token": "x"}, auth=("a", "b"))
        assert response.headers["WWW-Authenticate"].startswith("Basic ")

    @pytest.mark.parametrize("client_auth", ["basic", "post", "none"])
    def test_only_the_registered_way_is_accepted(self, app: ClientApp, client_auth: str) -> None:
        """Credentials in another place, in two places, or where none belong are refused."""
        app.provider.client_auth = client_auth
        assert app.auth is not None
        client_id, secret = app.auth
        in_body = {"client_id": client_id, "client_secret": secret}
        ways = {"basic": (app.auth, {}), "post": (None, in_body), "none": (None, {"client_id": client_id})}
        ways["both"] = (app.auth, in_body)
        accepted = set()
        for way, (auth, extra) in ways.items():
            form = {
                "grant_type": "refresh_token",
                "refresh_token": app.provider.mint()["refresh_token"],
                **extra,
            }
            if app.post("/token", form, auth=auth).status_code == 200:
                accepted.add(way)
        assert accepted == {client_auth}

    def test_basic_credentials_are_form_encoded_first(self) -> None:
        """A secret with a colon, a percent and a plus arrives whole (RFC 6749 section 2.3.1)."""
        with FakeProvider(client_secret="a:b%c+d e") as provider:
            app = ClientApp(provider)
            refresh_token = provider.mint()["refresh_token"]
            app.auth = (provider.client.client_id, "a:b%c+d e")
            assert app.redeem(refresh_token).status_code == 401
            app.auth = (provider.client.client_id, "a%3Ab%25c%2Bd+e")
            assert app.redeem(refresh_token).status_code == 200

    def test_broken_basic_credentials_are_refused(self, app: ClientApp) -> None:
        """What is no base64, or no UTF-8 in it, is a wrong secret and no server error."""
        form = {"grant_type": "refresh_token", "refresh_token": "x"}
        for broken in ("Basic ?", "Basic //79", "Basic", "Digest x"):
            response = app.post("/token", form, auth=None, headers={"Authorization": broken})
            assert response.status_code == 401


class TestHttp:
    def test_parameters_sent_twice_are_refused(self, app: ClientApp) -> None:
        """A second refresh_token in one request is an error, not a choice (RFC 6749 section 3.2)."""
        first, second = app.provider.mint(), app.provider.mint()
        form = [("grant_type", "refresh_token")]
        form += [("refresh_token", tokens["refresh_token"]) for tokens in (first, second)]
        response = app.post("/token", form)
        assert (response.status_code, response.json()["error"]) == (400, "invalid_request")
        assert app.provider.presentations() == {}

    def test_only_forms_are_accepted(self, app: ClientApp) -> None:
        """A JSON body is refused with the content type to use."""
        response = app.post(
            "/token", '{"grant_type": "refresh_token"}', headers={"Content-Type": "application/json"}
        )
        assert response.status_code == 400
        assert "application/x-www-form-urlencoded" in response.json()["error_description"]

    def test_parameters_in_the_address_are_refused(self, app: ClientApp) -> None:
        """A refresh token does not belong in an address."""
        refresh_token = app.provider.mint()["refresh_token"]
        response = app.post(f"/token?refresh_token={refresh_token}", {"grant_type": "refresh_token"})
        assert response.json()["error"] == "invalid_request"

    def test_a_body_that_is_too_long_is_refused(self, app: ClientApp) -> None:
        """More than 64 KiB is nobody's token request."""
        assert app.post("/token", {"refresh_token": "x" * 70_000}).status_code == 413

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", "/token", 405),
            ("GET", "/revoke", 405),
            ("PUT", "/authorize", 405),
            ("DELETE", "/api/me", 405),
            ("POST", "/log", 405),
            ("GET", "/nowhere", 404),
        ],
    )
    def test_wrong_methods_and_addresses(self, app: ClientApp, method: str, path: str, status: int) -> None:
        """405 names what is allowed, 404 is for the rest, and neither may be cached."""
        response = app.http.request(method, app.provider.url + path)
        assert response.status_code == status
        assert ("Allow" in response.headers) == (status == 405)
        assert response.headers["Cache-Control"] == "no-store"

    def test_the_discovery_document_says_what_registration_says(self, app: ClientApp) -> None:
        """Both discovery addresses name the endpoints that registration() hands out."""
        registration = app.provider.registration(scopes=["profile"])
        assert registration["scopes"] == ["profile"]
        for path in ("oauth-authorization-server", "openid-configuration"):
            found = app.get(f"/.well-known/{path}").json()
            for name in ("issuer", "authorization_endpoint", "token_endpoint", "revocation_endpoint"):
                assert found[name] == registration[name]
            assert found["code_challenge_methods_supported"] == ["S256"]
            assert found["token_endpoint_auth_methods_supported"] == ["client_secret_basic"]


class TestProtectedResource:
    @pytest.mark.parametrize("path", ["/api/me", "/userinfo"])
    def test_a_dead_token_is_told_apart_from_none(self, app: ClientApp, path: str) -> None:
        """Both are 401; only the dead one is error="invalid_token" (RFC 6750 section 3.1)."""
        none, dead = app.get(path), app.get(path, "unknown")
        assert none.status_code == dead.status_code == 401
        assert "error=" not in none.headers["WWW-Authenticate"]
        assert 'error="invalid_token"' in dead.headers["WWW-Authenticate"]

    def test_a_token_in_the_address_does_not_count(self, app: ClientApp) -> None:
        """Bearer tokens come in the header only (RFC 9700 section 4.3.2)."""
        access_token = app.provider.mint()["access_token"]
        assert app.get(f"/api/me?access_token={access_token}").status_code == 401
        assert app.get("/api/me", access_token).status_code == 200

    def test_a_token_dies_at_the_end_of_its_lifetime(self, app: ClientApp, clock: ManualClock) -> None:
        """Alive one tick before, dead at expires_in."""
        tokens = app.provider.mint("bob", scopes=["email"], expires_in=10)
        assert tokens["expires_in"] == 10
        clock.advance(9.5)
        assert app.get("/api/me", tokens["access_token"]).json() == {
            "user": "bob",
            "scopes": ["email"],
            "seconds_left": 0.5,
        }
        clock.advance(0.5)
        assert app.get("/api/me", tokens["access_token"]).status_code == 401

    def test_access_tokens_can_be_ended_by_hand(self, app: ClientApp) -> None:
        """expire_access_tokens ends one user's or all, and leaves the refresh tokens good."""
        alice, bob = app.provider.mint("alice"), app.provider.mint("bob")
        assert app.provider.expire_access_tokens("alice") == 1
        assert app.get("/api/me", alice["access_token"]).status_code == 401
        assert app.get("/api/me", bob["access_token"]).status_code == 200
        assert app.provider.expire_access_tokens() == 1
        assert app.redeem(alice["refresh_token"]).status_code == 200


class TestRevocation:
    def test_a_refresh_token_takes_its_family_along(self, app: ClientApp) -> None:
        """Nothing of that sign-in is left alive; another user's is (RFC 7009 section 2.1)."""
        alice, bob = app.provider.mint("alice"), app.provider.mint("bob")
        assert app.revoke(alice["refresh_token"]).status_code == 200
        assert (app.provider.live_tokens("alice"), app.provider.live_tokens("bob")) == (0, 2)
        assert app.get("/api/me", alice["access_token"]).status_code == 401
        assert app.redeem(alice["refresh_token"]).json()["error"] == "invalid_grant"
        assert app.redeem(bob["refresh_token"]).status_code == 200
        assert app.provider.families_revoked == 0

    def test_an_access_token_dies_alone(self, app: ClientApp) -> None:
        """Its refresh token stays good."""
        tokens = app.provider.mint()
        app.revoke(tokens["access_token"])
        assert app.get("/api/me", tokens["access_token"]).status_code == 401
        assert app.redeem(tokens["refresh_token"]).status_code == 200

    def test_an_unknown_token_is_no_error(self, app: ClientApp) -> None:
        """The client wanted it dead, and it is (RFC 7009 section 2.2)."""
        assert app.revoke("unknown").status_code == 200
        assert app.post("/revoke", {}).json()["error"] == "invalid_request"


class TestServing:
    def test_it_can_be_stopped_and_started_on_its_port(self, app: ClientApp) -> None:
        """While stopped it refuses connections; after that it still knows its tokens."""
        tokens, url = app.provider.mint(), app.provider.url
        app.provider.stop()
        with pytest.raises(requests.ConnectionError, match="refused"):
            app.get("/api/me", tokens["access_token"])
        app.provider.start()
        assert app.provider.url == url
        assert app.get("/api/me", tokens["access_token"]).status_code == 200

    def test_mistakes_in_its_use_say_what_to_do(self) -> None:
        """No address before the start, no second start, no taken port, no address of the outside."""
        provider = FakeProvider()
        with pytest.raises(RuntimeError, match=r"call start\(\)"):
            _ = provider.url
        with provider:
            with pytest.raises(RuntimeError, match="already running"):
                provider.start()
            port = int(provider.url.rpartition(":")[2])
            with pytest.raises(OSError, match="in use"):
                FakeProvider(port=port).start()
        provider.stop()
        with pytest.raises(ValueError, match=r"does not listen on '0\.0\.0\.0'"):
            FakeProvider(host="0.0.0.0")
