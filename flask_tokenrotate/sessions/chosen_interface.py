"""The session interface that an application has: its own choice, Flask-Session's, or this extension's."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any

from flask import Flask, current_app
from flask.sessions import SecureCookieSessionInterface, SessionInterface

from ..errors import ConfigurationError


def set_up_sessions(app: Flask, ours: Callable[[], SessionInterface], *, allow_cookie_sessions: bool) -> None:
    """Give ``app`` server-side sessions if it has none.

    An interface that the application has set is kept. Where only ``SESSION_TYPE`` is set, Flask-Session is
    set up; otherwise what ``ours`` returns, and ``SESSION_COOKIE_SAMESITE`` becomes ``"Lax"`` where it is not
    set. Raises `ConfigurationError`.
    """
    if type(app.session_interface) is SecureCookieSessionInterface:
        if app.config.get("SESSION_TYPE"):
            _set_up_flask_session(app)
        elif not allow_cookie_sessions:
            app.session_interface = ours()
            if app.config["SESSION_COOKIE_SAMESITE"] is None:
                # Flask leaves it to the browser, and not every browser has a safe default. The callback
                # arrives by a cross-site link, which "Lax" allows.
                app.config["SESSION_COOKIE_SAMESITE"] = "Lax"
    refuse_cookie_sessions(app, allow_cookie_sessions=allow_cookie_sessions)


def refuse_cookie_sessions(app: Flask, *, allow_cookie_sessions: bool) -> None:
    """Raise `ConfigurationError` where sessions live in the cookie alone."""
    if isinstance(app.session_interface, SecureCookieSessionInterface) and not allow_cookie_sessions:
        raise ConfigurationError(
            "Sessions of this application live in the browser's cookie, where a signed-out session can be "
            "played back. Set up server-side sessions (set SESSION_TYPE for Flask-Session, or leave "
            "SESSION_TYPE and session_interface alone and TokenRotate sets them up), or accept it with "
            "TOKENROTATE_ALLOW_COOKIE_SESSIONS=True."
        )


def regenerate(session: MutableMapping[str, Any]) -> None:
    """Give the session a new id, so that an id known before a sign-in is worth nothing after it."""
    renew = getattr(current_app.session_interface, "regenerate", None)
    if renew is not None:
        renew(session)


def login_id_of(session: object) -> str | None:
    """Return `ServerSession.login_id`; None where the session is not this extension's."""
    return getattr(session, "login_id", None)


def _set_up_flask_session(app: Flask) -> None:
    from flask_session import Session

    try:
        Session(app)
    except ValueError as error:
        raise ConfigurationError(f"Flask-Session cannot be set up: {error}.") from error
