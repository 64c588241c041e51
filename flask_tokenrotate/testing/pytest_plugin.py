"""Fixtures for applications that use the extension: a provider to sign in at, and a quick way in.

Every test run on a machine with the extension installed imports this module, hence the late imports.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from flask.testing import FlaskClient

    from ..rotation.tokens import Grant
    from .provider import FakeProvider


class LoginAs(Protocol):
    """The callable of the fixture `login_as`."""

    def __call__(
        self,
        client: FlaskClient,
        user: str = "alice",
        provider: str | None = None,
        *,
        expires_in: float = 3600,
    ) -> Grant:
        """Sign ``user`` in on ``client`` and return the grant.

        ``provider`` is the registered name, and may be left out where there is only one.
        ``expires_in`` is in seconds; 0 or less makes the next request rotate.
        """
        ...


@pytest.fixture
def fake_provider() -> Iterator[FakeProvider]:
    """Run a `FakeProvider` for one test: ``rotate.register("fake", **fake_provider.registration())``."""
    from .provider import FakeProvider

    with FakeProvider() as provider:
        yield provider


@pytest.fixture
def login_as(fake_provider: FakeProvider) -> LoginAs:
    """Sign a Flask test client in with living tokens of `fake_provider`, without any redirect."""
    from ..rotation.tokens import NewGrant, Secret, TokenResponse, parse_scopes
    from ..sessions.chosen_interface import login_id_of
    from ..sessions.grants_in_session import attach
    from ..web.state import current_state

    def login_as(
        client: FlaskClient, user: str = "alice", provider: str | None = None, *, expires_in: float = 3600
    ) -> Grant:
        minted = fake_provider.mint(user, expires_in=expires_in)
        response = TokenResponse(
            access_token=Secret(minted["access_token"]),
            refresh_token=Secret(minted["refresh_token"]),
            scopes=parse_scopes(minted["scope"]),
            expires_in=expires_in,
        )
        with client.session_transaction() as session, client.application.app_context():
            state = current_state()
            name = state.provider_name(provider)
            state.provider(name)  # an unknown name is told here, with the registered ones
            grant = state.grants.add(
                NewGrant(
                    provider=name,
                    response=response,
                    subject=user,
                    user_id=user,
                    login_id=login_id_of(session),
                )
            )
            attach(session, name, grant.id, grant.user_id)
        return grant

    return login_as
