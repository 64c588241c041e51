"""What the extension keeps for each application, under ``app.extensions["tokenrotate"]``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flask import Flask, current_app
from flask.sessions import SessionInterface

from ..errors import ConfigurationError, GrantUnreadable
from ..rotation.sighting import Fresh, Sighting
from ..sessions.chosen_interface import refuse_cookie_sessions

if TYPE_CHECKING:
    from requests_oauthlib import OAuth2Session

    from ..attempts import AttemptStore
    from ..config import Settings
    from ..maintenance import Maintenance
    from ..providers.endpoint import OAuthEndpoint
    from ..providers.profile import Provider
    from ..rotation.assembly import Rotation
    from ..rotation.ports import Clock, GrantStore
    from ..rotation.tokens import Grant
    from ..sessions.store import SqlSessionStore
    from ..threads import CallersThread, RotationThreads


EXTENSION = "tokenrotate"


Identify = Callable[[str, Mapping[str, Any]], str | None]


@dataclass(slots=True)
class Warned:
    """Which warnings this process has logged for the application: each is logged once."""

    of_keys: bool = False
    of_proxy: bool = False
    of_hosts: bool = False


@dataclass(kw_only=True)
class State:
    """The wired parts of one application. Made by `TokenRotate.init_app`, read by everything in `web`.

    ``provider`` returns a profile by name or raises `UnknownProvider`; ``provider_names`` lists the
    registered ones. ``end_everywhere`` ends all sessions and grants of a user and returns the grants' ids.
    ``api`` makes a session for API calls from two functions: one reads the token, one replaces a refused
    one. ``read_row`` makes a grant of a row that was read with its session; None where the grants are not in
    the database of the sessions. ``prune`` deletes what has expired, table by table. ``identify`` maps
    (provider, claims) to the application's own user id. ``accepted_sessions`` is the session interface that
    was last found to keep sessions on the server.
    """

    settings: Settings
    grants: GrantStore
    attempts: AttemptStore
    sessions: SqlSessionStore
    end_everywhere: Callable[[str], list[str]]
    maintenance: Maintenance
    endpoint: OAuthEndpoint
    api: Callable[[Callable[[], Fresh], Callable[[Fresh], Fresh]], OAuth2Session]
    rotation: Rotation
    threads: RotationThreads | CallersThread
    read_row: Callable[[Any], Grant] | None
    clock: Clock
    provider: Callable[[str], Provider]
    provider_names: Callable[[], tuple[str, ...]]
    prune: tuple[Callable[[], None], ...]
    identify: Callable[[], Identify | None]
    warned: Warned = field(default_factory=Warned)
    accepted_sessions: SessionInterface | None = None

    def rows_of(self, session: Any) -> dict[str, Sighting] | None:
        """Return the grants that were read with the session, by id; None where none can be.

        One that cannot be decrypted is left out: who needs it reads it again, and meets the error.
        """
        joined = getattr(session, "joined_grants", None)
        if joined is None or self.read_row is None:
            return None
        rows = {}
        for grant_id, row in joined().items():
            with suppress(GrantUnreadable):
                rows[grant_id] = Sighting(self.read_row(row), session.stored.read_at)
        return rows

    def check_session_interface(self, app: Flask) -> None:
        """Raise `ConfigurationError` where the application has set cookie sessions up since `init_app`."""
        if self.accepted_sessions is not app.session_interface:
            refuse_cookie_sessions(app, allow_cookie_sessions=self.settings.allow_cookie_sessions)
            self.accepted_sessions = app.session_interface

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
