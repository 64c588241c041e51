"""What we keep in the server-side session, whichever it is.

It holds the ids of this browser's grants, one for each provider, who signed in last and which scopes
were asked for: no token, and nothing that must survive a lost session write. Whether a grant still
gives tokens is decided by its row, so a session that comes back to life revives no sign-out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any

from flask import Flask, current_app
from flask.sessions import SecureCookieSessionInterface

from ..errors import ConfigurationError

GRANT = "_tokenrotate_grant:"
"""Begins the key of a provider's grant id: a flat key for each, as every request reads the session."""

_ASKED = "_tokenrotate_asked_scopes:"
_USER = "_tokenrotate_user"

Session = MutableMapping[str, Any]


def grant_id(session: Session, provider: str) -> str | None:
    """Return the id of the session's grant at the provider, if it has one."""
    return session.get(GRANT + provider)


def asked_scopes(session: Session, provider: str) -> frozenset[str]:
    """Return the scopes that were asked for at the last sign-in, so that nobody asks in a circle."""
    return frozenset(session.get(_ASKED + provider) or ())


def user_of(session: Mapping[str, Any]) -> str | None:
    """Return the user who signed in last, by whom `TokenRotate.sign_out_everywhere` finds the session."""
    return session.get(_USER)


def attach(
    session: Session, provider: str, grant_id: str, user_id: str | None, asked: Iterable[str] = ()
) -> None:
    """Put a user's grant into the session, in place of the provider's former one."""
    session[GRANT + provider] = grant_id
    for key, value in ((_USER, user_id), (_ASKED + provider, sorted(asked))):
        if value:
            session[key] = value
        else:
            session.pop(key, None)


def detach(session: Session, provider: str) -> str | None:
    """Take the provider's grant out of the session and return its id.

    When no grant is left the session is cleared: the user has signed out of everything.
    """
    grant_id: str | None = session.pop(GRANT + provider, None)
    if not any(isinstance(key, str) and key.startswith(GRANT) for key in session):
        session.clear()
    return grant_id


def regenerate(session: Session) -> None:
    """Give the session a new id, so that an id known before a sign-in is worth nothing after it."""
    renew = getattr(current_app.session_interface, "regenerate", None)
    if renew is not None:
        renew(session)


def refuse_cookie_sessions(app: Flask, *, allow_cookie_sessions: bool) -> None:
    """Raise `ConfigurationError` where sessions live in the cookie alone."""
    if isinstance(app.session_interface, SecureCookieSessionInterface) and not allow_cookie_sessions:
        raise ConfigurationError(
            "Sessions of this application live in the browser's cookie, where a signed-out session can be "
            "played back. Set up server-side sessions (Flask-Session, or leave SESSION_TYPE and "
            "session_interface alone and TokenRotate sets them up), or accept it with "
            "TOKENROTATE_ALLOW_COOKIE_SESSIONS=True."
        )
