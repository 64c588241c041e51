"""`require_fresh_token`: lets a view run only with a fresh token."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar, cast, overload

from flask import session

from ..errors import ScopesNotGranted, SignInRequired
from ..sessions import grants_in_session
from .request_grants import Demand, RequestGrants, current_demand, request_grants, sign_in_required

P = ParamSpec("P")
R = TypeVar("R")
OnMissing = Callable[[SignInRequired], Any]

declared_scopes: set[str] = set()
"""The scopes that some `require_fresh_token` asks for; a link can make a sign-in ask for no others."""

_GUARD = "_tokenrotate_guard"


def is_guarded(function: object) -> bool:
    """Return whether ``function`` is a view that `require_fresh_token` guards."""
    return hasattr(function, _GUARD)


@dataclass(frozen=True, slots=True)
class _Guard:
    """What one decorator asks for. ``is_view``: it is the outermost function that is guarded."""

    provider: str | None
    min_ttl: float | None
    scopes: frozenset[str]
    on_missing: OnMissing | None
    is_view: bool

    def require(self, grants: RequestGrants) -> Demand:
        """Make sure of a fresh token with the scopes; return the demand that `current_token` serves."""
        name = self.provider if self.provider is not None else grants.state.provider_name(None)
        granted = grants.fresh(name, self.min_ttl).seen.grant.tokens.scopes
        missing = self.scopes - granted if self.scopes and granted is not None else None
        if missing:
            if missing <= grants_in_session.asked_scopes(session, name):
                raise ScopesNotGranted(name, missing)
            raise sign_in_required(name, "missing_scopes", self.scopes)
        return name, self.min_ttl

    def instead(self, error: SignInRequired) -> Any:
        """Return what ``on_missing`` gives in place of the view's result; raises ``error`` without it."""
        if self.on_missing is None:
            raise error
        return self.on_missing(error)

    @contextmanager
    def serving(self, grants: RequestGrants, demand: Demand) -> Iterator[None]:
        """Let `current_token` serve ``demand`` inside the block.

        A streamed response goes on after its view returned. The view is the last to return, so its demand
        stays; of several decorators on one function the innermost is what it saw.
        """
        outer = current_demand.set(demand)
        try:
            yield
        finally:
            if self.is_view:
                grants.demand = demand
            current_demand.reset(outer)


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
    `TryLater`; the extension's error handler turns each into a response unless the application does.
    """
    if callable(provider):
        return require_fresh_token()(provider)
    wanted = frozenset([scopes] if isinstance(scopes, str) else scopes)
    declared_scopes.update(wanted)

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        guard = _Guard(provider, min_ttl, wanted, on_missing, is_view=not is_guarded(function))
        is_async = inspect.iscoroutinefunction(function)
        guarded = cast(Callable[P, R], _async_view(function, guard) if is_async else _view(function, guard))
        setattr(guarded, _GUARD, guard)
        return guarded

    return decorate


def _view(function: Callable[..., Any], guard: _Guard) -> Callable[..., Any]:
    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        grants = request_grants()
        try:
            demand = guard.require(grants)
        except SignInRequired as error:
            return guard.instead(error)
        with guard.serving(grants, demand):
            return function(*args, **kwargs)

    return guarded


def _async_view(function: Callable[..., Any], guard: _Guard) -> Callable[..., Any]:
    @functools.wraps(function)
    async def guarded(*args: Any, **kwargs: Any) -> Any:
        grants = request_grants()
        try:
            # In a thread, so that other coroutines of this request go on while a provider is called.
            demand = await asyncio.to_thread(guard.require, grants)
        except SignInRequired as error:
            instead = guard.instead(error)
            return await instead if inspect.isawaitable(instead) else instead
        with guard.serving(grants, demand):
            return await function(*args, **kwargs)

    return guarded
