"""The session interface of this extension: a Flask-Session interface on the grants' database.

Flask-Session's configuration keys, `regenerate` and ``session.sid`` work as they do there. In addition:

1. Nothing is read before the session is used, and a request that changed nothing writes nothing.
2. A write is merged into the newest row by compare-and-set on its version (see `merging` and `saving`).
3. A session that was ended, or given a new id, is never written back by a request that was in progress.
   That request sends no cookie either: the browser may hold the next session's by then.
4. An id that the browser made up is never adopted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from flask import Flask, Request, Response, has_app_context, has_request_context, request
from flask.sessions import SessionMixin
from flask_session.base import ServerSideSessionInterface
from werkzeug.wrappers import Response as BaseResponse

from .. import cookies
from ..errors import ConfigurationError, TokenRotateError, TryLater
from ..rotation.tokens import Secret
from .saving import Saving
from .session import Cookie, ServerSession

if TYPE_CHECKING:
    from .store import SqlSessionStore, StoredSession

DEFAULT_COOKIE_NAME = "session"
"""Flask's own; an application that chose another name keeps it as it is."""

SHORTEST_ID = 16
"""The fewest random bytes of an id that ``SESSION_ID_LENGTH`` may ask for."""

_OPTIONS = {
    "SESSION_PERMANENT": "permanent",
    "SESSION_ID_LENGTH": "sid_length",
    "SESSION_KEY_PREFIX": "key_prefix",
    "SESSION_CLEANUP_N_REQUESTS": "cleanup_n_requests",
}
"""Flask-Session's keys, and the parameters of its interface. Where one is not set, its default counts."""


class ServerSessionInterface(ServerSideSessionInterface):  # type: ignore[misc]
    """Opens and saves `ServerSession`; an application may call `regenerate`.

    ``error_response`` turns the error of a save that the database did not accept into the response.
    Raises `ConfigurationError` for a key of Flask-Session's that cannot have its meaning here.
    """

    session_class = ServerSession
    ttl = False
    """Expired rows stay until they are deleted: ``flask session_cleanup``, ``SESSION_CLEANUP_N_REQUESTS``."""

    def __init__(
        self,
        app: Flask,
        store: SqlSessionStore,
        error_response: Callable[[TokenRotateError], BaseResponse],
    ) -> None:
        self._store = store
        self._error_response = error_response
        super().__init__(app, **_options(app.config))

    def open_session(self, app: Flask, request: Request) -> ServerSession:
        """Return the session of the request's cookie; nothing is read yet."""
        return ServerSession(
            request.cookies.get(self.get_cookie_name(app)),
            load=self._load,
            new_id=self._new_id,
            permanent=self.permanent,
        )

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Write what the request changed, and send or delete the cookie accordingly.

        Where the database does not accept the write, the response becomes that of `StoreUnavailable` (503).
        Raises `NotStorableInSession`.
        """
        assert isinstance(session, ServerSession)
        if session.accessed:
            response.vary.add("Cookie")
        if not session.was_used:
            return
        if session.outcome is None:
            # Once only: Flask saves again when something fails after this, or fails because of it.
            session.outcome = Cookie.LEAVE
            seconds = app.permanent_session_lifetime.total_seconds()
            try:
                session.outcome = Saving(self._store, self._key, session, seconds).save()
            except TryLater as error:
                _become(response, self._error_response(error))
        if session.outcome is not Cookie.LEAVE:
            self._set_cookie(app, session, response)

    def regenerate(self, session: SessionMixin) -> None:
        """Give the session a new id: the former one is worth nothing once the response was sent."""
        assert isinstance(session, ServerSession)
        session.renew()

    def get_cookie_name(self, app: Flask) -> str:
        """Flask's default name gets the ``__Host-`` prefix where that is allowed."""
        name: str = super().get_cookie_name(app)
        plain = self.get_cookie_domain(app) is None and self.get_cookie_path(app) == "/"
        return cookies.host_bound(name, _request()) if name == DEFAULT_COOKIE_NAME and plain else name

    def get_cookie_secure(self, app: Flask) -> bool:
        """As every cookie of this extension: see `cookies.is_secure`."""
        return cookies.is_secure(app, _request())

    def _set_cookie(self, app: Flask, session: ServerSession, response: Response) -> None:
        flags: dict[str, Any] = {
            "domain": self.get_cookie_domain(app),
            "path": self.get_cookie_path(app),
            "secure": self.get_cookie_secure(app),
            "samesite": self.get_cookie_samesite(app),
            "httponly": self.get_cookie_httponly(app),
            "partitioned": self.get_cookie_partitioned(app),
        }
        name = self.get_cookie_name(app)
        response.vary.add("Cookie")
        if session.outcome is Cookie.DELETE:
            response.delete_cookie(name, **flags)
        else:
            expires = self.get_expiration_time(app, session)
            response.set_cookie(name, session.sid, expires=expires, **flags)

    def _load(self, sid: str) -> StoredSession | None:
        # A test client's session transaction uses the session outside of any context.
        with nullcontext() if has_app_context() else self.app.app_context():
            return self._store.load(self._key(sid))

    def _key(self, sid: str) -> Secret:
        return Secret(self._get_store_id(sid))

    def _new_id(self) -> str:
        new_id: str = self._generate_sid(self.sid_length)
        return new_id

    def _delete_expired_sessions(self) -> None:
        self._store.prune()

    def _never_called(self, *args: object) -> Any:
        raise NotImplementedError("Sessions are merged key by key, and never written as a whole.")

    # What Flask-Session's own `open_session`, `save_session` and `regenerate` are made of.
    _retrieve_session_data = _delete_session = _upsert_session = _never_called


def _options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of Flask-Session's interface; `permanent` has Flask's default, which is False."""
    if config.get("SESSION_USE_SIGNER"):
        raise ConfigurationError(
            "SESSION_USE_SIGNER has no use here: session ids are random, and the database holds their "
            "hashes. Remove the key."
        )
    if config.get("SESSION_SERIALIZATION_FORMAT", "json") != "json":
        raise ConfigurationError(
            f"SESSION_SERIALIZATION_FORMAT is {config['SESSION_SERIALIZATION_FORMAT']!r}, but TokenRotate's "
            "sessions are merged as JSON. Remove the key or set it to 'json'."
        )
    length = config.get("SESSION_ID_LENGTH", SHORTEST_ID)
    if not isinstance(length, int) or length < SHORTEST_ID:
        raise ConfigurationError(
            f"SESSION_ID_LENGTH ({length!r}) must be a number of random bytes, {SHORTEST_ID} or more."
        )
    given = {option: config[key] for key, option in _OPTIONS.items() if key in config}
    return {"permanent": False, **given}


def _request() -> Request | None:
    return request if has_request_context() else None


def _become(response: Response, other: BaseResponse) -> None:
    """Make ``response`` the same as ``other``: Flask sends the one that it passed to the interface."""
    response.status = other.status
    response.headers = other.headers
    response.response = other.response
