"""What the provider sees of the client, and what the client makes of userinfo and revocation."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest

from flask_tokenrotate.errors import ProviderUnavailable, SignInFailed
from flask_tokenrotate.providers.endpoint import OAuthEndpoint
from flask_tokenrotate.rotation.ports import TokenEndpoint
from flask_tokenrotate.rotation.token_response import ResponseRules
from flask_tokenrotate.rotation.tokens import Secret, TokenSet
from flask_tokenrotate.rotation.verdict import Refused, Rotated

from .conftest import Client, Server, SystemClock, an_attempt, http, says

TOKENS = {"access_token": "at-2", "refresh_token": "rt-2", "expires_in": 3600}
ODD = {"client_id": "me:é", "client_secret": Secret("p:s w/ö+")}
Serve = Callable[..., Server]


def seen(serve: Serve, client: Client, **fields: Any) -> Any:
    """Redeem once and return the request as the server saw it."""
    server = serve(says(http(200, TOKENS)))
    client.at(server.url, **fields)
    assert isinstance(client.redeem(), Rotated)
    (request,) = server.requests
    return request


def test_basic_encodes_before_it_joins(serve: Serve, client: Client) -> None:
    """RFC 6749 section 2.3.1: both halves are form-encoded first, so that a colon stays where it is."""
    request = seen(serve, client, client_auth="basic", **ODD)
    scheme, _, value = request.headers["authorization"].partition(" ")
    assert (scheme, base64.b64decode(value)) == ("Basic", b"me%3A%C3%A9:p%3As+w%2F%C3%B6%2B")
    assert request.form == {"grant_type": "refresh_token", "refresh_token": "rt-1"}


def test_post_puts_the_credentials_into_the_body(serve: Serve, client: Client) -> None:
    """``post``: id and secret are form fields and no Authorization header is sent."""
    request = seen(serve, client, client_auth="post", **ODD)
    assert "authorization" not in request.headers
    assert (request.form["client_id"], request.form["client_secret"]) == ("me:é", "p:s w/ö+")


def test_public_client_only_names_itself(serve: Serve, client: Client) -> None:
    """``none``: the id is sent, and no secret in any form."""
    request = seen(serve, client, client_auth="none")
    assert "authorization" not in request.headers
    assert request.form == {"grant_type": "refresh_token", "refresh_token": "rt-1", "client_id": "me"}


def test_token_request_shape(serve: Serve, client: Client) -> None:
    """A form is posted and JSON asked for; extra parameters are added, a scope is not."""
    request = seen(serve, client, token_params={"audience": "api"}, scopes=("read",))
    assert (request.method, request.path) == ("POST", "/token")
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert request.headers["accept"] == "application/json"
    assert request.form["audience"] == "api"
    assert "scope" not in request.form


def test_bodies_are_oauthlibs(serve: Serve, client: Client) -> None:
    """Byte for byte what oauthlib prepares, then the client's credentials; encoded once."""
    extra = {"audience": "é&=", "body": "mine", "empty": ""}
    request = seen(
        serve, client, client_auth="post", client_secret=Secret("p:s w"), client_id="me:é", token_params=extra
    )
    assert request.raw.partition(b"\r\n\r\n")[2] == (
        b"audience=%C3%A9%26%3D&body=mine&empty=&grant_type=refresh_token&refresh_token=rt-1"
        b"&client_id=me%3A%C3%A9&client_secret=p%3As+w"
    )


def test_exchange(serve: Serve, client: Client, clock: SystemClock) -> None:
    """The code goes with its verifier and redirect_uri, and the response is read by the same table."""
    server = serve(says(http(200, TOKENS)))
    client.at(server.url)

    def exchange() -> object:
        attempt = an_attempt(verifier=Secret("v" * 43))
        return client.endpoint.exchange(attempt, Secret("code-1"), clock.monotonic() + 5)

    assert isinstance(exchange(), Rotated)
    assert server.requests[0].form == {
        "grant_type": "authorization_code",
        "code": "code-1",
        "code_verifier": "v" * 43,
        "redirect_uri": "https://app.example/cb",
        "client_id": "me",
    }
    client.at(serve(says(http(400, {"error": "invalid_grant"}))).url)
    assert exchange() == Refused(error="invalid_grant")


def test_profile_decides_what_a_code_means(serve: Serve, client: Client) -> None:
    """The provider's own rules reach the parser."""
    server = serve(says(http(200, {"error": "bad_refresh_token"})))
    client.at(server.url, response_rules=ResponseRules(refused_errors=frozenset({"bad_refresh_token"})))
    assert client.redeem() == Refused(error="bad_refresh_token")


def test_revoke_sends_the_refresh_token_first(serve: Serve, client: Client) -> None:
    """Both tokens are revoked, the one that can make others first, with the client's credentials."""
    server = serve(says(http(200)))
    client.at(server.url, client_auth="post", client_secret=Secret("s"))
    tokens = TokenSet(access_token=Secret("at-1"), refresh_token=Secret("rt-1"))
    assert client.endpoint.revoke("acme", tokens)
    shapes = [
        (request.path, request.form["token"], request.form["token_type_hint"]) for request in server.requests
    ]
    assert shapes == [("/revoke", "rt-1", "refresh_token"), ("/revoke", "at-1", "access_token")]
    assert server.requests[0].form["client_secret"] == "s"


def test_revoke_without_a_refresh_token(serve: Serve, client: Client) -> None:
    """A grant that never had a refresh token revokes its access token."""
    server = serve(says(http(200)))
    client.at(server.url)
    assert client.endpoint.revoke("acme", TokenSet(access_token=Secret("at-1")))
    assert [request.form["token"] for request in server.requests] == ["at-1"]


def test_unconfirmed_revocation(serve: Serve, client: Client) -> None:
    """An error, a provider that is down and a missing endpoint are all False, and never an exception."""
    tokens = TokenSet(access_token=Secret("at-1"), refresh_token=Secret("rt-1"))
    client.at(serve(says(http(503))).url)
    assert not client.endpoint.revoke("acme", tokens)
    client.at("http://127.0.0.1:1")
    assert not client.endpoint.revoke("acme", tokens)
    client.at("http://127.0.0.1:1", revocation_endpoint=None)
    assert not client.endpoint.revoke("acme", tokens)


def userinfo(client: Client) -> dict[str, object]:
    return client.endpoint.userinfo("acme", Secret("at-1"), client.clock.monotonic() + 5)


def test_userinfo(serve: Serve, client: Client) -> None:
    """The bearer token is in the header, and a numeric id keeps all of its digits as the subject."""
    server = serve(says(http(200, {"id": 12345678901234567890, "name": "Ada"})))
    client.at(server.url, subject_field="id")
    claims = userinfo(client)
    assert client.profile.subject(claims) == "12345678901234567890"
    assert server.requests[0].headers["authorization"] == "Bearer at-1"
    assert server.requests[0].method == "GET"


@pytest.mark.parametrize(
    "claims", [{}, {"sub": None}, {"sub": ""}, {"sub": True}, {"sub": ["x"]}, {"sub": 1.5}]
)
def test_no_subject(client: Client, claims: dict[str, object]) -> None:
    """Claims without a usable id have no subject."""
    assert client.profile.subject(claims) is None


@pytest.mark.parametrize(
    "answer",
    [
        http(401, {"error": "invalid_token"}),
        http(302, b"", "Location: http://127.0.0.1:1/"),
        http(200, b"<html>"),
        http(200, ["sub"]),
        http(200, b"[" * 200_000),
    ],
    ids=["401", "redirect", "page", "array", "nested"],
)
def test_unusable_userinfo(serve: Serve, client: Client, answer: bytes) -> None:
    """An answer that names nobody is a typed error with a cure."""
    client.at(serve(says(answer)).url)
    with pytest.raises(SignInFailed, match="userinfo") as caught:
        userinfo(client)
    assert caught.value.reason == "provider_error"
    assert "at-1" not in str(caught.value)


def test_userinfo_of_a_provider_that_is_away(serve: Serve, client: Client) -> None:
    """No answer and "busy" mean to try later; no endpoint means to register one."""
    client.at("http://127.0.0.1:1")
    with pytest.raises(ProviderUnavailable):
        userinfo(client)
    client.at(serve(says(http(503))).url)
    with pytest.raises(ProviderUnavailable):
        userinfo(client)
    client.at("http://127.0.0.1:1", userinfo_endpoint=None)
    with pytest.raises(SignInFailed, match="userinfo_endpoint"):
        userinfo(client)


def test_calls_share_nothing(serve: Serve, client: Client) -> None:
    """Each call has its own connection, and a cookie of one does not come with the next."""
    server = serve(says(http(200, TOKENS, "Set-Cookie: user=1; Path=/")))
    client.at(server.url)
    client.redeem()
    client.redeem()
    assert server.connections == 2
    assert all("cookie" not in request.headers for request in server.requests)


def test_implements_the_port(client: Client) -> None:
    """The type checker sees the endpoint as the port that the rotator asks for."""
    port: TokenEndpoint = client.endpoint
    assert isinstance(port, OAuthEndpoint)
