"""The grants of one request: the memo on `flask.g`, and the rows that were read with the session."""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from typing import TYPE_CHECKING, cast

from flask import (
    Flask,
    Request,
    Response,
    current_app,
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
from .addresses import login_url
from .state import State, state_of

if TYPE_CHECKING:
    from ..rotation.sighting import Fresh, Sighting

Demand = tuple[str, float | None]
"""The provider and the ``min_ttl`` (seconds) that a `require_fresh_token` names."""

current_demand: ContextVar[Demand | None] = ContextVar("tokenrotate_demand", default=None)
"""The demand of the innermost `require_fresh_token` around the running code."""


class RequestGrants:
    """The grants of one request's session and the token sets it got; lives on ``g._tokenrotate``.

    It carries the application's state and the request, so that reading a token asks Flask's context
    for one object only: each look at a proxy costs more than a dictionary.
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
        """Load the session, and its grants with it where it is the extension's own."""
        if not self._is_loaded:
            self._rows = self.state.rows_of(_session())
            self._is_loaded = True

    def fresh(self, provider: str | None = None, min_ttl: float | None = None) -> Fresh:
        """Return the session's token set at ``provider``.

        Without a name: the provider of the innermost `require_fresh_token`, else the only one registered.
        Raises `SignInRequired` when the session has no grant there, and whatever `FreshTokens.get` raises.
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
            self._finish_later()
        return fresh

    def of_grant(self, grant_id: str, min_ttl: float | None = None) -> Fresh:
        """Return the token set of a grant by its id. Raises whatever `FreshTokens.get` raises."""
        fresh = self.memo.fresh(self.state.rotation.tokens, grant_id, min_ttl=min_ttl)
        if fresh.rotate_ahead:
            self._finish_later()
        return fresh

    def refused(self, fresh: Fresh) -> Fresh:
        """Return what to use after a resource server refused ``fresh``; see `RefusedTokens.replace`."""
        found = self.memo.refused(self.state.rotation.refused, fresh, min_ttl=fresh.min_ttl)
        if found.rotate_ahead:
            self._finish_later()
        return found

    def reload(self) -> None:
        """Read the session again and forget every token: the request signed in or out."""
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
        """Return the row that was read with the session, once: later in the request it is old.

        A row that did not come with its session is read now: the grant may have ended, and what this process
        has cached of it says nothing. None where the session is not the extension's own.
        """
        self.load()
        if self._rows is None:
            return None
        return self._rows.pop(grant_id, None) or self.state.rotation.rows.load(grant_id)

    def _finish_later(self) -> None:
        # By the signal, which brings the response that is sent, whatever other hooks made of it; and only
        # now: a hook of our own would cost all those requests something that have nothing to do.
        request_finished.connect(self._work_after_response, self.app)

    def _work_after_response(self, app: Flask, response: Response) -> None:
        """Rotate ahead once the response was sent (request_finished), where no thread can do it.

        In each process the first token is also when its keys are tried on what other workers encrypted.
        """
        if request_grants() is not self:
            return  # another request of this application, which has just finished
        request_finished.disconnect(self._work_after_response, app)
        state, ahead = self.state, self.memo.rotations_ahead()

        def work() -> None:
            with app.app_context():
                for fresh in ahead:
                    state.rotation.ahead.rotate(fresh.grant.id, min_ttl=fresh.min_ttl)
                if not state.warned.of_keys:
                    from .doctor import warn_once

                    warn_once(app, state)

        if response.direct_passthrough:
            # Werkzeug hands a file's iterator to the server as it is and closes nothing else.
            response.response = ClosingIterator(cast(Iterable[bytes], response.response), [work])
        else:
            response.call_on_close(work)


def request_grants(app: Flask | None = None, state: State | None = None) -> RequestGrants:
    """Return the current request's grants, of ``app`` with its ``state`` where the caller has them at hand.

    An application context may outlive a request (in tests, and in one that serves several), and
    another extension's hook may come before ours, so each call checks whose request it is.
    """
    of_request = request._get_current_object()  # type: ignore[attr-defined]
    memory = g._get_current_object().__dict__
    held: RequestGrants | None = memory.get("_tokenrotate")
    if held is None or held.request is not of_request:
        if app is None or state is None:
            app = current_app._get_current_object()  # type: ignore[attr-defined]
            state = state_of(app)
        held = memory["_tokenrotate"] = RequestGrants(app, state, of_request)
    return held


def forget_request() -> None:
    """Make the current request, if there is one, read its session again."""
    if has_request_context():
        request_grants().reload()


def sign_in_required(provider: str, reason: str, scopes: frozenset[str] = frozenset()) -> SignInRequired:
    """Return the error that sends the current request's user to sign in at ``provider``."""
    return SignInRequired(provider, reason, scopes=scopes, login_url=login_url(provider, scopes=scopes))


def _session() -> grants_in_session.Session:
    # Past the proxy, each attribute of which costs several calls.
    return session._get_current_object()  # type: ignore[attr-defined, no-any-return]
