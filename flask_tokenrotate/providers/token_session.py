"""`TokenSession`: the `OAuth2Session` that calls an API with the fresh token of a grant.

It differs from requests-oauthlib's own in what that one gets wrong where refresh tokens rotate:

- it never refreshes by itself: that ignores the response's status, sends no client credentials, and runs
  once for each thread that notices the expiry;
- each request has a timeout, and takes no proxy and no ``.netrc`` from the environment;
- plain http is allowed to this machine only, whatever ``OAUTHLIB_INSECURE_TRANSPORT`` says;
- the caller's headers are left alone. (oauthlib writes the token into the mapping it is given.)
"""

from __future__ import annotations

import copy
import functools
import threading
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import requests
from oauthlib.oauth2 import WebApplicationClient
from requests.auth import AuthBase, HTTPBasicAuth
from requests_oauthlib import OAuth2Session

from ..errors import ConfigurationError, InvalidTokenResponse, SignInRequired
from ..rotation.sighting import Fresh
from ..rotation.tokens import Secret
from ..secure_urls import check_url
from .connections import SharedConnections
from .repeating import how_to_repeat
from .transport import ignore_surroundings

TIMEOUT = (3.0, 30.0)
"""Seconds to connect, and seconds between two bytes of the response."""


class TokenSession(OAuth2Session):
    """A session whose token is the fresh one of one grant, at each request.

    ``read`` returns the token set to use now, ``refused`` the one after a resource server refused that one;
    both raise what `require_fresh_token` raises. Cookies, headers and hooks belong to this object; only the
    ``connections`` are shared. A redirect to another host, port or scheme goes without the token.
    """

    def __init__(
        self,
        connections: SharedConnections,
        read: Callable[[], Fresh],
        refused: Callable[[Fresh], Fresh],
    ) -> None:
        self._bearer = _BearerClient()
        super().__init__(client=self._bearer)
        self._read = read
        self._refused = refused
        ignore_surroundings(self)
        for scheme in ("https://", "http://"):
            self.mount(scheme, connections)

    @property
    def token(self) -> dict[str, Any]:
        """The fresh token: ``access_token``, ``token_type``, ``scope`` (a list) and ``expires_at``.

        ``scope`` and ``expires_at`` (seconds since 1970, by the database's clock) are there if they are
        known. A copy, without the refresh token, whose ``repr`` does not show it.
        """
        if not self._is_made:
            return {}
        tokens = self._read().tokens
        token = _Token(access_token=tokens.access_token.reveal(), token_type="Bearer")
        if tokens.scopes is not None:
            token["scope"] = sorted(tokens.scopes)
        if tokens.expires_at is not None:
            token["expires_at"] = tokens.expires_at
        return token

    @token.setter
    def token(self, value: object) -> None:
        if self._is_made:
            _refuse("Its token cannot be set")

    @property
    def access_token(self) -> str | None:
        """The fresh access token."""
        return self._read().tokens.access_token.reveal()

    @access_token.setter
    def access_token(self, value: object) -> None:
        _refuse("Its access token cannot be set")

    @access_token.deleter
    def access_token(self) -> None:
        _refuse("Its access token cannot be deleted")

    @property
    def authorized(self) -> bool:
        """Whether there is a token. Raises where that is not known, as when the provider is down."""
        try:
            return bool(self.access_token)
        except SignInRequired:
            return False

    def fetch_token(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise `ConfigurationError`: the extension's own pages sign in."""
        _refuse("It fetches no token")

    def token_from_fragment(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise `ConfigurationError`: the extension's own pages sign in."""
        _refuse("It fetches no token")

    def refresh_token(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise `ConfigurationError`: the extension refreshes, once for all who need it."""
        _refuse("It refreshes no token")

    def request(  # type: ignore[override]
        self,
        method: str,
        url: str | bytes,
        data: Any = None,
        headers: Mapping[str, Any] | None = None,
        withhold_token: bool = False,
        client_id: object = None,
        client_secret: object = None,
        files: Any = None,
        **kwargs: Any,
    ) -> requests.Response:
        """Call ``url`` with the bearer token and return the response.

        Keywords are those of `OAuth2Session.request` (``client_id`` and ``client_secret`` are for its
        refreshing, and not used); the default ``timeout`` is `TIMEOUT`. When the response is a 401 that
        blames the token, the row is read again, the token rotated at most once, and an idempotent method
        whose body can be sent again is repeated.

        Raises what reading the token raises, `ConfigurationError` for plain http to another host,
        `InvalidTokenResponse` for a token that no header can carry, and what requests raises.
        """
        address = url.decode() if isinstance(url, bytes) else url
        check_url(address, "The address of this request")
        kwargs.setdefault("timeout", TIMEOUT)
        send = functools.partial(self._send, method, address, data, headers, files, kwargs)
        if withhold_token:
            return send(None)
        fresh = self._read()
        rewind = how_to_repeat(method, data, {**kwargs, "files": files})
        response = send(fresh.tokens.access_token)
        if not _blames_the_token(response):
            return response
        newer = self._refused(fresh)
        if rewind is None or newer.token_version == fresh.token_version:
            return response
        rewind()
        response.close()
        return send(newer.tokens.access_token)

    def _send(
        self,
        method: str,
        url: str,
        data: Any,
        headers: Mapping[str, Any] | None,
        files: Any,
        options: Mapping[str, Any],
        access_token: Secret | None,
    ) -> requests.Response:
        options = dict(options)
        if url.lower().startswith("http:"):
            # oauthlib refuses it, and its switch is an environment variable for the whole process and all
            # hosts. `check_url` has let it pass, so oauthlib is shown the same address with https.
            url = "https:" + url[len("http:") :]
            options["auth"] = _PlainHttp(options.get("auth") or self.auth)
        if access_token is not None:
            check_sendable(access_token)
            self._bearer.sending.access_token = access_token
        return super().request(
            method,
            url,
            data=data,
            headers=dict(headers or {}),
            withhold_token=access_token is None,
            files=files,
            **options,
        )

    @property
    def _is_made(self) -> bool:
        """False while the constructor of the base class runs, which sets an empty token."""
        return hasattr(self, "_refused")


class _BearerClient(WebApplicationClient):
    """Adds the token that its thread is sending: threads may share a session."""

    def __init__(self) -> None:
        super().__init__(client_id="")
        self.sending = threading.local()

    def add_token(self, *args: Any, **kwargs: Any) -> Any:
        """Add the bearer token (RFC 6750 section 2.1), whatever type the provider calls it."""
        one = copy.copy(self)
        one.access_token = self.sending.access_token.reveal()
        return WebApplicationClient.add_token(one, *args, **kwargs)


class _PlainHttp(AuthBase):
    """Gives a request to this machine back its scheme. An ``auth`` may change all of a request."""

    def __init__(self, auth: Any) -> None:
        self._auth = HTTPBasicAuth(*auth) if isinstance(auth, tuple) else auth

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        url = "http:" + str(request.url)[len("https:") :]
        check_url(url, "The address of this request")  # a hook may have changed it
        request.url = url
        return self._auth(request) if self._auth is not None else request


class _Token(dict[str, Any]):
    def __repr__(self) -> str:
        return "<token …>"


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


def _blames_the_token(response: requests.Response) -> bool:
    """Return whether a 401 means the token: RFC 6750's ``invalid_token``, or no error code at all.

    Section 3.1 tells other errors (``insufficient_scope``) by their code; many APIs send none. A host that
    a redirect led to without the token cannot mean it.
    """
    if response.status_code != 401 or "Authorization" not in response.request.headers:
        return False
    challenge = response.headers.get("WWW-Authenticate", "")
    return "invalid_token" in challenge or "error=" not in challenge


def _refuse(what: str) -> NoReturn:
    raise ConfigurationError(
        f"This session belongs to Flask-TokenRotate, which keeps its token fresh. {what}: sign in at "
        "/auth/<provider>/login, or give tokens that you have to rotate.adopt(...)."
    )
