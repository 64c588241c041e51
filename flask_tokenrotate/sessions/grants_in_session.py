"""What the extension keeps in a session, whichever interface it has.

The ids of this browser's grants, one for each provider, the user who signed in last, and the scopes that were
requested: no token, and nothing that must survive a lost session write. The grant's row decides whether it
gives tokens, so a session that is written back after a sign-out brings no grant back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any

GRANT = "_tokenrotate_grant:"
"""The key of a provider's grant id begins with it. Flat keys, which every request reads."""

_ASKED = "_tokenrotate_asked_scopes:"
_USER = "_tokenrotate_user"

Session = MutableMapping[str, Any]


def grant_id(session: Session, provider: str) -> str | None:
    """Return the id of the session's grant at the provider, if it has one."""
    return session.get(GRANT + provider)


def asked_scopes(session: Session, provider: str) -> frozenset[str]:
    """Return the scopes that the last sign-in requested, so that no page requests them again and again."""
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

    When no grant is left, the session is cleared: the user has signed out of everything.
    """
    grant_id: str | None = session.pop(GRANT + provider, None)
    if not any(isinstance(key, str) and key.startswith(GRANT) for key in session):
        session.clear()
    return grant_id
