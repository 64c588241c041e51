"""The grant ids in the server-side session, and the server-side session itself.

The session holds the ids of this browser's grants, one for each provider, and nothing else of ours:
no token, and nothing that must survive a lost session write. Whether a grant still gives tokens is
decided by its row, so a session that comes back to life revives no sign-out.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, MutableMapping
from typing import Any

from cachelib.file import FileSystemCache
from flask import Flask, current_app, has_request_context, request
from flask.sessions import SecureCookieSessionInterface
from flask_session.cachelib import CacheLibSessionInterface

from ..errors import Misconfigured
from .addresses import is_loopback

_GRANTS = "_tokenrotate_grants"
_ASKED = "_tokenrotate_asked_scopes"

Session = MutableMapping[str, Any]


def grant_ids(session: Session) -> dict[str, str]:
    """Return the session's grant ids by provider."""
    return dict(session.get(_GRANTS) or {})


def asked_scopes(session: Session, provider: str) -> frozenset[str]:
    """Return the scopes that were asked for at the last sign-in, so that nobody asks in a circle."""
    return frozenset((session.get(_ASKED) or {}).get(provider, ()))


def attach(session: Session, provider: str, grant_id: str, asked: Iterable[str] = ()) -> None:
    """Put a grant into the session, in place of the provider's former one."""
    session[_GRANTS] = {**grant_ids(session), provider: grant_id}
    session[_ASKED] = {**(session.get(_ASKED) or {}), provider: sorted(asked)}


def detach(session: Session, provider: str) -> str | None:
    """Take the provider's grant out of the session and return its id.

    When no grant is left the session is cleared: the user has signed out of everything.
    """
    ids = grant_ids(session)
    grant_id = ids.pop(provider, None)
    if ids:
        session[_GRANTS] = ids
    else:
        session.clear()
    return grant_id


def regenerate(session: Session) -> None:
    """Give the session a new id, so that an id known before a sign-in is worth nothing after it."""
    renew = getattr(current_app.session_interface, "regenerate", None)
    if renew is not None:
        renew(session)


class _LocalSessionInterface(CacheLibSessionInterface):  # type: ignore[misc]
    """Flask-Session on cachelib's file store, with the cookie settings that a sign-in needs.

    Only methods of Flask's own SessionInterface are overridden.
    """

    def get_cookie_secure(self, app: Flask) -> bool:
        """Secure, except in debug mode and for plain http on this machine, where it would not be sent."""
        if app.config["SESSION_COOKIE_SECURE"]:
            return True
        return not (app.debug or (has_request_context() and not request.is_secure and is_loopback(request)))

    def get_cookie_samesite(self, app: Flask) -> str:
        """Lax unless the application says otherwise: the callback arrives by a cross-site link."""
        return app.config["SESSION_COOKIE_SAMESITE"] or "Lax"


def set_up_sessions(app: Flask, *, allow_cookie_sessions: bool) -> None:
    """Give ``app`` server-side sessions if it has set none up.

    An application that configures Flask-Session (``SESSION_TYPE``) or another interface keeps it.
    """
    interface = app.session_interface
    if allow_cookie_sessions or "SESSION_TYPE" in app.config:
        return
    if type(interface) is not SecureCookieSessionInterface:
        refuse_cookie_sessions(app, allow_cookie_sessions=False)
        return
    app.config["SESSION_REFRESH_EACH_REQUEST"] = False
    folder = os.path.join(app.instance_path, "tokenrotate-sessions")
    # threshold=0: cachelib would otherwise drop sessions at random from the 501st on.
    cache = FileSystemCache(folder, threshold=0, mode=0o600)
    app.session_interface = _LocalSessionInterface(app, client=cache, key_prefix="session:")


def refuse_cookie_sessions(app: Flask, *, allow_cookie_sessions: bool) -> None:
    """Raise `Misconfigured` where sessions live in the cookie alone."""
    if isinstance(app.session_interface, SecureCookieSessionInterface) and not allow_cookie_sessions:
        raise Misconfigured(
            "Sessions of this application live in the browser's cookie, where a signed-out session can be "
            "played back. Set up server-side sessions (Flask-Session, or leave SESSION_TYPE and "
            "session_interface alone and TokenRotate sets them up), or accept it with "
            "TOKENROTATE_ALLOW_COOKIE_SESSIONS=True."
        )
