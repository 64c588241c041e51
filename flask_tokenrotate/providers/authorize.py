"""The URL that a browser is sent to for signing in."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable

from oauthlib.common import add_params_to_uri

from ..rotation.tokens import Secret
from .profile import Provider


def code_challenge(verifier: Secret) -> str:
    """Return the S256 challenge of a PKCE verifier (RFC 7636 section 4.2)."""
    digest = hashlib.sha256(verifier.reveal().encode("ascii")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def authorization_url(
    provider: Provider,
    *,
    redirect_uri: str,
    state: Secret,
    verifier: Secret,
    nonce: Secret | None = None,
    scopes: Iterable[str] | None = None,
) -> str:
    """Return the authorization request (RFC 6749 section 4.1.1) with PKCE S256, which is always on.

    ``scopes`` default to the provider's. The profile's ``authorize_params`` cannot change what the protocol
    sets itself. A query that the endpoint already has is kept.
    """
    wanted = provider.scopes if scopes is None else tuple(scopes)
    params = {
        **provider.authorize_params,
        "response_type": "code",
        "client_id": provider.client_id,
        "redirect_uri": redirect_uri,
        "state": state.reveal(),
        "code_challenge": code_challenge(verifier),
        "code_challenge_method": "S256",
    }
    if wanted:
        params["scope"] = " ".join(wanted)
    if nonce is not None:
        params["nonce"] = nonce.reveal()
    return str(add_params_to_uri(provider.authorization_endpoint, list(params.items())))
