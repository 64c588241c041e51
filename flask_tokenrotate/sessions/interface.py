"""Server-side sessions of which overlapping requests lose no write: ``flask.session`` on the database.

1. Nothing is read before the session is used, and a request that changed nothing writes nothing.
2. A write is merged onto the newest row by compare-and-set on its version (see `merging`).
3. A session that was ended, or given a new id, is never written back by a request that was under way. That
   request sends no cookie either: the browser may hold the next session's by then.
4. An id that the browser made up is never adopted.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from flask import Flask, Request, Response, has_request_context, request
from flask.sessions import SecureCookieSessionInterface, SessionInterface, SessionMixin
from werkzeug.wrappers import Response as BaseResponse

from ..errors import TryLater
from ..rotation.tokens import Secret
from ..web.addresses import is_on_loopback
from ..web.error_responses import error_response
from .grants_in_session import refuse_cookie_sessions, user_of
from .merging import Changes, Fields, pack, unpack, values_of
from .session import Cookie, ServerSession

if TYPE_CHECKING:
    from .store import SqlSessionStore, StoredSession

logger = logging.getLogger("flask_tokenrotate")

DEFAULT_COOKIE_NAME = "session"
"""Flask's own; an application that chose another name keeps it as it is."""


class ServerSessionInterface(SessionInterface):
    """Opens and saves `ServerSession`; what an application may call is `regenerate`."""

    def __init__(self, store: SqlSessionStore) -> None:
        self._store = store

    def open_session(self, app: Flask, request: Request) -> ServerSession:
        """Return the session of the request's cookie; nothing is read yet."""
        return ServerSession(app, self._store, request.cookies.get(self.get_cookie_name(app)))

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Write what the request changed, and send or delete the cookie accordingly.

        Where the database does not take the write, the response becomes the 503 of `StoreUnavailable`.
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
            try:
                session.outcome = self._write(app, session)
            except TryLater as error:
                _become(response, error_response(error))
        if session.outcome is not Cookie.LEAVE:
            self._set_cookie(app, session, response)

    def regenerate(self, session: SessionMixin) -> None:
        """Give the session a new id, as `flask_session` does: one known before is worth nothing after."""
        assert isinstance(session, ServerSession)
        session.renew()

    def _write(self, app: Flask, session: ServerSession) -> Cookie:
        changes = session.changes()
        if session.has_new_id:
            return self._move(app, session, changes)
        return self._change(app, session, changes) if changes else Cookie.LEAVE

    def _change(self, app: Flask, session: ServerSession, changes: Changes) -> Cookie:
        stored = session.stored
        if stored is None:
            fields = changes.onto({})
            if not fields:
                return Cookie.LEAVE
            self._insert(app, session.sid, fields)
            return Cookie.SEND

        def write(stored: StoredSession | None) -> Cookie | None:
            if stored is None:
                return _dropped()
            newest = unpack(stored.data)
            fields = changes.onto(newest)
            if fields == newest:
                return Cookie.LEAVE
            if not fields:
                ended = self._store.end(Secret(session.sid), seen_version=stored.version)
                return Cookie.DELETE if ended else None
            return Cookie.SEND if self._replace(app, session.sid, fields, stored.version) else None

        return self._store.change(Secret(session.sid), stored, write)

    def _move(self, app: Flask, session: ServerSession, changes: Changes) -> Cookie:
        """Store the session under its new id, then end the row of the former one.

        In this order: between the two, `end_everywhere` finds one of the rows at least. If it ended
        the former one, that row no longer ends here, and the new one is left with this request's own.
        """
        former = Secret(session.stored_sid or "")
        version: int | None = None

        def write(stored: StoredSession | None) -> Cookie | None:
            nonlocal version
            fields = changes.onto({} if stored is None else unpack(stored.data))
            if version is not None:
                if stored is None and not fields:
                    self._store.end(Secret(session.sid), seen_version=version)
                    return _dropped()
                if not self._replace(app, session.sid, fields, version):
                    return _dropped()
                version += 1
            elif fields:
                self._insert(app, session.sid, fields)
                version = 0
            if stored is not None and not self._store.end(former, seen_version=stored.version):
                return None
            if version is not None:
                return Cookie.SEND
            return Cookie.LEAVE if stored is None else Cookie.DELETE

        return self._store.change(former, session.stored, write)

    def _insert(self, app: Flask, sid: str, fields: Fields) -> None:
        self._store.insert(Secret(sid), pack(fields), **_about(app, fields))

    def _replace(self, app: Flask, sid: str, fields: Fields, seen_version: int) -> bool:
        return self._store.replace(
            Secret(sid), pack(fields), seen_version=seen_version, **_about(app, fields)
        )

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

    def get_cookie_name(self, app: Flask) -> str:
        """Flask's default name gets the ``__Host-`` prefix where that is allowed.

        It keeps other hosts of the domain, and plain http, from planting a session (RFC 6265bis
        section 4.1.3.2).
        """
        name = super().get_cookie_name(app)
        plain = self.get_cookie_domain(app) is None and self.get_cookie_path(app) == "/"
        if name == DEFAULT_COOKIE_NAME and plain and has_request_context() and request.is_secure:
            return f"__Host-{name}"
        return name

    def get_cookie_secure(self, app: Flask) -> bool:
        """Secure, except in debug mode and for plain http on this machine, where it would not be sent."""
        if app.config["SESSION_COOKIE_SECURE"] or (has_request_context() and request.is_secure):
            return True
        return not (app.debug or (has_request_context() and is_on_loopback(request)))

    def get_cookie_samesite(self, app: Flask) -> str:
        """Lax unless the application says otherwise: the callback arrives by a cross-site link."""
        return app.config["SESSION_COOKIE_SAMESITE"] or "Lax"


def set_up_sessions(app: Flask, store: SqlSessionStore, *, allow_cookie_sessions: bool) -> None:
    """Give ``app`` server-side sessions on ``store`` if it has set none up.

    An application that configures Flask-Session (``SESSION_TYPE``) or another interface keeps it.
    """
    if allow_cookie_sessions or "SESSION_TYPE" in app.config:
        return
    if type(app.session_interface) is SecureCookieSessionInterface:
        app.session_interface = ServerSessionInterface(store)
    refuse_cookie_sessions(app, allow_cookie_sessions=False)


def _about(app: Flask, fields: Fields) -> dict[str, Any]:
    """Return what the row tells beside the contents."""
    return {"user_id": user_of(values_of(fields)), "seconds": app.permanent_session_lifetime.total_seconds()}


def _dropped() -> Cookie:
    logger.info("a session was ended while a request used it; what that request changed in it is dropped")
    return Cookie.LEAVE


def _become(response: Response, other: BaseResponse) -> None:
    """Make ``response`` say what ``other`` says: Flask sends the one that it handed to the interface."""
    response.status = other.status
    response.headers = other.headers
    response.response = other.response
