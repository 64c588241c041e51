"""Signs a session in and out: first the grant's row, then the session, then the signal."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from flask import session

from ..errors import ConfigurationError, StoreUnavailable, TokenRotateError
from ..rotation.tokens import Grant, NewGrant, TokenResponse
from ..sessions import grants_in_session
from ..sessions.chosen_interface import login_id_of, regenerate
from .request_grants import reset_request_grants
from .signals import signed_in
from .state import Claims, State, current_app_object

logger = logging.getLogger("flask_tokenrotate")


def sign_in(
    state: State,
    provider: str,
    response: TokenResponse,
    subject: str | None,
    claims: Claims,
    *,
    user_id: str | None = None,
    scopes: frozenset[str] = frozenset(),
) -> Grant:
    """Store a new grant with the tokens of ``response`` and sign the current session in with it.

    ``scopes`` are those that were requested. The grant is always a new one, so a redemption in progress can
    never be saved to it. The grant that it replaces is ended in the same transaction.
    """
    grant = add_grant(
        state,
        provider,
        response,
        subject,
        claims,
        user_id=user_id,
        replaces=grants_in_session.grant_id(session, provider),
        login_id=login_id_of(session),
    )
    regenerate(session)
    grants_in_session.attach(session, provider, grant.id, grant.user_id, scopes)
    reset_request_grants()
    signed_in.send(
        current_app_object(),
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
    claims: Claims,
    *,
    user_id: str | None = None,
    replaces: str | None = None,
    login_id: str | None = None,
) -> Grant:
    """Store a new grant.

    The user id is ``user_id``, else the result of `TokenRotate.identify`, else the subject. Raises
    `ConfigurationError` for a user id that is not a string.
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
    """Keep the tokens in a grant that has ended, if the block raises: the sign-in was not completed.

    They are not revoked, because at some providers (Google) that ends all grants of the user to this client.
    """
    try:
        yield
    except Exception:
        logger.warning("a sign-in at %s could not be completed after its code was exchanged", provider)
        with suppress(TokenRotateError):
            state.grants.end(state.grants.add(NewGrant(provider=provider, response=response)).id, "abandoned")
        raise


def sign_out_everywhere(state: State, user_id: str) -> int:
    """End all grants and sessions of the user, then revoke the tokens; return the number of grants ended."""
    check_user_id(user_id)
    ended = state.sessions.end_everywhere(user_id)
    try:
        if state.joined_grants is None:
            ended.extend(_end_in_own_store(state, user_id))
    finally:  # what was ended is revoked, also where the store cannot end the rest
        for grant_id in ended:
            state.rotation.tokens.forget(grant_id)
        reset_request_grants()
        for grant_id in ended:
            state.rotation.ending.revoke_signed_out(grant_id, notify=True)
    return len(ended)


def _end_in_own_store(state: State, user_id: str) -> Iterator[str]:
    """End the user's grants in the application's own store, one by one; yield the id of each.

    Raises `StoreUnavailable` if the store finds a grant again that has ended: it may read from a replica that
    is behind, and then does not show which grants are left.
    """
    for provider in state.provider_names():
        tried: set[str] = set()
        while (grant_id := state.grants.find(user_id, provider)) is not None:
            if grant_id in tried:
                raise StoreUnavailable(f"GrantStore.find returned the grant {grant_id}, which has ended.")
            tried.add(grant_id)
            if state.grants.end(grant_id, "signed_out"):
                yield grant_id


def sign_out(state: State, provider: str) -> bool:
    """Sign the current session out of ``provider``; return whether it was signed in."""
    grant_id = grants_in_session.grant_id(session, provider)
    if grant_id is None:
        return False
    # The row first: if the database is unavailable, this raises and the session is still signed in.
    state.rotation.ending.sign_out(grant_id)
    grants_in_session.detach(session, provider)
    regenerate(session)
    reset_request_grants()
    return True
