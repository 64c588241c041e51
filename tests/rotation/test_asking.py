"""A request's way from a row to a token set."""

from __future__ import annotations

from typing import Any

import pytest

from flask_tokenrotate.errors import RotationTimeout, SignInRequired, StoreUnavailable
from flask_tokenrotate.rotation.asking import Asking
from flask_tokenrotate.rotation.verdict import Busy, Verdict

from .processes import LIFETIME, LaterThreads, World, access, real_threads
from .turns import SlowProvider, Turns, TurnsThreads


@pytest.fixture
def world() -> World:
    return World()


class TestUse:
    """A token that is fresh costs nobody anything."""

    def test_a_fresh_token_comes_from_the_row_and_then_from_the_cache(self, world: World) -> None:
        """The provider is not asked, the row once."""
        grant_id = world.sign_in(remaining=1000.0)
        process = world.process()
        world.store.calls.clear()
        found = [process.get(grant_id) for _ in range(3)]
        assert [fresh.origin for fresh in found] == ["row", "cache", "cache"]
        assert world.store.calls == ["load"]
        assert world.endpoint.posts == []

    def test_a_cached_token_that_has_run_out_is_not_used(self, world: World) -> None:
        """Expiry by the clock is seen on each hit, whatever the cache keeps."""
        grant_id = world.sign_in(remaining=40.0)
        process = world.process(cache_seconds=1000.0)
        assert access(process.get(grant_id)) == "access-0"
        world.clock.advance(20.0)
        assert access(process.get(grant_id)) == "access-1"

    def test_a_grant_that_is_not_there_needs_a_sign_in(self, world: World) -> None:
        """An id without a row is treated like a grant that has ended."""
        with pytest.raises(SignInRequired) as caught:
            world.process().get("nothing")
        assert (caught.value.provider, caught.value.reason) == (None, "no_grant")


class TestWhenAFlightIsTooSlow:
    """The request stops waiting; what it gets then is what the row says now."""

    @pytest.mark.parametrize("remaining", [20.0, -1.0], ids=["valid", "expired"])
    def test_the_old_token_is_served_while_it_is_valid(self, remaining: float) -> None:
        """Otherwise the request gets an error with a time to come again."""
        clock, world, process = slow_world(takes=40.0)
        grant_id = world.sign_in(remaining=remaining)
        job = clock.start(lambda: process.get(grant_id))
        clock.run()
        assert job.seconds == pytest.approx(world.wait_seconds)
        if remaining > 0:
            assert access(job.result) == "access-0"
        else:
            assert isinstance(job.error, RotationTimeout)

    def test_a_user_who_signed_out_meanwhile_is_not_served(self) -> None:
        """The row that the request began with is as old as its waiting."""
        clock, world, process = slow_world(takes=40.0)
        grant_id = world.sign_in(remaining=20.0)
        job = clock.start(lambda: process.get(grant_id))
        clock.start(lambda: world.process().sign_out(grant_id), after=5.0)
        clock.run()
        assert isinstance(job.error, SignInRequired)
        assert world.endpoint.revoked == ["access-0", "access-1"]

    def test_from_the_row_it_began_with_it_would_be(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The control: without the second look."""
        landed = Asking._landed

        def without_a_look(asking: Asking, step: Any, seen: Any, flight: Any) -> Any:
            return landed(asking, step, seen, flight) or asking._last_resort(step, seen)

        monkeypatch.setattr(Asking, "_landed", without_a_look)
        clock, world, process = slow_world(takes=40.0)
        grant_id = world.sign_in(remaining=20.0)
        job = clock.start(lambda: process.get(grant_id))
        clock.start(lambda: world.process().sign_out(grant_id), after=5.0)
        clock.run()
        assert access(job.result) == "access-0"


def test_a_flight_that_saved_what_was_read_already_is_no_news(world: World) -> None:
    """It has saved, has not landed yet, and its token set was refused by a resource server meanwhile."""
    grant_id = world.sign_in(remaining=-1.0)
    threads = LaterThreads()
    process = world.process(threads=threads, cache_seconds=0.0)
    flight = process.start(grant_id)
    land = process.flights._land

    def refuse_before_it_lands(landing: Any) -> None:
        process.flights._land = land  # type: ignore[method-assign]
        row = world.row(grant_id)
        assert row.token_version == 1
        world.store.expire(grant_id, 1)
        world.clock.meanwhile = [lambda: land(flight), threads.work]
        found.append(access(process.get(grant_id, at_least=2)))

    found: list[str] = []
    process.flights._land = refuse_before_it_lands  # type: ignore[method-assign]
    threads.work()
    assert found == ["access-2"]
    assert world.endpoint.posts == ["refresh-0", "refresh-1"]


def slow_world(*, takes: float) -> tuple[Turns, World, Any]:
    clock = Turns()
    world = World(clock, SlowProvider(clock, takes=takes, lifetime=LIFETIME))
    return clock, world, world.process(threads=TurnsThreads(clock))


class TestHere:
    """A caller that has nobody to leave work to."""

    def test_it_waits_for_the_end_of_the_call(self) -> None:
        """However slow the provider is."""
        clock, world, process = slow_world(takes=40.0)
        grant_id = world.sign_in(remaining=-1.0)
        job = clock.start(lambda: process.get(grant_id, here=True))
        clock.run()
        assert (access(job.result), job.seconds) == ("access-1", pytest.approx(40.0))

    def test_it_waits_for_the_flight_of_another_thread(self) -> None:
        """Also for one that began long before, and whatever stands on the row."""
        clock, world, process = slow_world(takes=40.0)
        grant_id = world.sign_in(remaining=-1.0)
        clock.start(lambda: process.get(grant_id))
        job = clock.start(lambda: process.get(grant_id, here=True), after=20.0)
        clock.run()
        assert (access(job.result), job.ended) == ("access-1", pytest.approx(world.clock.monotonic()))

    @pytest.mark.parametrize("cached", [False, True])
    def test_what_is_due_is_rotated_before_it_returns(self, world: World, cached: bool) -> None:
        """Nothing is left to a thread, or to the end of a response that there is not."""
        grant_id = world.sign_in(remaining=100.0)
        threads = LaterThreads()
        process = world.process(threads=threads)
        if cached:
            world.endpoint.script = [Busy(cause="503")]
            process.get(grant_id, here=True)
            world.clock.advance(world.timing.backoff)
        fresh = process.get(grant_id, here=True)
        assert (access(fresh), fresh.origin, threads.queued) == (f"access-{1 + cached}", "rotated", [])

    def test_a_failure_of_what_is_due_costs_nothing(self, world: World) -> None:
        """The token is valid, after all."""
        grant_id = world.sign_in(remaining=100.0)
        world.endpoint.script = [Busy(cause="503")]
        assert access(world.process().get(grant_id, here=True)) == "access-0"
        world.store.away = {"try_claim"}
        world.clock.advance(5.0)
        assert access(world.process().get(grant_id, here=True)) == "access-0"

    def test_it_needs_no_thread_of_the_pool(self, world: World) -> None:
        """The call runs in a caller whose process never had a rotation thread, and may wait there."""
        grant_id = world.sign_in(remaining=-1.0)
        waited = []

        def wait_for_the_response() -> Verdict:
            waited.append(world.endpoint.during())
            return world.endpoint.rotated()

        world.endpoint.script = [wait_for_the_response]
        process = world.process(threads=real_threads(world.clock))
        assert access(process.get(grant_id, here=True)) == "access-1"
        assert waited[0] > world.clock.monotonic()


class TestNothingGoesOnForEver:
    """Whatever comes back, a request ends."""

    @pytest.mark.parametrize("here", [False, True])
    def test_claims_that_are_always_too_slow(self, world: World, here: bool) -> None:
        """A database that takes long for each claim leaves no time to post; the request waits its time."""
        grant_id = world.sign_in(remaining=-1.0)
        try_claim = world.store.try_claim

        def slowly(*args: Any, **options: Any) -> Any:
            claim = try_claim(*args, **options)
            world.clock.advance(4.0)
            return claim

        world.store.try_claim = slowly  # type: ignore[method-assign]
        began = world.clock.monotonic()
        with pytest.raises(RotationTimeout):
            world.process().get(grant_id, here=here)
        assert world.clock.monotonic() - began < world.wait_seconds + 4.0 + 1.0
        assert world.endpoint.posts == []

    def test_a_database_that_cannot_be_read(self, world: World) -> None:
        """It is an error at once."""
        grant_id = world.sign_in(remaining=-1.0)
        world.store.away = {"load"}
        with pytest.raises(StoreUnavailable):
            world.process().get(grant_id)
