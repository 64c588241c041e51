"""One request: the memo on `flask.g`, and `require_fresh_token`.

Nothing happens before a token is needed: the session is not even read, no database, no network.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast, overload

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

from ..errors import ScopesNotGranted, SignInRequired
from ..rotation.memo import RequestMemo
from ..sessions import grants_in_session as sessions
from ..sessions.chosen_interface import refuse_cookie_sessions
from .addresses import login_url
from .state import State, state_of

if TYPE_CHECKING:
    from ..rotation.sighting import Fresh

P = ParamSpec("P")
R = TypeVar("R")
OnMissing = Callable[[SignInRequired], Any]
Demand = tuple[str, float | None]

declared_scopes: set[str] = set()
"""The scopes that some `require_fresh_token` asks for; a link can make a sign-in ask for no others."""

_GUARD = "_tokenrotate_guard"
_demand: ContextVar[Demand | None] = ContextVar("tokenrotate_demand", default=None)


class RequestGrants:
    """The grants of one request's session and what it got of them; lives on ``g._tokenrotate``.

    It carries the application's state and the request, so that reading a token asks Flask's context
    for one object only: each look at a proxy costs more than a dictionary.
    """

    __slots__ = ("__weakref__", "_ids", "app", "demand", "memo", "request", "state")

    def __init__(self, app: Flask, state: State, request: Request) -> None:
        self.app = app
        self.state = state
        self.request = request
        self.memo = RequestMemo()
        self.demand: Demand | None = None
        self._ids: dict[str, str] = {}

    def fresh(self, provider: str | None = None, min_ttl: float | None = None) -> Fresh:
        """Return the session's token set at ``provider``.

        Without a name: the provider of the innermost `require_fresh_token`, else the only one registered.
        Raises `SignInRequired` when the session has no grant there, and whatever `Rotator.fresh` raises.
        """
        if provider is None and (demand := _demand.get() or self.demand) is not None:
            provider, min_ttl = demand
        if provider is None:
            provider = self.state.provider_name(None)
        grant_id = self._ids.get(provider)
        if grant_id is None:
            # Past the proxy, each attribute of which costs several calls.
            grant_id = sessions.grant_id(session._get_current_object(), provider)  # type: ignore[attr-defined]
            if grant_id is None:
                self.state.provider(provider)
                raise _sign_in_required(provider, "no_grant")
            self._ids[provider] = grant_id
        try:
            fresh = self.memo.fresh(self.state.rotator, grant_id, min_ttl=min_ttl)
        except SignInRequired as error:
            raise _sign_in_required(provider, error.reason) from error
        if fresh.rotate_ahead or fresh.origin != "cache":
            self._note(fresh)
        return fresh

    def of_grant(self, grant_id: str) -> Fresh:
        """Return the token set of a grant by its id. Raises whatever `Rotator.fresh` raises."""
        fresh = self.memo.fresh(self.state.rotator, grant_id)
        self._note(fresh)
        return fresh

    def refused(self, fresh: Fresh) -> Fresh:
        """Return what to use after a resource server refused ``fresh``; see `Rotator.refused`."""
        found = self.memo.refused(self.state.rotator, fresh, min_ttl=fresh.min_ttl)
        self._note(found)
        return found

    def _note(self, fresh: Fresh) -> None:
        if fresh.rotate_ahead or "keys" not in self.state.warned:
            # By the signal, which brings the response that is sent, whatever other hooks made of it; and only
            # now: a hook of our own would cost all those requests something that have nothing to do.
            request_finished.connect(self.work_after_response, self.app)

    def work_after_response(self, app: Flask, response: Response) -> None:
        """Rotate ahead once the response was sent (request_finished): nobody waits for it.

        In each process the first token is also when its keys are tried on what other workers sealed.
        """
        if request_grants() is not self:
            return  # another request of this application, which has just finished
        request_finished.disconnect(self.work_after_response, app)
        state, ahead = self.state, self.memo.rotations_ahead()

        def work() -> None:
            with app.app_context():
                for fresh in ahead:
                    state.rotator.rotate_ahead(fresh.grant.id, min_ttl=fresh.min_ttl)
                if "keys" not in state.warned:
                    from .doctor import warn_once

                    warn_once(app, state)

        if response.direct_passthrough:
            # Werkzeug hands a file's iterator to the server as it is and closes nothing else.
            response.response = ClosingIterator(cast(Iterable[bytes], response.response), [work])
        else:
            response.call_on_close(work)

    def reload(self) -> None:
        """Read the session again and forget every token: the request signed in or out."""
        self._ids.clear()
        self.memo.forget()


def request_grants(app: Flask | None = None, state: State | None = None) -> RequestGrants:
    """Return the current request's grants, of ``app`` with its ``state`` where the caller has them at hand.

    An application context may outlive a request (in tests, and in one that serves several), and
    another extension's hook may come before ours, so whose request it is is looked at each time.
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


def load_grants(app: Flask, state: State) -> Callable[[], None]:
    """Return what puts the memo of a new request on ``g`` (before_request)."""

    def load() -> None:
        # Not a new one in any case: a hook that came first may have got a token, and have to rotate it ahead.
        request_grants(app, state)
        if state.accepted_sessions is not app.session_interface:
            refuse_cookie_sessions(app, allow_cookie_sessions=state.settings.allow_cookie_sessions)
            state.accepted_sessions = app.session_interface

    return load


def _sign_in_required(provider: str, reason: str, scopes: frozenset[str] = frozenset()) -> SignInRequired:
    address = login_url(provider, scopes=scopes)
    return SignInRequired(provider, reason, scopes=scopes, login_url=address)


def _require(
    grants: RequestGrants, provider: str | None, min_ttl: float | None, scopes: frozenset[str]
) -> Demand:
    """Make sure of a fresh token with ``scopes`` and return the demand that `current_token` serves."""
    name = provider if provider is not None else grants.state.provider_name(None)
    granted = grants.fresh(name, min_ttl).seen.grant.tokens.scopes
    missing = scopes - granted if scopes and granted is not None else None
    if missing:
        if missing <= sessions.asked_scopes(session, name):
            raise ScopesNotGranted(name, missing)
        raise _sign_in_required(name, "missing_scopes", scopes)
    return name, min_ttl


@overload
def require_fresh_token(provider: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def require_fresh_token(
    provider: str | None = None,
    *,
    min_ttl: float | None = None,
    scopes: Iterable[str] = (),
    on_missing: OnMissing | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def require_fresh_token(
    provider: str | Callable[..., Any] | None = None,
    *,
    min_ttl: float | None = None,
    scopes: Iterable[str] = (),
    on_missing: OnMissing | None = None,
) -> Any:
    """Let a view (or any function called in a request) run only with a fresh token.

    ``provider`` may be left out where one is registered; the decorator may be used bare. The token
    lives for at least ``min_ttl`` more seconds (default: the provider's profile, else
    ``TOKENROTATE_MIN_TTL_SECONDS``; never more than half of the token's lifetime). ``scopes`` must
    have been granted, else the user is asked for them once. ``on_missing`` is called with the
    `SignInRequired` and its result returned in place of the view's.

    Raises, where there is no token: `SignInRequired`, `ScopesNotGranted`, and the 503 branch
    `TryLater`; all are answered by the extension's error handler unless the application takes over.
    """
    if callable(provider):
        return require_fresh_token()(provider)
    wanted = frozenset([scopes] if isinstance(scopes, str) else scopes)
    declared_scopes.update(wanted)
    name = provider

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        if inspect.iscoroutinefunction(function):
            return cast(Callable[P, R], _guard_async(function, name, min_ttl, wanted, on_missing))

        # A streamed response goes on after its view returned. The view is the last to return, so its
        # demand stays; of several decorators on one function the innermost is what it saw.
        is_view = not hasattr(function, _GUARD)

        @functools.wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            grants = request_grants()
            try:
                demand = _require(grants, name, min_ttl, wanted)
            except SignInRequired as error:
                if on_missing is None:
                    raise
                return cast(R, on_missing(error))
            outer = _demand.set(demand)
            try:
                return function(*args, **kwargs)
            finally:
                if is_view:
                    grants.demand = demand
                _demand.reset(outer)

        setattr(guarded, _GUARD, True)
        return guarded

    return decorate


def _guard_async(
    function: Callable[..., Any],
    provider: str | None,
    min_ttl: float | None,
    scopes: frozenset[str],
    on_missing: OnMissing | None,
) -> Callable[..., Any]:
    is_view = not hasattr(function, _GUARD)

    @functools.wraps(function)
    async def guarded(*args: Any, **kwargs: Any) -> Any:
        grants = request_grants()
        try:
            # In a thread, so that other coroutines of this request go on while a provider thinks.
            demand = await asyncio.to_thread(_require, grants, provider, min_ttl, scopes)
        except SignInRequired as error:
            if on_missing is None:
                raise
            instead = on_missing(error)
            return await instead if inspect.isawaitable(instead) else instead
        outer = _demand.set(demand)
        try:
            return await function(*args, **kwargs)
        finally:
            if is_view:
                grants.demand = demand
            _demand.reset(outer)

    setattr(guarded, _GUARD, True)
    return guarded


def forget_request() -> None:
    """Make the current request, if there is one, read its session again."""
    if has_request_context():
        request_grants().reload()
