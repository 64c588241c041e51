"""`current_token`, and the same object for code outside a request."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from .request_grants import request_grants
from .state import State

if TYPE_CHECKING:
    from requests import Response

    from ..providers.resource import ProtectedSession
    from ..rotation.memo import RequestMemo
    from ..rotation.sighting import Fresh

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""Methods that may be sent twice (RFC 9110 section 9.2.2)."""


class CurrentToken:
    """A token that is fresh whenever it is read, and a client for the provider's API.

    Every property looks at the clock again, so a stream that outlives a token goes on with the next.
    Each may therefore raise what `require_fresh_token` raises.
    """

    def __init__(
        self,
        read: Callable[[], Fresh],
        refused: Callable[[Fresh], Fresh],
        api: Callable[[], ProtectedSession],
    ) -> None:
        """``read`` returns the token set to use now, ``refused`` the one after a resource server's 401."""
        self._read = read
        self._refused = refused
        self._api = api

    def __repr__(self) -> str:
        return "<CurrentToken …>"

    @property
    def access_token(self) -> str:
        """The access token itself. Prefer `get` and the like, which never let it out of sight."""
        return self._read().seen.grant.tokens.access_token.reveal()

    @property
    def expires_at(self) -> datetime | None:
        """When the access token expires, by the database's clock (aware, UTC); None if unknown."""
        expires_at = self._read().tokens.expires_at
        return None if expires_at is None else datetime.fromtimestamp(expires_at, UTC)

    @property
    def scopes(self) -> frozenset[str]:
        """The granted scopes; empty where the provider did not name them."""
        return self._read().tokens.scopes or frozenset()

    @property
    def provider(self) -> str:
        """The name of the provider."""
        return self._read().grant.provider

    @property
    def subject(self) -> str | None:
        """Who the user is at the provider."""
        return self._read().grant.subject

    @property
    def user_id(self) -> str | None:
        """Who the user is to the application (see `TokenRotate.identify`)."""
        return self._read().grant.user_id

    @property
    def grant_id(self) -> str:
        """The id of the grant, for `TokenRotate.token` in a background job."""
        return self._read().grant.id

    @property
    def token_version(self) -> int:
        """Which token set of the grant this is; 0 is the one of the sign-in."""
        return self._read().token_version

    @property
    def origin(self) -> str:
        """How this request came by it: ``"cache"``, ``"row"``, ``"rotated"`` or ``"waited"``."""
        return self._read().origin

    def request(self, method: str, url: str, **kwargs: Any) -> Response:
        """Call ``url`` with the bearer token and return the `requests.Response`.

        Keywords are those of `requests.request`; the default ``timeout`` is (3, 30) seconds. When the
        response is a 401 that blames the token, the row is read again, the token rotated at most once,
        and an idempotent method whose body can be sent again is repeated.
        """
        fresh = self._read()
        response = self._send(fresh, method, url, kwargs)
        if not _blames_the_token(response):
            return response
        newer = self._refused(fresh)
        if newer.token_version == fresh.token_version or not _may_repeat(method, kwargs):
            return response
        response.close()
        return self._send(newer, method, url, kwargs)

    def _send(self, fresh: Fresh, method: str, url: str, kwargs: dict[str, Any]) -> Response:
        return self._api().call(fresh.tokens.access_token, method, url, **kwargs)

    def get(self, url: str, **kwargs: Any) -> Response:
        """GET ``url``; see `request`."""
        return self.request("GET", url, **kwargs)

    def head(self, url: str, **kwargs: Any) -> Response:
        """HEAD ``url``; see `request`."""
        return self.request("HEAD", url, **kwargs)

    def options(self, url: str, **kwargs: Any) -> Response:
        """OPTIONS ``url``; see `request`."""
        return self.request("OPTIONS", url, **kwargs)

    def post(self, url: str, **kwargs: Any) -> Response:
        """POST to ``url``; see `request`. Never repeated."""
        return self.request("POST", url, **kwargs)

    def put(self, url: str, **kwargs: Any) -> Response:
        """PUT to ``url``; see `request`."""
        return self.request("PUT", url, **kwargs)

    def patch(self, url: str, **kwargs: Any) -> Response:
        """PATCH ``url``; see `request`. Never repeated."""
        return self.request("PATCH", url, **kwargs)

    def delete(self, url: str, **kwargs: Any) -> Response:
        """DELETE ``url``; see `request`."""
        return self.request("DELETE", url, **kwargs)


def _blames_the_token(response: Response) -> bool:
    """Return whether a 401 means the token: RFC 6750's ``invalid_token``, or no error code at all.

    Section 3.1 tells other errors (``insufficient_scope``) by their code; many APIs send none.
    """
    if response.status_code != 401:
        return False
    challenge = response.headers.get("WWW-Authenticate", "")
    return "invalid_token" in challenge or "error=" not in challenge


def _may_repeat(method: str, kwargs: dict[str, Any]) -> bool:
    """Return whether sending the request again cannot do more than sending it once."""
    body_is_spent = hasattr(kwargs.get("data"), "read") or bool(kwargs.get("files"))
    return method.upper() in IDEMPOTENT and not body_is_spent


def token_of_grant(state: State, memo: RequestMemo, read: Callable[[], Fresh]) -> CurrentToken:
    """Return the token of a grant that ``read`` looks up in ``memo``."""
    return CurrentToken(
        read=read,
        refused=lambda fresh: memo.refused(state.rotation.refused, fresh),
        api=state.api,
    )


# Not a proxy of werkzeug's: looking for an attribute through one costs more than reading the token.
current_token = CurrentToken(
    read=lambda: request_grants().fresh(),
    refused=lambda fresh: request_grants().refused(fresh),
    api=lambda: request_grants().state.api(),
)
"""The fresh token of the current request: of the provider that `require_fresh_token` named, or of the
only one registered."""
