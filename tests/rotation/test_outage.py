"""A hundred sessions while their provider is away for a minute, over HTTP, on a clock moved by hand."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from flask_tokenrotate.errors import ProviderUnavailable
from flask_tokenrotate.providers.build import build_provider
from flask_tokenrotate.providers.endpoint import OAuthEndpoint
from flask_tokenrotate.rotation.breaker import FAILING_GRANTS, LONGEST_PAUSE, Admitted, Breaker
from flask_tokenrotate.rotation.tokens import NewGrant, Secret, TokenResponse, TokenSet
from flask_tokenrotate.rotation.verdict import Verdict
from flask_tokenrotate.testing import FakeProvider, ManualClock, MemoryGrantStore

from .processes import SETTINGS, a_policy, a_process

SESSIONS = 100
AWAY = 60
"""Seconds that the provider is away; all access tokens run out meanwhile."""

GROWING = 4
"""Probes after 1, 2, 4 and 8 seconds, before the pauses are as long as they get."""

MOST_CALLS = FAILING_GRANTS + GROWING + int(AWAY / (0.75 * LONGEST_PAUSE))
"""What an outage may cost for each process, and one more for each thread that is in a call as it begins."""


class CountingEndpoint(OAuthEndpoint):
    """The real endpoint, with a count of the calls that left."""

    calls = 0

    def redeem(self, provider: str, refresh_token: Secret, **when: Any) -> Verdict:
        self.calls += 1
        return super().redeem(provider, refresh_token, **when)

    def revoke(self, provider: str, tokens: TokenSet) -> bool:
        raise AssertionError("nobody signs out here")


class Deployment:
    """One process with its sessions; each asks for its token once a second."""

    def __init__(self, provider: FakeProvider, clock: ManualClock) -> None:
        self.clock, self.store = clock, MemoryGrantStore(clock)
        profile = build_provider("fake", provider.registration())
        self.endpoint = CountingEndpoint(
            lambda name: profile, clock, connect_seconds=SETTINGS.connect_seconds
        )
        self.process = a_process(
            self.store,
            self.endpoint,
            clock,
            policy_for=lambda name: a_policy(min_ttl=5.0, ahead=10.0),
            cache_entries=1000,
            jitter=random.Random(7).random,
        )
        self.ids = [self._sign_in(provider, AWAY * number / SESSIONS) for number in range(SESSIONS)]

    def _sign_in(self, provider: FakeProvider, remaining: float) -> str:
        minted = provider.mint(expires_in=remaining)
        response = TokenResponse(
            access_token=Secret(minted["access_token"]),
            refresh_token=Secret(minted["refresh_token"]),
            expires_in=remaining,
        )
        return self.store.add(NewGrant(provider="fake", response=response)).id

    def live(self, seconds: int) -> int:
        """Let ``seconds`` pass; return how many requests got no token. None fails whose token lives."""
        failed = 0
        for _ in range(seconds):
            for grant_id in self.ids:
                failed += not self._request(grant_id)
            self.clock.advance(1.0)
        return failed

    def _request(self, grant_id: str) -> bool:
        try:
            fresh = self.process.get(grant_id)
        except ProviderUnavailable:
            assert self.store.rows[grant_id].tokens.remaining(self.clock.time()) <= 0
            return False
        assert fresh.tokens.remaining(self.clock.time()) > 0
        if fresh.rotate_ahead:
            self.process.rotate_ahead(grant_id)
        return True


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def provider(clock: ManualClock) -> Iterator[FakeProvider]:
    """A provider that lives by the same clock."""
    with FakeProvider(now=clock.time) as provider:
        yield provider


@pytest.mark.parametrize("retry_after", [0, 1], ids=["silent", "with Retry-After"])
def test_an_outage_costs_few_calls_and_no_session(
    provider: FakeProvider, clock: ManualClock, retry_after: int
) -> None:
    """The calls are bounded, living tokens are served, and afterwards every session is fresh again."""
    deployment = Deployment(provider, clock)
    provider.turn(outage=True, retry_after=retry_after)
    assert deployment.live(AWAY) > 0
    assert FAILING_GRANTS < deployment.endpoint.calls <= MOST_CALLS
    provider.outage = False
    deployment.live(AWAY)
    assert deployment.live(1) == 0
    assert all(row.end_reason is None and row.token_version for row in deployment.store.rows.values())
    assert provider.redemptions() == SESSIONS
    assert provider.double_presentations() == {}


def test_a_stopped_server_costs_as_little(provider: FakeProvider, clock: ManualClock) -> None:
    """A refused connection counts like a 503."""
    deployment = Deployment(provider, clock)
    provider.stop()
    deployment.live(AWAY)
    assert FAILING_GRANTS < deployment.endpoint.calls <= MOST_CALLS
    provider.start()
    deployment.live(AWAY)
    assert deployment.live(1) == 0


@pytest.mark.long
def test_without_the_breaker_each_session_calls(
    provider: FakeProvider, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: the rows' own pauses alone let many times more calls through."""
    monkeypatch.setattr(Breaker, "admit", lambda self, provider, grant_id: Admitted())
    deployment = Deployment(provider, clock)
    provider.outage = True
    deployment.live(AWAY)
    assert deployment.endpoint.calls > 10 * MOST_CALLS
