"""What the extension keeps for each application, under ``app.extensions["tokenrotate"]``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from flask import Flask, current_app
from flask.sessions import SessionInterface

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from ..attempts import AttemptStore
    from ..config import Settings
    from ..maintenance import Maintenance
    from ..providers.endpoint import OAuthEndpoint
    from ..providers.profile import Provider
    from ..providers.resource import ProtectedSession
    from ..rotation.ports import Clock, GrantStore
    from ..rotation.rotator import Rotator
    from ..rotation.tokens import Secret
    from ..sessions.store import SqlSessionStore


EXTENSION = "tokenrotate"


class AuthorizationUrl(Protocol):
    """Returns the address that the browser is sent to: `providers.authorize.authorization_url`."""

    def __call__(
        self,
        provider: Provider,
        *,
        redirect_uri: str,
        state: Secret,
        verifier: Secret,
        nonce: Secret,
        scopes: Iterable[str],
    ) -> str: ...


Identify = Callable[[str, Mapping[str, Any]], str | None]


@dataclass(kw_only=True)
class State:
    """The wired parts of one application. Made by `TokenRotate.init_app`, read by everything in `web`.

    ``provider`` returns a profile by name or raises `UnknownProvider`; ``provider_names`` lists the
    registered ones. ``end_everywhere`` ends all sessions and grants of a user and returns the grants' ids.
    ``api`` returns the session for calls with an access token. ``prune`` deletes what
    has expired, table by table. ``identify`` maps (provider, claims) to the application's own user id.
    ``accepted_sessions`` is the session interface that was last found to keep sessions on the server.
    """

    settings: Settings
    grants: GrantStore
    attempts: AttemptStore
    sessions: SqlSessionStore
    end_everywhere: Callable[[str], list[str]]
    maintenance: Maintenance
    endpoint: OAuthEndpoint
    authorization_url: AuthorizationUrl
    api: Callable[[], ProtectedSession]
    rotator: Rotator
    clock: Clock
    provider: Callable[[str], Provider]
    provider_names: Callable[[], tuple[str, ...]]
    prune: tuple[Callable[[], None], ...]
    identify: Callable[[], Identify | None]
    warned: set[str] = field(default_factory=set)
    accepted_sessions: SessionInterface | None = None

    def provider_name(self, name: str | None) -> str:
        """Return ``name``, or the only registered provider when it is None."""
        if name is not None:
            return name
        names = self.provider_names()
        if len(names) != 1:
            listed = ", ".join(sorted(names)) or "none"
            raise ConfigurationError(
                f"Say which provider is meant: there are {len(names)} registered ({listed}). "
                "Pass its name, as in @require_fresh_token('spotify')."
            )
        return names[0]


def current_state() -> State:
    """Return the state of the current application; errors as in `state_of`."""
    return state_of(current_app._get_current_object())  # type: ignore[attr-defined]


def state_of(app: Flask) -> State:
    """Return the state of ``app``.

    Raises `ConfigurationError` where `TokenRotate.init_app` was not called for it.
    """
    state = app.extensions.get(EXTENSION)
    if not isinstance(state, State):
        raise ConfigurationError(
            f"TokenRotate is not set up for the application {app.name!r}: "
            "call rotate.init_app(app) in its factory."
        )
    return state
