"""The grants of one request: the memo on `flask.g` and the rows that were read with the session."""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from typing import TYPE_CHECKING, cast

from flask import (
    Flask,
    Request,
    Response,
    g,
    has_request_context,
    request,
    request_finished,
    session,
)
from werkzeug.wsgi import ClosingIterator

from ..errors import SignInRequired
from ..rotation.memo import RequestMemo
from ..sessions import grants_in_session
from .state import State, current_app_object, state_of
from .urls import login_url

if TYPE_CHECKING:
    from ..rotation.sighting import Fresh, Sighting

Demand = tuple[str, float | None]
"""The provider and the ``min_ttl`` (in seconds) that a `require_fresh_token` asks for."""

current_demand: ContextVar[Demand | None] = ContextVar("tokenrotate_demand", default=None)
"""The demand of the innermost `require_fresh_token` around the running code."""


class RequestGrants:
    """The grants of one request's session and the tokens that it has used, stored as ``g._tokenrotate``.

    It also holds the state of the application and the request. Reading a token then reads one object from
    Flask's context: an access through a proxy costs more than one to a dictionary.
    """

    __slots__ = ("__weakref__", "_ids", "_is_loaded", "_rows", "app", "demand", "memo", "request", "state")

    def __init__(self, app: Flask, state: State, request: Request) -> None:
        self.app = app
        self.state = state
        self.request = request
        self.memo = RequestMemo()
        self.demand: Demand | None = None
        self._ids: dict[str, str] = {}
        self._rows: dict[str, Sighting] | None = None
        self._is_loaded = False

    def load(self) -> None:
        """Load the session, together with its grants if it is one of the extension's own sessions."""
        if not self._is_loaded:
            joined_grants = self.state.joined_grants
            self._rows = None if joined_grants is None else joined_grants.of(_session())
            self._is_loaded = True

    def fresh(self, provider: str | None = None, min_ttl: float | None = None) -> Fresh:
        """Return the session's token set at ``provider``, fresh for ``min_ttl`` seconds.

        Without ``provider``, both are those of the innermost `require_fresh_token`, else the provider is the
        only one registered. Raises `SignInRequired` if the session has no grant, and what `FreshTokens.get`
        raises.
        """
        if provider is None and (demand := current_demand.get() or self.demand) is not None:
            provider, min_ttl = demand
        if provider is None:
            provider = self.state.provider_name(None)
        grant_id = self._grant_id(provider)
        tokens = self.state.rotation.tokens
        try:
            fresh = self.memo.fresh(tokens, grant_id, min_ttl=min_ttl, read=self._row_of)
        except SignInRequired as error:
            raise sign_in_required(provider, error.reason) from error
        if fresh.rotate_ahead or not self.state.warned.of_keys:
            self._work_after_response()
        return fresh

    def fresh_of_grant(self, grant_id: str, min_ttl: float | None = None) -> Fresh:
        """Return the token set of a grant by its id. Raises what `FreshTokens.get` raises."""
        fresh = self.memo.fresh(self.state.rotation.tokens, grant_id, min_ttl=min_ttl)
        if fresh.rotate_ahead:
            self._work_after_response()
        return fresh

    def replace_refused(self, fresh: Fresh) -> Fresh:
        """Return the token set to use after an API refused ``fresh``; see `RefusedTokens.replace`."""
        replaced = self.memo.refused(self.state.rotation.refused, fresh, min_ttl=fresh.min_ttl)
        if replaced.rotate_ahead:
            self._work_after_response()
        return replaced

    def reset(self) -> None:
        """Drop all tokens and read the session again: the request has signed in or out."""
        self._ids.clear()
        if self._rows is not None:
            self._rows.clear()
        self.memo.forget()

    def _grant_id(self, provider: str) -> str:
        known = self._ids.get(provider)
        if known is not None:
            return known
        self.load()
        grant_id = grants_in_session.grant_id(_session(), provider)
        if grant_id is None:
            self.state.provider(provider)
            raise sign_in_required(provider, "no_grant")
        self._ids[provider] = grant_id
        return grant_id

    def _row_of(self, grant_id: str) -> Sighting | None:
        """Return the row that was read with the session, once: later in the request it is out of date.

        A row that was not read with the session is read now, because the grant may have ended since this
        process cached it. Returns None if the session is not one of the extension's own.
        """
        self.load()
        if self._rows is None:
            return None
        return self._rows.pop(grant_id, None) or self.state.rotation.rows.load(grant_id)

    def _work_after_response(self) -> None:
        # The signal passes the response that is sent, after all other hooks. It is connected only now: an
        # after_request hook would run in every request, and most requests have nothing to do.
        request_finished.connect(self._on_finished, self.app)

    def _on_finished(self, app: Flask, response: Response) -> None:
        """Rotate ahead after the response was sent, if no rotation thread can do it (request_finished).

        After the first token in each process, the keys are also checked on grants that others encrypted.
        """
        if request_grants() is not self:
            return  # another request of this application has finished
        request_finished.disconnect(self._on_finished, app)
        state, ahead = self.state, self.memo.rotations_ahead()

        def work() -> None:
            with app.app_context():
                for fresh in ahead:
                    state.rotation.ahead.rotate(fresh.grant.id, min_ttl=fresh.min_ttl)
                if not state.warned.of_keys:
                    from .doctor import log_key_problems_once

                    log_key_problems_once(app, state)

        if response.direct_passthrough:
            # Werkzeug passes a file's iterator to the server unchanged, and calls no on_close functions.
            response.response = ClosingIterator(cast(Iterable[bytes], response.response), [work])
        else:
            response.call_on_close(work)


def request_grants(app: Flask | None = None, state: State | None = None) -> RequestGrants:
    """Return the grants of the current request; a caller that has ``app`` and its ``state`` passes them.

    An application context may outlive a request (in tests, for example), and another extension's hook may
    run before ours. So each call checks that the stored object belongs to the current request.
    """
    of_request = request._get_current_object()  # type: ignore[attr-defined]
    of_context = g._get_current_object().__dict__
    grants: RequestGrants | None = of_context.get("_tokenrotate")
    if grants is None or grants.request is not of_request:
        if app is None or state is None:
            app = current_app_object()
            state = state_of(app)
        grants = of_context["_tokenrotate"] = RequestGrants(app, state, of_request)
    return grants


def reset_request_grants() -> None:
    """Make the current request, if there is one, read its session again."""
    if has_request_context():
        request_grants().reset()


def sign_in_required(provider: str, reason: str, scopes: frozenset[str] = frozenset()) -> SignInRequired:
    """Return the error that sends the user of the current request to the sign-in at ``provider``."""
    return SignInRequired(provider, reason, scopes=scopes, login_url=login_url(provider, scopes=scopes))


def _session() -> grants_in_session.Session:
    # Not the proxy: each attribute access through it costs several calls.
    return session._get_current_object()  # type: ignore[attr-defined, no-any-return]
