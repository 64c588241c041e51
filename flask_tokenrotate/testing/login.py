"""Signs in a Flask test client without a browser."""

from __future__ import annotations

from flask.testing import FlaskClient

from ..rotation.tokens import Grant, NewGrant, Secret, TokenResponse, parse_scopes
from ..sessions.chosen_interface import login_id_of
from ..sessions.grants_in_session import attach
from ..web.state import current_state
from .provider import FakeProvider


class LoginAs:
    """The type of the fixture `login_as`: signs in test clients with tokens of ``provider``."""

    def __init__(self, provider: FakeProvider) -> None:
        self._provider = provider

    def __call__(
        self,
        client: FlaskClient,
        user: str = "alice",
        provider: str | None = None,
        *,
        expires_in: float = 3600,
    ) -> Grant:
        """Sign ``user`` in on ``client`` and return the grant.

        ``provider`` is the registered name; it may be omitted if only one is registered. ``expires_in`` is in
        seconds; with 0 or less the next request rotates. Raises `UnknownProvider`.
        """
        minted = self._provider.mint(user, expires_in=expires_in)
        response = TokenResponse(
            access_token=Secret(minted["access_token"]),
            refresh_token=Secret(minted["refresh_token"]),
            scopes=parse_scopes(minted["scope"]),
            expires_in=expires_in,
        )
        with client.session_transaction() as session, client.application.app_context():
            state = current_state()
            name = state.provider_name(provider)
            state.provider(name)  # raises for an unknown name before anything is stored
            new = NewGrant(
                provider=name, response=response, subject=user, user_id=user, login_id=login_id_of(session)
            )
            grant = state.grants.add(new)
            attach(session, name, grant.id, grant.user_id)
        return grant
