"""Calls to the APIs that the access tokens are for."""

from __future__ import annotations

from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
from requests.auth import AuthBase
from requests_oauthlib import OAuth2Session

from ..errors import InvalidTokenResponse
from ..rotation.tokens import Secret
from .transport import ignore_surroundings
from .urls import check_url

TIMEOUT = (3.0, 30.0)
"""Seconds to connect, and seconds between two bytes of the answer."""


class PlainSession(OAuth2Session):
    """A requests-oauthlib session that takes nothing from its surroundings but a CA bundle."""

    def __init__(self) -> None:
        super().__init__()
        ignore_surroundings(self)

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        """Send a request; raises `ConfigurationError` for plain http to anything but this machine."""
        check_url(url, "The address of this request")
        return requests.Session.request(self, method, url, *args, **kwargs)


class ProtectedSession(PlainSession):
    """Sends requests with a bearer token over https, or over http to this machine.

    It can be shared between users: the token comes with each call, and no cookie is kept. A
    redirect to another host, port or scheme goes without the token.
    """

    def __init__(self) -> None:
        super().__init__()
        # A cookie that an API sets for one user must not go out with the next one's request.
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))

    def call(self, access_token: Secret, method: str, url: str, **kwargs: Any) -> requests.Response:
        """Send a request with ``access_token``; keywords as for ``requests.request``.

        ``timeout`` defaults to `TIMEOUT`. Raises `ConfigurationError` for plain http to another host,
        `InvalidTokenResponse` for a token that no header can carry, and what requests raises.
        """
        check_sendable(access_token)
        kwargs.setdefault("timeout", TIMEOUT)
        return self.request(method, url, auth=_Bearer(access_token), **kwargs)


def check_sendable(access_token: Secret) -> None:
    """Raise `InvalidTokenResponse` for a token that no header can carry.

    The libraries below would say so with the token itself in their errors.
    """
    token = access_token.reveal()
    if not token or not all("!" <= character <= "~" for character in token):
        raise InvalidTokenResponse(
            "The provider issued an access token with characters that no HTTP header can carry "
            "(RFC 6750 section 2.1). Sign in again, or ask the provider."
        )


class _Bearer(AuthBase):
    """Sets the Authorization header of one request (RFC 6750 section 2.1)."""

    def __init__(self, access_token: Secret) -> None:
        self._access_token = access_token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._access_token.reveal()}"
        return request
