"""In the ahead window one request hands the grant over to a rotation thread, and nobody waits."""

from __future__ import annotations

import pytest

from flask_tokenrotate.rotation.tokens import Secret
from flask_tokenrotate.rotation.verdict import Busy, Verdict

from .processes import LaterThreads, World, access

BUSY = Busy(cause="503")


@pytest.fixture
def world() -> World:
    return World()


class TestOnAThread:
    """Where threads run, a thread rotates at once, whatever the request does meanwhile."""

    @pytest.mark.parametrize("cache_seconds", [5.0, 0.0], ids=["cached", "not cached"])
    def test_one_request_hands_over_and_all_use_the_current_token(
        self, world: World, cache_seconds: float
    ) -> None:
        """The provider is not called while anyone waits, and nothing is left to the requests."""
        grant_id = world.sign_in(remaining=100.0)
        threads = LaterThreads()
        process = world.process(threads=threads, cache_seconds=cache_seconds)
        found = [process.get(grant_id) for _ in range(3)]
        assert {(access(fresh), fresh.rotate_ahead) for fresh in found} == {("access-0", False)}
        assert (len(threads.queued), world.endpoint.posts, world.clock.sleeps) == (1, [], [])
        threads.work()
        assert (access(process.get(grant_id)), world.endpoint.posts) == ("access-1", ["refresh-0"])

    def test_a_grant_is_handed_over_once_in_a_claims_length(self, world: World) -> None:
        """A redemption that failed is not tried by each request."""
        grant_id = world.sign_in(remaining=100.0)
        threads = LaterThreads()
        process = world.process(threads=threads, cache_seconds=1000.0)
        process.get(grant_id)
        threads.queued.clear()
        process.rotation.flights.reset()
        process.get(grant_id)
        assert threads.queued == []
        world.clock.advance(world.timing.claim)
        process.get(grant_id)
        assert len(threads.queued) == 1

    def test_where_no_thread_is_free_it_is_left_for_later(self, world: World) -> None:
        """Nobody waits for it, and nobody finds a flight that never lands."""
        grant_id = world.sign_in(remaining=100.0)
        threads = LaterThreads()
        threads.run = lambda provider, work, *, ahead: False  # type: ignore[method-assign]
        process = world.process(threads=threads)
        fresh = process.get(grant_id)
        assert (access(fresh), fresh.rotate_ahead) == ("access-0", False)
        assert process.flights.of(grant_id) is None

    def test_what_is_over_when_a_thread_is_free_is_not_redeemed(self, world: World) -> None:
        """The work waited until the refresh token had expired: it decides again."""
        grant_id = world.sign_in(remaining=100.0, refresh_expires_in=3600.0)
        threads = LaterThreads()
        process = world.process(threads=threads)
        process.get(grant_id)
        world.clock.advance(200.0)
        threads.work()
        assert world.endpoint.posts == []

    def test_a_request_that_needs_a_token_joins_it(self, world: World) -> None:
        """One redemption for both."""
        grant_id = world.sign_in(remaining=100.0)
        threads = LaterThreads()
        process = world.process(threads=threads)
        process.get(grant_id)
        world.clock.advance(100.0)
        world.clock.meanwhile = [threads.work]
        fresh = process.get(grant_id)
        assert (access(fresh), fresh.origin) == ("access-1", "rotated")
        assert world.endpoint.posts == ["refresh-0"]

    @pytest.mark.parametrize("away", ["try_claim", "release"])
    def test_a_failure_is_logged(self, world: World, caplog: pytest.LogCaptureFixture, away: str) -> None:
        """Nobody waits for it: there is only the log."""
        grant_id = world.sign_in(remaining=100.0)
        threads = LaterThreads()
        world.process(threads=threads).get(grant_id)
        world.endpoint.script = [BUSY]
        world.store.away = {away}
        threads.work()
        assert "could not be rotated ahead" in caplog.text


class TestWithoutThreads:
    """Where threads cannot run, one request is asked to rotate after its response was sent."""

    def test_one_request_is_asked_to_rotate(self, world: World) -> None:
        """The others use the current token."""
        grant_id = world.sign_in(remaining=100.0)
        process = world.process()
        found = [process.get(grant_id) for _ in range(3)]
        assert [fresh.rotate_ahead for fresh in found] == [True, False, False]
        assert {access(fresh) for fresh in found} == {"access-0"}
        assert world.endpoint.posts == []

    def test_it_replaces_the_token_for_the_next_request(self, world: World) -> None:
        """The cache has the new token at once."""
        grant_id = world.sign_in(remaining=100.0)
        process = world.process()
        process.get(grant_id)
        process.rotate_ahead(grant_id)
        assert (access(process.get(grant_id)), process.get(grant_id).origin) == ("access-1", "cache")

    def test_readers_do_not_wait_for_it(self, world: World) -> None:
        """Another request in the middle of it goes on with the current token."""
        grant_id = world.sign_in(remaining=100.0)
        process, found = world.process(cache_seconds=0.0), []

        def read_meanwhile() -> Verdict:
            found.append(access(process.get(grant_id)))
            process.rotate_ahead(grant_id)
            return world.endpoint.rotated()

        world.endpoint.script = [read_meanwhile]
        process.rotate_ahead(grant_id)
        assert found == ["access-0"]
        assert world.clock.sleeps == []
        assert world.endpoint.posts == ["refresh-0"]

    def test_a_token_that_is_fresh_again_is_not_rotated(self, world: World) -> None:
        """Between the request and the end of its response another process may have rotated."""
        grant_id = world.sign_in(remaining=100.0)
        world.process().rotate_ahead(grant_id)
        world.process().rotate_ahead(grant_id)
        assert world.endpoint.posts == ["refresh-0"]

    @pytest.mark.parametrize("away", ["load", "try_claim", "release"])
    def test_a_failure_is_never_raised(self, world: World, away: str) -> None:
        """The response was sent: there is nobody to raise it for."""
        grant_id = world.sign_in(remaining=100.0)
        world.endpoint.script = [BUSY]
        world.store.away = {away}
        world.process().rotate_ahead(grant_id)
        assert world.store.calls[-1] == away


def test_a_grant_without_a_refresh_token_is_not_handed_over(world: World) -> None:
    """There is nothing to redeem."""
    grant_id = world.sign_in(remaining=100.0, refresh_token=None, access_token=Secret("access-0"))
    threads = LaterThreads()
    world.process(threads=threads).get(grant_id)
    assert threads.queued == []
