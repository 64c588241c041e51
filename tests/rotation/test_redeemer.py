"""What becomes of each verdict of a redemption: saved, ended, paused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from flask_tokenrotate.errors import ProviderMisconfigured, ProviderUnavailable, SignInRequired
from flask_tokenrotate.rotation.verdict import (
    MISCONFIGURED_PAUSE,
    Busy,
    Misconfigured,
    NotSent,
    Refused,
    Unknown,
    Verdict,
)
from flask_tokenrotate.threads import _ForkedAway

from .processes import LIFETIME, LaterThreads, World, access

BUSY = Busy(cause="503")
RESET = Unknown(cause="connection reset")
TIMED_OUT = Unknown(cause="read time-out", timed_out=True)
REFUSED = Refused(error="invalid_grant")


@pytest.fixture
def world() -> World:
    return World()


class TestRotated:
    """A dead token is redeemed once and saved."""

    def test_a_dead_token_is_redeemed_once_for_all_processes(self, world: World) -> None:
        """The row has the new token set, and the next process finds it there."""
        grant_id = world.sign_in(remaining=-1.0)
        first, second = world.process().get(grant_id), world.process().get(grant_id)
        assert (access(first), first.origin) == ("access-1", "rotated")
        assert (access(second), second.origin) == ("access-1", "row")
        assert world.endpoint.posts == ["refresh-0"]
        assert world.row(grant_id).token_version == 1
        assert world.row(grant_id).standing is None

    def test_the_lifetime_counts_from_before_the_request_left(self, world: World) -> None:
        """A slow response does not make the token seem younger than it is."""
        grant_id = world.sign_in(remaining=-1.0)

        def slowly() -> Verdict:
            world.clock.advance(6.0)
            return world.endpoint.rotated()

        world.endpoint.script = [slowly]
        fresh = world.process().get(grant_id)
        assert fresh.tokens.remaining(world.clock.time()) == pytest.approx(LIFETIME - 6.0)

    def test_a_changed_scope_is_saved_first_and_reported_then(self, world: World) -> None:
        """The token set is in the row, and observers are notified of what changed."""
        grant_id = world.sign_in(remaining=-1.0, scopes=frozenset({"a", "b"}))
        world.endpoint.script = [lambda: world.endpoint.rotated(scopes=frozenset({"a"}))]
        world.process().get(grant_id)
        assert world.row(grant_id).tokens.scopes == {"a"}
        assert world.notified.events[-1] == ("scopes_changed", {"before": ["a", "b"], "now": ["a"]})

    def test_an_odd_response_is_saved_and_complained_about(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A complaint of the parser never costs the token set."""
        grant_id = world.sign_in(remaining=-1.0)
        world.endpoint.script = [
            lambda: replace(world.endpoint.rotated(), complaints=("expires_in is no number",))
        ]
        assert access(world.process().get(grant_id)) == "access-1"
        assert "expires_in is no number" in caplog.text


class TestRefused:
    """A refused first post ends the grant."""

    def test_a_refusal_ends_the_grant_and_nobody_asks_again(self, world: World) -> None:
        """The user has to sign in, here and in every other process."""
        grant_id = world.sign_in(remaining=-1.0)
        world.endpoint.script = [REFUSED]
        for each in (world.process(), world.process()):
            with pytest.raises(SignInRequired) as caught:
                each.get(grant_id)
            assert caught.value.reason == "refused"
        assert world.endpoint.posts == ["refresh-0"]
        assert world.notified.names == ["claimed", "grant_ended"]


class TestAtTheEndOfTheProcess:
    """Nothing is posted whose response nobody waits for: it would be in doubt for nothing."""

    def test_no_claim_is_taken(self, world: World) -> None:
        """Another process redeems."""
        grant_id = world.sign_in(remaining=-1.0)
        threads = LaterThreads()
        flight = world.process(threads=threads).start(grant_id)
        threads.are_closing = True
        threads.work()
        assert isinstance(flight.error, ProviderUnavailable)
        assert (world.row(grant_id).standing, world.endpoint.posts) == (None, [])

    def test_a_claim_that_was_taken_is_given_up_unspent(self, world: World) -> None:
        """The process began to end in between."""
        grant_id = world.sign_in(remaining=-1.0)
        threads = LaterThreads()
        world.process(threads=threads).start(grant_id)

        def close_meanwhile(try_claim: Any, *args: Any, **options: Any) -> Any:
            threads.are_closing = True
            return try_claim(*args, **options)

        world.store.once("try_claim", close_meanwhile)
        threads.work()
        row = world.row(grant_id)
        assert (row.standing, row.doubts, row.retry_at, world.endpoint.posts) == (None, 0, None, [])
        assert [each.slot for each in world.store.ledger.values()] == [None]


class TestInAForkedChild:
    """A greenlet of the parent lives on there, and its connection does not."""

    @pytest.mark.parametrize("verdict", [Unknown(cause="no_response"), NotSent(cause="not_connected")])
    def test_it_writes_nothing(self, world: World, verdict: Verdict) -> None:
        """The claim is the parent's, which still waits: no doubt, no release, no pause of the provider."""
        grant_id = world.sign_in(remaining=-1.0)
        threads = ForkedInTheCall()
        process = world.process(threads=threads)
        process.start(grant_id)
        claimed = []

        def fork() -> Verdict:
            threads.is_child = True
            claimed.append(world.row(grant_id))
            return verdict

        world.endpoint.script = [fork]
        with pytest.raises(_ForkedAway):
            threads.work()
        assert claimed == [world.row(grant_id)]
        assert process.rotation.breaker._circuits == {}


class ForkedInTheCall(LaterThreads):
    """Threads whose process turns into a forked child; asked there, they end who asks."""

    def __init__(self) -> None:
        self.is_child = False
        super().__init__()

    @property
    def are_closing(self) -> bool:
        if self.is_child:
            raise _ForkedAway
        return False

    @are_closing.setter
    def are_closing(self, value: bool) -> None:
        assert not value


class TestOutage:
    """A provider that is away costs nobody a session and is asked a bounded number of times."""

    @pytest.mark.parametrize(
        ("verdict", "failure"), [(BUSY, "busy"), (NotSent(cause="connection refused"), "not_sent")]
    )
    def test_a_provider_that_is_away_is_left_alone_for_a_while(
        self, world: World, verdict: Verdict, failure: str
    ) -> None:
        """All requests get 503 without a call until the pause is over, then one asks again."""
        grant_id = world.sign_in(remaining=-1.0)
        world.endpoint.script = [verdict]
        for each in (world.process(), world.process()):
            with pytest.raises(ProviderUnavailable) as caught:
                each.get(grant_id)
            assert caught.value.retry_after == pytest.approx(world.timing.backoff)
        assert world.row(grant_id).failure == failure
        assert world.endpoint.posts == ["refresh-0"]
        world.clock.advance(world.timing.backoff)
        assert access(world.process().get(grant_id)) == "access-2"
        assert world.row(grant_id).failures == 0

    def test_a_token_that_still_lives_is_served_in_an_outage(self, world: World) -> None:
        """Shorter than `min_ttl` is better than nothing."""
        grant_id = world.sign_in(remaining=10.0)
        world.endpoint.script = [BUSY]
        process = world.process()
        assert [access(process.get(grant_id)) for _ in range(3)] == ["access-0"] * 3
        assert world.endpoint.posts == ["refresh-0"]

    def test_each_failure_in_a_row_doubles_the_pause_up_to_the_limit(self, world: World) -> None:
        """An outage of an hour is a call a minute for each grant, not one for each request."""
        grant_id = world.sign_in(remaining=-1.0)
        world.endpoint.script = [BUSY] * 9
        pauses = []
        for _ in range(9):
            with pytest.raises(ProviderUnavailable) as caught:
                world.process().get(grant_id)
            pauses.append(round(caught.value.retry_after, 6))
            world.clock.advance(caught.value.retry_after)
        assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]

    @pytest.mark.parametrize(("jitter", "expected"), [(0.0, 0.75), (1.0, 1.25)])
    def test_pauses_are_spread(self, world: World, jitter: float, expected: float) -> None:
        """Grants that one outage hit at once do not come back at once."""
        grant_id = world.sign_in(remaining=-1.0)
        world.endpoint.script = [BUSY]
        with pytest.raises(ProviderUnavailable) as caught:
            world.process(jitter=jitter).get(grant_id)
        assert caught.value.retry_after == pytest.approx(expected)

    def test_a_provider_that_says_when_is_asked_then(self, world: World) -> None:
        """A `Retry-After` longer than the backoff counts."""
        grant_id = world.sign_in(remaining=-1.0)
        world.endpoint.script = [Busy(cause="429", retry_after=90.0)]
        with pytest.raises(ProviderUnavailable) as caught:
            world.process().get(grant_id)
        assert caught.value.retry_after == pytest.approx(90.0)

    def test_a_refused_client_costs_no_grant(self, world: World) -> None:
        """The error names the provider's code, and the grant works when the client is mended."""
        grant_id = world.sign_in(remaining=-1.0)
        world.endpoint.script = [Misconfigured(error="invalid_client", cure="check the secret")]
        with pytest.raises(ProviderMisconfigured) as caught:
            world.process().get(grant_id)
        assert caught.value.error == "invalid_client"
        assert caught.value.retry_after == pytest.approx(MISCONFIGURED_PAUSE)
        world.clock.advance(MISCONFIGURED_PAUSE)
        assert access(world.process().get(grant_id)) == "access-2"
