"""`CurrentToken`: `current_token` in a request, and the token objects for other code."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flask import g

from ..rotation.memo import RequestMemo
from .request_grants import RequestGrants, request_grants
from .state import State

if TYPE_CHECKING:
    from requests import Response
    from requests_oauthlib import OAuth2Session

    from ..rotation.sighting import Fresh


class CurrentToken:
    """A token that is fresh whenever it is read, and a client for APIs that accept it.

    Each property checks the clock again, so a streamed response that outlives a token continues with the
    next one. Each may therefore raise what `require_fresh_token` raises.
    """

    def __init__(self, read: Callable[[], Fresh], session: Callable[[], OAuth2Session]) -> None:
        """``read`` returns the token set to use now, ``session`` the session for API calls."""
        self._read = read
        self._session = session

    def __repr__(self) -> str:
        return "<CurrentToken …>"

    @property
    def access_token(self) -> str:
        """The access token. Prefer `get`, `post` and so on, which do not expose it."""
        return self._read().seen.grant.tokens.access_token.reveal()

    @property
    def expires_at(self) -> datetime | None:
        """When the access token expires (aware, UTC, by the database's clock); None if unknown."""
        expires_at = self._read().tokens.expires_at
        return None if expires_at is None else datetime.fromtimestamp(expires_at, UTC)

    @property
    def scopes(self) -> frozenset[str]:
        """The granted scopes; empty if they are not known."""
        return self._read().tokens.scopes or frozenset()

    @property
    def provider(self) -> str:
        """The name of the provider."""
        return self._read().grant.provider

    @property
    def subject(self) -> str | None:
        """The user's id at the provider; None if it is not known."""
        return self._read().grant.subject

    @property
    def user_id(self) -> str | None:
        """The user's id in the application (see `TokenRotate.identify`); None if there is none."""
        return self._read().grant.user_id

    @property
    def grant_id(self) -> str:
        """The id of the grant, for `TokenRotate.token` in a background job."""
        return self._read().grant.id

    @property
    def token_version(self) -> int:
        """A number that grows with each rotation of the grant; 0 for the token set of the sign-in."""
        return self._read().token_version

    @property
    def origin(self) -> str:
        """Where the token set came from: ``"cache"``, ``"row"``, ``"rotated"`` or ``"waited"``."""
        return self._read().origin

    @property
    def session(self) -> OAuth2Session:
        """An `OAuth2Session` for code that takes one. It sends a fresh token with each request.

        It is bound to the token's grant, and to this request (or to the object that `TokenRotate.token`
        returned): cookies and headers that are set on it are not used anywhere else.
        """
        return self._session()

    def request(self, method: str, url: str, **kwargs: Any) -> Response:
        """Send a request with the bearer token and return the `requests.Response`.

        The keywords are those of `requests.request`. The default ``timeout`` is 3 seconds to connect, and 30
        seconds between two bytes. After a 401 with ``invalid_token`` the row is read again and the token is
        rotated at most once; the request is then repeated if its method is idempotent and its body can be
        sent again.
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


def token_of_grant(
    state: State, read: Callable[[], Fresh], refused: Callable[[Fresh], Fresh]
) -> CurrentToken:
    """Return the token of one grant: ``read`` gets its token set, ``refused`` replaces one an API refused."""
    session = functools.cache(lambda: state.api(read, refused))
    return CurrentToken(read=read, session=session)


def token_of_job(state: State, grant_id: str) -> CurrentToken:
    """Return the token of a grant outside a request: its rotations end before a read of it returns."""
    memo = RequestMemo()

    def read() -> Fresh:
        return memo.fresh(state.rotation.tokens, grant_id, here=True)

    def refused(fresh: Fresh) -> Fresh:
        return memo.refused(state.rotation.refused, fresh, min_ttl=fresh.min_ttl, here=True)

    read()  # raises now, not when the token is first read
    return token_of_grant(state, read, refused)


def _session_of_request() -> OAuth2Session:
    """Return the `OAuth2Session` of the current token's grant in this request.

    Each grant has its own: two providers in one request do not share a session.
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
    # Bound to the grant: the session may be used where another provider is the current one.
    return grants.state.api(lambda: grants.fresh_of_grant(grant_id, min_ttl), grants.replace_refused)


# Not a Werkzeug proxy: an attribute access through one costs more than reading the token.
current_token = CurrentToken(read=lambda: request_grants().fresh(), session=_session_of_request)
"""The fresh token of the current request, at the provider of `require_fresh_token` or at the only one."""
