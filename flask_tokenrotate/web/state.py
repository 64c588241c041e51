"""The state of the extension for one application: ``app.extensions["tokenrotate"]``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from flask import Flask, current_app
from flask.sessions import SessionInterface

from ..errors import ConfigurationError
from ..sessions.chosen_interface import refuse_cookie_sessions

if TYPE_CHECKING:
    from requests_oauthlib import OAuth2Session

    from ..attempts import Attempt, AttemptStore
    from ..config import Settings
    from ..maintenance import Maintenance
    from ..provider import Provider
    from ..rotation.assembly import Rotation
    from ..rotation.ports import Clock, GrantStore
    from ..rotation.sighting import Fresh
    from ..rotation.tokens import Secret
    from ..rotation.verdict import Verdict
    from ..sessions.joined_grants import JoinedGrants
    from ..sessions.store import SqlSessionStore
    from ..threads import CallersThread, RotationThreads


EXTENSION = "tokenrotate"

Claims: TypeAlias = Mapping[str, Any]
"""What a provider says about a user: ID token claims and userinfo."""

Identify: TypeAlias = Callable[[str, Claims], str | None]


@dataclass(slots=True)
class Warned:
    """Which warnings this process has logged for the application. Each is logged once."""

    of_keys: bool = False
    of_proxy: bool = False
    of_hosts: bool = False


@dataclass(kw_only=True)
class State:
    """The parts of one application, made by `wiring` and used by the modules of `web`.

    ``provider`` returns a profile by name or raises `UnknownProvider`; ``provider_names`` returns the names
    of all registered providers. ``authorization_url`` takes a profile, an attempt and its state.
    ``exchange`` posts an attempt's code, and ``userinfo`` gets the claims of a provider's user with an access
    token; the last argument of both is a deadline (`call_deadline`).

    ``api`` makes an `OAuth2Session` from two functions: one returns the token to use, one replaces a refused
    token. ``joined_grants`` is None if the grants are not in the database of the sessions. ``prune`` deletes
    expired rows, one function for each table. ``identify`` returns the function of `TokenRotate.identify`.

    ``accepted_sessions`` is the session interface that passed the last check.
    """

    settings: Settings
    clock: Clock
    grants: GrantStore
    attempts: AttemptStore
    sessions: SqlSessionStore
    rotation: Rotation
    threads: RotationThreads | CallersThread
    maintenance: Maintenance
    provider: Callable[[str], Provider]
    provider_names: Callable[[], tuple[str, ...]]
    authorization_url: Callable[[Provider, Attempt, Secret], str]
    exchange: Callable[[Attempt, Secret, float], Verdict]
    userinfo: Callable[[str, Secret, float], Mapping[str, object]]
    api: Callable[[Callable[[], Fresh], Callable[[Fresh], Fresh]], OAuth2Session]
    joined_grants: JoinedGrants | None
    prune: tuple[Callable[[], None], ...]
    identify: Callable[[], Identify | None]
    warned: Warned = field(default_factory=Warned)
    accepted_sessions: SessionInterface | None = None

    def call_deadline(self) -> float:
        """Return when a call to a provider that begins now must have ended, by ``clock.monotonic``."""
        return self.clock.monotonic() + self.settings.redeem_seconds

    def check_session_interface(self, app: Flask) -> None:
        """Raise `ConfigurationError` if the application has set up cookie sessions since `init_app`."""
        if self.accepted_sessions is not app.session_interface:
            refuse_cookie_sessions(app, allow_cookie_sessions=self.settings.allow_cookie_sessions)
            self.accepted_sessions = app.session_interface

    def provider_name(self, name: str | None) -> str:
        """Return ``name``, or the name of the only registered provider if it is None.

        Raises `ConfigurationError` if it is None and there is not exactly one provider.
        """
        if name is not None:
            return name
        names = self.provider_names()
        if len(names) != 1:
            listed = ", ".join(sorted(names)) or "none"
            raise ConfigurationError(
                f"The name of the provider is missing, and {len(names)} are registered ({listed}). "
                "Pass the name, as in @require_fresh_token('spotify')."
            )
        return names[0]


def current_app_object() -> Flask:
    """Return the current application itself, not the proxy."""
    return current_app._get_current_object()  # type: ignore[attr-defined, no-any-return]


def current_state() -> State:
    """Return the state of the current application. Raises as `state_of`."""
    return state_of(current_app_object())


def state_of(app: Flask) -> State:
    """Return the state of ``app``.

    Raises `ConfigurationError` if `TokenRotate.init_app` was not called for it.
    """
    state = app.extensions.get(EXTENSION)
    if not isinstance(state, State):
        raise ConfigurationError(
            f"TokenRotate is not set up for the application {app.name!r}: "
            "call rotate.init_app(app) in its factory."
        )
    return state
