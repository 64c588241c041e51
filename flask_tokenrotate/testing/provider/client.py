"""The client that is registered at the FakeProvider."""

from __future__ import annotations

from base64 import b64decode
from dataclasses import dataclass
from urllib.parse import unquote_plus, urlsplit

from oauthlib.common import Request

from ...rotation.tokens import Secret

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, kw_only=True, slots=True)
class Client:
    """The one client that the server knows, and the scopes that it may ask for.

    Without ``redirect_uris`` it may return to any plain http address of the loopback interface.
    """

    client_id: str
    client_secret: Secret
    redirect_uris: tuple[str, ...]
    scopes: tuple[str, ...]

    def may_return_to(self, redirect_uri: str) -> bool:
        """Say whether the browser may be sent to ``redirect_uri`` with a code."""
        if self.redirect_uris:
            return redirect_uri in self.redirect_uris
        parts = urlsplit(redirect_uri)
        return parts.scheme == "http" and parts.hostname in LOOPBACK and not parts.fragment

    def authenticates(self, request: Request, client_auth: str) -> bool:
        """Say whether the request carries the client's credentials in the way of ``client_auth``.

        Credentials sent in another way, or in two ways, are refused (RFC 6749 section 2.3).
        """
        client_id, client_secret = _credentials(request, client_auth)
        return (
            client_id == self.client_id
            and request.client_id in (None, client_id)
            and client_secret is not None
            and Secret(client_secret) == self.client_secret
        )


def _credentials(request: Request, client_auth: str) -> tuple[str | None, str | None]:
    scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
    if client_auth == "post" and not scheme:
        return request.client_id, request.client_secret
    if client_auth == "basic" and scheme.lower() == "basic" and request.client_secret is None:
        try:
            client_id, _, client_secret = b64decode(encoded, validate=True).decode().partition(":")
        except ValueError:
            return None, None
        # Both were form-encoded before they were joined (RFC 6749 section 2.3.1).
        return unquote_plus(client_id), unquote_plus(client_secret)
    return None, None
