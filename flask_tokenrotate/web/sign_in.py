"""Signing a session in and out: the row first, then the session, then the signal."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from flask import current_app, session

from ..attempts import Attempt
from ..errors import ConfigurationError, TokenRotateError
from ..rotation.tokens import Grant, NewGrant, TokenResponse
from ..sessions import grants_in_session as sessions
from ..sessions.chosen_interface import login_id_of, regenerate
from .request_grants import forget_request
from .signals import signed_in
from .state import State

logger = logging.getLogger("flask_tokenrotate")


def sign_in(
    state: State,
    provider: str,
    response: TokenResponse,
    subject: str | None,
    claims: Mapping[str, Any],
    *,
    user_id: str | None = None,
    attempt: Attempt | None = None,
) -> Grant:
    """Make a grant of ``response`` and sign the current session in with it.

    Always a new grant: an older redemption that is still in flight can never land in it. The one
    that it replaces is ended in the same transaction.
    """
    replaces = sessions.grant_id(session, provider)
    login_id = login_id_of(session)
    grant = add_grant(
        state, provider, response, subject, claims, user_id=user_id, replaces=replaces, login_id=login_id
    )
    regenerate(session)
    sessions.attach(session, provider, grant.id, grant.user_id, () if attempt is None else attempt.scopes)
    forget_request()
    signed_in.send(
        current_app._get_current_object(),  # type: ignore[attr-defined]
        grant_id=grant.id,
        provider=provider,
        user_id=grant.user_id,
        subject=subject,
        claims=dict(claims),
    )
    return grant


def add_grant(
    state: State,
    provider: str,
    response: TokenResponse,
    subject: str | None,
    claims: Mapping[str, Any],
    *,
    user_id: str | None = None,
    replaces: str | None = None,
    login_id: str | None = None,
) -> Grant:
    """Store a new grant; its user is ``user_id``, else what `TokenRotate.identify` says, else the subject.

    Raises `ConfigurationError` for a user id that is no string.
    """
    identify = state.identify()
    if user_id is None:
        user_id = subject if identify is None else identify(provider, claims)
    check_user_id(user_id)
    new = NewGrant(provider=provider, response=response, subject=subject, user_id=user_id, login_id=login_id)
    grant = state.grants.add(new, replaces=replaces)
    if replaces is not None:
        state.rotation.tokens.forget(replaces)
    return grant


def check_user_id(user_id: object) -> None:
    """Raise `ConfigurationError` unless ``user_id`` is a string or None."""
    if user_id is not None and not isinstance(user_id, str):
        raise ConfigurationError(
            f"A user id is {type(user_id).__name__} {user_id!r}, but must be a string: return str(user.id) "
            "from the function that rotate.identify decorates, or pass user_id=str(…)."
        )


@contextmanager
def kept_if_abandoned(state: State, provider: str, response: TokenResponse) -> Iterator[None]:
    """Keep the tokens of a sign-in that cannot be completed, as a grant that has ended.

    They are not revoked: at some providers (Google) that ends all of the user's grants to this client.
    """
    try:
        yield
    except Exception:
        logger.warning("a sign-in at %s could not be completed after its code was exchanged", provider)
        with suppress(TokenRotateError):
            state.grants.end(state.grants.add(NewGrant(provider=provider, response=response)).id, "abandoned")
        raise


def sign_out_everywhere(state: State, user_id: str) -> int:
    """End all grants and sessions of the user, then revoke; return how many grants ended."""
    check_user_id(user_id)
    ended = state.end_everywhere(user_id)
    for grant_id in ended:
        state.rotation.tokens.forget(grant_id)
    forget_request()
    for grant_id in ended:
        state.rotation.ending.revoke_signed_out(grant_id, notify=True)
    return len(ended)


def sign_out(state: State, provider: str) -> bool:
    """Sign the current session out of ``provider``; return whether it was signed in there."""
    grant_id = sessions.grant_id(session, provider)
    if grant_id is None:
        return False
    # The row first: if the database is away the user learns that nothing was signed out.
    state.rotation.ending.sign_out(grant_id)
    sessions.detach(session, provider)
    regenerate(session)
    forget_request()
    return True
