"""The URL that a browser is sent to for signing in."""

from __future__ import annotations

import base64
import hashlib

from oauthlib.common import add_params_to_uri

from ..attempts import Attempt
from ..provider import Provider
from ..rotation.tokens import Secret


def code_challenge(verifier: Secret) -> str:
    """Return the S256 challenge of a PKCE verifier (RFC 7636 section 4.2)."""
    digest = hashlib.sha256(verifier.reveal().encode("ascii")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def authorization_url(provider: Provider, attempt: Attempt, state: Secret) -> str:
    """Return the authorization request of ``attempt`` (RFC 6749 section 4.1.1), always with PKCE S256.

    The profile's ``authorize_params`` cannot change what the protocol sets itself. A query that the endpoint
    already has is kept.
    """
    params = {
        **provider.authorize_params,
        "response_type": "code",
        "client_id": provider.client_id,
        "redirect_uri": attempt.redirect_uri,
        "state": state.reveal(),
        "code_challenge": code_challenge(attempt.verifier),
        "code_challenge_method": "S256",
        "nonce": attempt.nonce.reveal(),
    }
    if attempt.scopes:
        params["scope"] = " ".join(sorted(attempt.scopes))
    return str(add_params_to_uri(provider.authorization_endpoint, list(params.items())))
