"""`current_token`, and the token object for code outside a request."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flask import g

from .request_grants import RequestGrants, request_grants
from .state import State

if TYPE_CHECKING:
    from requests import Response
    from requests_oauthlib import OAuth2Session

    from ..rotation.memo import RequestMemo
    from ..rotation.sighting import Fresh


class CurrentToken:
    """A token that is fresh whenever it is read, and a client for the provider's API.

    Each property checks the clock again, so a stream that outlives a token continues with the next one.
    Each may therefore raise what `require_fresh_token` raises.
    """

    def __init__(self, read: Callable[[], Fresh], session: Callable[[], OAuth2Session]) -> None:
        """``read`` returns the token set to use now, ``session`` what calls APIs with it."""
        self._read = read
        self._session = session

    def __repr__(self) -> str:
        return "<CurrentToken …>"

    @property
    def access_token(self) -> str:
        """The access token itself. Prefer `get` and the like, which do not hand it out."""
        return self._read().seen.grant.tokens.access_token.reveal()

    @property
    def expires_at(self) -> datetime | None:
        """When the access token expires, by the database's clock (aware, UTC); None if unknown."""
        expires_at = self._read().tokens.expires_at
        return None if expires_at is None else datetime.fromtimestamp(expires_at, UTC)

    @property
    def scopes(self) -> frozenset[str]:
        """The granted scopes; empty if the provider did not name them."""
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
        """How this request got it: ``"cache"``, ``"row"``, ``"rotated"`` or ``"waited"``."""
        return self._read().origin

    @property
    def session(self) -> OAuth2Session:
        """An `OAuth2Session` for code that takes one. Its token is the fresh one at each request.

        It belongs to the grant that the token is of now, and to this request (or to the object that
        `TokenRotate.token` returned): cookies and headers that are set on it are not seen elsewhere.
        """
        return self._session()

    def request(self, method: str, url: str, **kwargs: Any) -> Response:
        """Call ``url`` with the bearer token and return the `requests.Response`.

        Keywords are those of `requests.request`; the default ``timeout`` is 3 seconds to connect, and 30
        seconds between two bytes. When the response is a 401 that blames the token, the row is read again,
        the token rotated at most once, and an idempotent method whose body can be sent again is repeated.
        """
        return self.session.request(method, url, **kwargs)

    def get(self, url: str, **kwargs: Any) -> Response:
        """GET ``url``; see `request`."""
        return self.session.get(url, **kwargs)

    def head(self, url: str, **kwargs: Any) -> Response:
        """HEAD ``url``; see `request`. Redirects are not followed."""
        return self.session.head(url, **kwargs)

    def options(self, url: str, **kwargs: Any) -> Response:
        """OPTIONS ``url``; see `request`."""
        return self.session.options(url, **kwargs)

    def post(self, url: str, **kwargs: Any) -> Response:
        """POST to ``url``; see `request`. Never repeated."""
        return self.session.post(url, **kwargs)

    def put(self, url: str, **kwargs: Any) -> Response:
        """PUT to ``url``; see `request`."""
        return self.session.put(url, **kwargs)

    def patch(self, url: str, **kwargs: Any) -> Response:
        """PATCH ``url``; see `request`. Never repeated."""
        return self.session.patch(url, **kwargs)

    def delete(self, url: str, **kwargs: Any) -> Response:
        """DELETE ``url``; see `request`."""
        return self.session.delete(url, **kwargs)


def token_of_grant(state: State, memo: RequestMemo, read: Callable[[], Fresh]) -> CurrentToken:
    """Return the token of a grant that ``read`` looks up in ``memo``."""

    def refused(fresh: Fresh) -> Fresh:
        return memo.refused(state.rotation.refused, fresh, min_ttl=fresh.min_ttl)

    session = functools.cache(lambda: state.api(read, refused))
    return CurrentToken(read=read, session=session)


def _session_of_request() -> OAuth2Session:
    """Return the request's session for the grant of its current token.

    One for each grant: of two providers in one request each has its own, and so has a user who signs in
    in the middle of it.
    """
    grants = request_grants()
    fresh = grants.fresh()
    of_context = g._get_current_object().__dict__
    owner, sessions = of_context.get("_tokenrotate_sessions", (None, {}))
    if owner is not grants:  # an application context may outlive a request
        owner, sessions = of_context["_tokenrotate_sessions"] = (grants, {})
    grant_id = fresh.grant.id
    if grant_id not in sessions:
        sessions[grant_id] = _session_of_grant(grants, grant_id, fresh.min_ttl)
    session: OAuth2Session = sessions[grant_id]
    return session


def _session_of_grant(grants: RequestGrants, grant_id: str, min_ttl: float | None) -> OAuth2Session:
    # Bound to the grant: the current provider may be another one when the session is used.
    return grants.state.api(lambda: grants.of_grant(grant_id, min_ttl), grants.refused)


# Not a proxy of werkzeug's: looking for an attribute through one costs more than reading the token.
current_token = CurrentToken(read=lambda: request_grants().fresh(), session=_session_of_request)
"""The fresh token of the current request: of the provider that `require_fresh_token` named, or of the
only one registered."""
