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
    """The client of the server, and the scopes that it may request.

    Without ``redirect_uris``, any plain http URL of the loopback interface is accepted.
    """

    client_id: str
    client_secret: Secret
    redirect_uris: tuple[str, ...]
    scopes: tuple[str, ...]

    def accepts_redirect_uri(self, redirect_uri: str) -> bool:
        """Return whether ``redirect_uri`` is registered."""
        if self.redirect_uris:
            return redirect_uri in self.redirect_uris
        parts = urlsplit(redirect_uri)
        return parts.scheme == "http" and parts.hostname in LOOPBACK and not parts.fragment

    def authenticates(self, request: Request, client_auth: str) -> bool:
        """Return whether the request has the client's credentials, sent as ``client_auth`` says.

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
