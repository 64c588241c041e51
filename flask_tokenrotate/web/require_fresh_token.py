"""`require_fresh_token`: a decorator for views that need a fresh token."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ParamSpec, TypeVar, cast, overload

from flask import session

from ..errors import ScopesNotGranted, SignInRequired
from ..sessions import grants_in_session
from .request_grants import Demand, RequestGrants, current_demand, request_grants, sign_in_required

P = ParamSpec("P")
R = TypeVar("R")
OnMissing = Callable[[SignInRequired], object]

declared_scopes: set[str] = set()
"""All scopes that a `require_fresh_token` asks for. A link cannot make a sign-in request any others."""

_GUARD = "_tokenrotate_guard"


def is_guarded(function: object) -> bool:
    """Return whether ``function`` is decorated with `require_fresh_token`."""
    return hasattr(function, _GUARD)


@dataclass(frozen=True, slots=True)
class _Guard:
    """What one decorator asks for. ``is_innermost``: no other decorator was applied before it."""

    provider: str | None
    min_ttl: float | None
    scopes: frozenset[str]
    on_missing: OnMissing | None
    is_innermost: bool

    def require(self, grants: RequestGrants) -> Demand:
        """Get a fresh token with the scopes; return the demand for `current_token`.

        Raises `SignInRequired`, `ScopesNotGranted` and what `RequestGrants.fresh` raises.
        """
        name = self.provider if self.provider is not None else grants.state.provider_name(None)
        granted = grants.fresh(name, self.min_ttl).seen.grant.tokens.scopes
        missing = self.scopes - granted if self.scopes and granted is not None else None
        if missing:
            if missing <= grants_in_session.asked_scopes(session, name):
                raise ScopesNotGranted(name, missing)
            raise sign_in_required(name, "missing_scopes", self.scopes)
        return name, self.min_ttl

    def result_instead(self, error: SignInRequired) -> object:
        """Return the result of ``on_missing``, which replaces the view's; raise ``error`` without it."""
        if self.on_missing is None:
            raise error
        return self.on_missing(error)

    @contextmanager
    def serving(self, grants: RequestGrants, demand: Demand) -> Iterator[None]:
        """Let `current_token` serve ``demand`` inside the block.

        A streamed response is produced after the view has returned. `current_token` then serves the demand of
        the decorator next to the function, which is the one that the function's body had.
        """
        outer = current_demand.set(demand)
        try:
            yield
        finally:
            if self.is_innermost:
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
    provider: str | Callable[P, R] | None = None,
    *,
    min_ttl: float | None = None,
    scopes: Iterable[str] = (),
    on_missing: OnMissing | None = None,
) -> object:
    """Run a view (or any function that is called in a request) only with a fresh token.

    ``provider`` is the name of a registered provider. It may be omitted if only one is registered; the
    decorator may then be used without parentheses. Async functions are supported.

    ``min_ttl`` is for how many seconds the token must still be valid. The default is ``min_ttl_seconds`` of
    the provider, else ``TOKENROTATE_MIN_TTL_SECONDS``; at most half of the token's lifetime is required.

    ``scopes`` are the scopes that the token must have. If one is missing, the user is sent to the provider
    once to grant it.

    ``on_missing`` is called with the `SignInRequired` error if the user has to sign in. Its result replaces
    the view's. Without it the error is raised, and a page is redirected to the sign-in.

    The decorated function raises `SignInRequired`, `ScopesNotGranted`, `ProviderMisconfigured`, and
    `TryLater` if there is no token at the moment. The extension turns each of them into a response, unless
    the application has an error handler for it.
    """
    if callable(provider):
        return require_fresh_token()(provider)
    required = frozenset([scopes] if isinstance(scopes, str) else scopes)
    declared_scopes.update(required)

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        guard = _Guard(provider, min_ttl, required, on_missing, is_innermost=not is_guarded(function))
        if inspect.iscoroutinefunction(function):
            guarded = cast(Callable[P, R], _async_view(function, guard))
        else:
            guarded = _view(function, guard)
        setattr(guarded, _GUARD, guard)
        return guarded

    return decorate


def _view(function: Callable[P, R], guard: _Guard) -> Callable[P, R]:
    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        grants = request_grants()
        try:
            demand = guard.require(grants)
        except SignInRequired as error:
            return cast(R, guard.result_instead(error))
        with guard.serving(grants, demand):
            return function(*args, **kwargs)

    return guarded


def _async_view(function: Callable[P, Awaitable[R]], guard: _Guard) -> Callable[P, Awaitable[R]]:
    @functools.wraps(function)
    async def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        grants = request_grants()
        try:
            # In a thread, so that other coroutines of this request continue while a provider is called.
            demand = await asyncio.to_thread(guard.require, grants)
        except SignInRequired as error:
            result = guard.result_instead(error)
            return cast(R, await result if inspect.isawaitable(result) else result)
        with guard.serving(grants, demand):
            return await function(*args, **kwargs)

    return guarded
