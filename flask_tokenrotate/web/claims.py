"""The claims about the user who signs in: from the ID token and the userinfo endpoint."""

from __future__ import annotations

import time
from collections.abc import Mapping

from ..errors import SignInFailed
from ..provider import Provider
from ..rotation.id_token import read_claims
from ..rotation.tokens import Secret, TokenResponse
from .state import Claims, State

CLOCK_TOLERANCE = 120.0
"""Seconds by which the provider's clock may differ when the expiry of an ID token is checked."""


def user_claims(state: State, profile: Provider, response: TokenResponse, nonce: Secret) -> Claims:
    """Return the claims of the ID token and of userinfo; empty if the provider has neither.

    Raises `SignInFailed` for an ID token that was not issued for this sign-in, and what
    `OAuthEndpoint.userinfo` raises.
    """
    claims: dict[str, object] = {}
    if response.id_token is not None:
        claims.update(_id_token_claims(profile, response.id_token, nonce))
    if profile.userinfo_endpoint is not None:
        userinfo = state.userinfo(profile.name, response.access_token, state.call_deadline())
        if "sub" in claims and userinfo.get("sub", claims["sub"]) != claims["sub"]:
            # OpenID Connect Core section 5.3.2: both must have the same subject.
            raise _mismatch(profile, "the userinfo endpoint names another user than the ID token")
        claims.update(userinfo)
    return claims


def _id_token_claims(profile: Provider, id_token: Secret, nonce: Secret) -> Mapping[str, object]:
    """Check an ID token's claims (OpenID Connect Core section 3.1.3.7) and return them."""
    claims = read_claims(id_token)
    if claims is None:
        raise _mismatch(profile, "its ID token cannot be read")
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    expires_at = claims.get("exp")
    if profile.issuer is not None and claims.get("iss") != profile.issuer:
        raise _mismatch(profile, "its ID token has another issuer")
    if profile.client_id not in audiences:
        raise _mismatch(profile, "its ID token was issued for another client")
    if not isinstance(expires_at, int | float) or expires_at < time.time() - CLOCK_TOLERANCE:
        raise _mismatch(profile, "its ID token has expired; check this server's clock")
    if not isinstance(claims.get("nonce"), str) or Secret(claims["nonce"]) != nonce:
        raise _mismatch(profile, "its ID token belongs to another sign-in")
    return {name: value for name, value in claims.items() if name != "nonce"}


def _mismatch(profile: Provider, problem: str) -> SignInFailed:
    return SignInFailed(
        profile.name, "identity_mismatch", f"The response of {profile.name!r} was not accepted: {problem}."
    )
