"""Attacks on what a signed-in user has: the session, the row, the tokens."""

from __future__ import annotations

import base64
import hmac
import json
import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask, session
from flask.testing import FlaskClient
from sqlalchemy import text

from flask_tokenrotate import TokenRotate, grant_ended
from flask_tokenrotate.providers.endpoint import OAuthEndpoint
from flask_tokenrotate.rotation.token_response import ResponseRules
from flask_tokenrotate.rotation.tokens import Secret, TokenResponse
from flask_tokenrotate.rotation.verdict import HttpResponse, Rotated, Unknown, verdict
from flask_tokenrotate.testing import FakeProvider, LoginAs
from tests.web.conftest import MakeApp

HTML = {"Accept": "text/html"}


def columns(app: Flask, statement: str, **values: Any) -> Any:
    """Run a statement on the application's database, as somebody with access to it."""
    grants = app.extensions["tokenrotate"].grants
    with grants._transactions._database.engine().begin() as connection:
        return connection.execute(text(statement), values)


class TestCrossSiteSignOut:
    @pytest.mark.parametrize(
        "headers",
        [
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"},
            {"Origin": "https://evil.example"},
            {"Origin": "http://localhost.evil.example"},
            {"Origin": "http://localhost:81"},
            {"Origin": "null"},
            {"Origin": ""},
        ],
    )
    def test_another_sites_page_signs_nobody_out(
        self, client: FlaskClient, login_as: LoginAs, headers: dict[str, str]
    ) -> None:
        """A foreign page's POST is 403 even where the session cookie comes with it."""
        login_as(client)
        response = client.post("/auth/fake/logout", headers=headers)
        assert (response.status_code, response.json["code"]) == (403, "cross_site_request")
        assert client.get("/me").status_code == 200

    @pytest.mark.parametrize(
        "headers",
        [
            {"Sec-Fetch-Site": "same-origin"},
            {"Sec-Fetch-Site": "none"},
            {"Sec-Fetch-Site": "same-origin", "Origin": "null"},
            {"Origin": "http://localhost"},
            {"Origin": "https://localhost"},
            {},
        ],
    )
    def test_our_own_pages_and_programs_do(
        self, client: FlaskClient, login_as: LoginAs, headers: dict[str, str]
    ) -> None:
        """The control: our own origin, whatever proxy ended TLS, and clients without either header."""
        login_as(client)
        assert client.post("/auth/fake/logout", headers=headers).status_code == 204
        assert client.get("/me").status_code == 401

    def test_the_public_origin_behind_a_proxy(self, make_app: MakeApp, login_as: LoginAs) -> None:
        """TOKENROTATE_BASE_URL is our own origin where the proxy changes the Host header."""
        app, _ = make_app(TOKENROTATE_BASE_URL="https://app.example.com")
        client = app.test_client()
        login_as(client)
        for origin, status in (("https://evil.example", 403), ("https://app.example.com", 204)):
            assert client.post("/auth/fake/logout", headers={"Origin": origin}).status_code == status

    def test_a_link_or_image_signs_nobody_out(self, client: FlaskClient, login_as: LoginAs) -> None:
        """GET is no way to sign out."""
        login_as(client)
        assert client.get("/auth/fake/logout").status_code == 405
        assert client.get("/me").status_code == 200


class TestPages:
    @pytest.mark.parametrize(
        "error", ["access_denied", "<script>alert(1)</script>", "x" * 200, "a\r\nSet-Cookie: b"]
    )
    def test_a_hostile_error_page(self, client: FlaskClient, callback_query: Any, error: str) -> None:
        """Nothing of the address is on the page, and the page may run nothing at all."""
        state = callback_query(client)["state"]
        query = {
            "state": state,
            "error": error,
            "error_description": "<script>alert('call 555')</script>",
            "error_uri": "javascript:alert(555)",
        }
        response = client.get("/auth/fake/callback", query_string=query, headers=HTML)
        assert response.status_code == 400
        assert "<h1>Sign-in failed</h1>" in response.text
        assert "script" not in response.text
        assert "555" not in response.text
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        assert "script-src" not in response.headers["Content-Security-Policy"]
        assert response.headers["X-Content-Type-Options"] == "nosniff"

    def test_nothing_of_a_sign_in_is_cached_or_leaks_by_referer(
        self, client: FlaskClient, callback_query: Any
    ) -> None:
        """Each response on the way in and out says no-store and no-referrer; the view's own does not."""
        query = callback_query(client)
        way = [
            client.get("/auth/fake/login"),
            client.get("/auth/fake/callback", query_string=query),
            client.get("/auth/fake/callback", query_string=query),
            client.post("/auth/fake/logout"),
        ]
        assert [response.status_code for response in way] == [302, 303, 400, 204]
        for response in way:
            assert response.headers["Cache-Control"] == "no-store"
            assert response.headers["Referrer-Policy"] == "no-referrer"
        assert "Referrer-Policy" not in client.get("/nothing").headers
        assert query["code"] not in way[1].location


class TestRows:
    def test_a_row_given_to_another_user_does_not_open(
        self, app: Flask, client: FlaskClient, login_as: LoginAs
    ) -> None:
        """Who can write to the database cannot give one user another's tokens; control: before, it opens."""
        grant = login_as(client, "alice")
        assert client.get("/me").json["user"] == "alice"
        app.extensions["tokenrotate"].rotation.tokens.forget(grant.id)
        columns(app, "UPDATE tokenrotate_grants SET user_id = 'mallory', subject = 'mallory'")
        assert client.get("/me").json["code"] == "grant_unreadable"

    def test_tokens_copied_into_ones_own_row_do_not_open(
        self, app: Flask, client: FlaskClient, login_as: LoginAs
    ) -> None:
        """Alice's sealed tokens in Mallory's row are refused, and Alice's own row still opens."""
        alice, mallory = login_as(client, "alice"), login_as(other := app.test_client(), "mallory")
        columns(
            app,
            "UPDATE tokenrotate_grants SET sealed = "
            "(SELECT sealed FROM tokenrotate_grants WHERE id = :alice) WHERE id = :mallory",
            alice=alice.id,
            mallory=mallory.id,
        )
        assert other.get("/me").json["code"] == "grant_unreadable"
        assert client.get("/me").json["user"] == "alice"

    def test_an_attempt_copied_under_another_state_does_not_open(
        self, app: Flask, client: FlaskClient, callback_query: Any
    ) -> None:
        """A verifier moved to another attempt is not used."""
        first, second = callback_query(client), callback_query(client)
        columns(
            app,
            "UPDATE tokenrotate_attempts SET sealed = (SELECT min(sealed) FROM tokenrotate_attempts)",
        )
        responses = [client.get("/auth/fake/callback", query_string=each) for each in (first, second)]
        kept, moved = sorted(responses, key=lambda response: response.status_code)
        assert (kept.status_code, moved.status_code) == (303, 400)
        assert moved.json["reason"] == "unknown_state"


class TestGuessing:
    def test_a_guessed_session_or_grant_id(self, app: Flask, client: FlaskClient, login_as: LoginAs) -> None:
        """Ids made up by the attacker open nothing; control: the right cookie does."""
        login_as(client)
        cookie = client.get_cookie("session")
        assert cookie is not None
        for guess in ("", "1", secrets.token_urlsafe(32), cookie.value[:-1], cookie.value + "x", "../" * 9):
            attacker = app.test_client()
            attacker.set_cookie("session", guess)
            assert attacker.get("/me").status_code == 401
        attacker = app.test_client()
        attacker.set_cookie("session", cookie.value)
        assert attacker.get("/me").status_code == 200

    def test_ids_cannot_be_guessed(self, app: Flask, client: FlaskClient, login_as: LoginAs) -> None:
        """Session ids, states and cookies have at least 128 random bits; no two are alike."""
        grants = {login_as(client).id for _ in range(20)}
        assert len(grants) == 20
        assert all(len(grant) == 32 for grant in grants)
        assert len(client.get_cookie("session").value) >= 22  # type: ignore[union-attr]

    def test_secrets_are_compared_in_constant_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """`Secret` compares by compare_digest, whatever the outcome."""
        compared: list[bool] = []
        compare = hmac.compare_digest

        def watch(one: bytes, other: bytes) -> bool:
            compared.append(compare(one, other))
            return compared[-1]

        monkeypatch.setattr(hmac, "compare_digest", watch)
        assert Secret("a" * 40) == Secret("a" * 40)
        assert Secret("a" * 40) != Secret("b" * 40)
        assert compared == [True, False]

    def test_lookups_are_by_hash(self, app: Flask, client: FlaskClient, callback_query: Any) -> None:
        """The database compares hashes, whose timing tells nothing; neither state nor cookie is stored."""
        state = callback_query(client)["state"]
        name = f"tokenrotate-{Secret(state).fingerprint()}"
        cookie = client.get_cookie(name).value  # type: ignore[union-attr]
        [row] = columns(app, "SELECT * FROM tokenrotate_attempts").mappings()
        assert len(row["state_hash"]) == len(row["browser_hash"]) == 64
        assert state not in str(dict(row))
        assert cookie not in str(dict(row))


@pytest.mark.parametrize(("depth", "expected"), [(100_000, Unknown), (10, Rotated)])
def test_a_nested_response(depth: int, expected: type) -> None:
    """JSON nested beyond all sense is an unreadable response, not a crash; control: a little is read."""
    body = b'{"access_token": "a", "x": ' + b"[" * depth + b"]" * depth + b"}"
    assert isinstance(verdict(HttpResponse(status=200, body=body), ResponseRules()), expected)


def id_token(sub: str) -> Secret:
    """Return an unsigned ID token of ``sub``."""
    body = base64.urlsafe_b64encode(json.dumps({"sub": sub}).encode()).decode().rstrip("=")
    return Secret(f"e30.{body}.")


class TestAnotherUsersSubject:
    """OpenID Connect Core section 12.2: the ID token of a refresh names the user of the sign-in."""

    @pytest.fixture
    def rotation(
        self, app: Flask, client: FlaskClient, fake_provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
    ) -> Callable[[Secret | None], Any]:
        """Return a function that rotates Alice's token with a response that has this ID token."""
        redeem = OAuthEndpoint.redeem

        def rotate(returned: Secret | None) -> Any:
            def lying(*args: Any, **kwargs: Any) -> Any:
                verdict = redeem(*args, **kwargs)
                assert isinstance(verdict, Rotated)
                return replace(verdict, response=replace(verdict.response, id_token=returned))

            monkeypatch.setattr(OAuthEndpoint, "redeem", lying)
            return client.get("/me")

        return rotate

    @pytest.fixture(autouse=True)
    def _signed_in(self, app: Flask, client: FlaskClient, fake_provider: FakeProvider) -> None:
        minted = fake_provider.mint("alice", expires_in=-1)
        with app.test_request_context():
            TokenRotate().adopt("fake", {**minted, "id_token": id_token("alice").reveal()}, user_id="alice")
            grant_id = session["_tokenrotate_grant:fake"]
        with client.session_transaction() as kept:
            kept["_tokenrotate_grant:fake"] = grant_id

    def test_it_ends_the_grant(self, app: Flask, client: FlaskClient, rotation: Any) -> None:
        """Another user's token is given to no request and saved nowhere, and the user signs in again."""
        heard: list[str] = []

        def receive(sender: Flask, **facts: Any) -> None:
            heard.append(facts["reason"])

        with grant_ended.connected_to(receive, sender=app):
            response = rotation(id_token("mallory"))
        assert (response.status_code, response.json["reason"]) == (401, "other_subject")
        assert client.get("/me").json["reason"] == "other_subject"
        assert heard == ["other_subject"]
        assert columns(app, "SELECT token_version FROM tokenrotate_grants").scalar_one() == 0

    @pytest.mark.parametrize("returned", [id_token("alice"), None, Secret("unreadable"), Secret("a.b.c")])
    def test_the_same_user_goes_on(self, rotation: Any, returned: Secret | None) -> None:
        """The control: the same subject, and an ID token that says nothing, end nothing."""
        assert rotation(returned).status_code == 200


def test_the_response_carries_the_id_token() -> None:
    """The control of the class above: an ID token is kept with the token set that it is compared with."""
    response = TokenResponse(access_token=Secret("a"), id_token=id_token("alice"))
    assert response.token_set(now=0.0).id_token == id_token("alice")
