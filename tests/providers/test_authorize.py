"""The URL of the authorization request."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

from flask_tokenrotate.providers.authorize import authorization_url, code_challenge
from flask_tokenrotate.providers.build import build_provider
from flask_tokenrotate.rotation.tokens import Secret

from .conftest import an_attempt

VERIFIER = Secret("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"

FIELDS: dict[str, Any] = {
    "client_id": "me&you",
    "client_auth": "none",
    "authorization_endpoint": "https://as.example/authorize?tenant=7",
    "token_endpoint": "https://as.example/token",
}


def query(fields: dict[str, Any] | None = None, **options: Any) -> dict[str, str]:
    url = authorization_url(
        build_provider("acme", FIELDS, fields or {}), an_attempt(verifier=VERIFIER, **options), Secret("st-1")
    )
    parts = urlsplit(url)
    assert (parts.scheme, parts.netloc, parts.path) == ("https", "as.example", "/authorize")
    return {name: value for name, (value,) in parse_qs(parts.query, strict_parsing=True).items()}


def test_code_challenge_is_that_of_the_rfc() -> None:
    """The example of RFC 7636 appendix B."""
    assert code_challenge(VERIFIER) == CHALLENGE


def test_request_has_what_the_protocol_needs() -> None:
    """Code flow, PKCE S256, state and nonce; the endpoint's own query stays; no scope without one."""
    assert query() == {
        "tenant": "7",
        "response_type": "code",
        "client_id": "me&you",
        "redirect_uri": "https://app.example/cb",
        "state": "st-1",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
        "nonce": "n-1",
    }


def test_scopes() -> None:
    """The attempt's scopes are asked for, in an order that does not change."""
    assert query(scopes=frozenset({"openid", "a"}))["scope"] == "a openid"


def test_a_profile_never_replaces_the_protocols_own() -> None:
    """A profile adds parameters and cannot replace the protocol's own, however it was made."""
    fields = {"authorize_params": {"prompt": "consent", "hd": "a.example"}}
    sent = query(fields)
    assert (sent["prompt"], sent["hd"]) == ("consent", "a.example")
    provider = build_provider("acme", FIELDS)
    forged = replace(provider, authorize_params={"state": "evil", "response_type": "token"})
    url = authorization_url(forged, an_attempt(), Secret("s"))
    again = parse_qs(urlsplit(url).query)
    assert (again["state"], again["response_type"]) == (["s"], ["code"])
