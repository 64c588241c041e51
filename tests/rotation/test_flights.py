"""One flight for each grant and process: joined by requests, and not ended by them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from flask_tokenrotate.clock import SystemClock
from flask_tokenrotate.errors import ProviderUnavailable, RotationTimeout, StoreUnavailable
from flask_tokenrotate.rotation.outcomes import Overtaken
from flask_tokenrotate.rotation.sighting import Sighting
from flask_tokenrotate.rotation.tokens import Grant
from flask_tokenrotate.rotation.verdict import Busy, Verdict

from .processes import LaterThreads, World, access, real_threads

THREADS = 8
LONGEST = 10.0
"""Seconds until a test that hangs fails."""


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def threads() -> LaterThreads:
    return LaterThreads()


class TestOneForEachGrant:
    """Whoever needs it joins it."""

    def test_who_comes_during_a_flight_joins_it(self, world: World, threads: LaterThreads) -> None:
        """Another grant has a flight of its own; after the landing there is none."""
        grant_id, other_id = world.sign_in(remaining=-1.0), world.sign_in(remaining=-1.0)
        process = world.process(threads=threads)
        flight = process.start(grant_id)
        assert process.start(grant_id) is flight
        assert process.start(other_id) is not flight
        threads.work()
        assert flight.landed.wait(0)
        assert process.flights.of(grant_id) is None
        assert world.endpoint.posts == ["refresh-0"] * 2

    def test_many_threads_start_one(self, world: World) -> None:
        """All of them have what it brings; the provider is asked when all have joined."""
        grant_id = world.sign_in(remaining=-1.0)
        clock = SystemClock()
        process = world.process(clock=clock, threads=real_threads(clock))
        joined = threading.Barrier(THREADS + 1)

        def respond_when_all_have_joined() -> Verdict:
            joined.wait(LONGEST)
            return world.endpoint.rotated()

        world.endpoint.script = [respond_when_all_have_joined]

        def want() -> Any:
            flight = process.start(grant_id)
            joined.wait(LONGEST)
            assert flight.landed.wait(LONGEST)
            return flight

        with ThreadPoolExecutor(THREADS) as pool:
            flights = {future.result(LONGEST) for future in [pool.submit(want) for _ in range(THREADS)]}
        assert len(flights) == 1
        result = flights.pop().result
        assert (result.grant.tokens.access_token.reveal(), world.endpoint.posts) == (
            "access-1",
            ["refresh-0"],
        )

    def test_a_rotation_ahead_is_a_flight_as_any(self, world: World, threads: LaterThreads) -> None:
        """It is not started twice, and an awaited one is not started beside it."""
        grant_id = world.sign_in(remaining=100.0)
        process = world.process(threads=threads)
        process.rotate_ahead(grant_id)
        process.rotate_ahead(grant_id)
        assert process.start(grant_id) is process.flights.of(grant_id)
        assert len(threads.queued) == 1


class TestItsRequestGaveUp:
    """The redemption goes on: its refresh token was posted."""

    def test_what_it_brings_is_saved(self, world: World, threads: LaterThreads) -> None:
        """The next request has the token."""
        grant_id = world.sign_in(remaining=-1.0)
        process = world.process(threads=threads)
        with pytest.raises(RotationTimeout):
            process.get(grant_id)
        threads.work()
        assert world.row(grant_id).token_version == 1
        fresh = process.get(grant_id)
        assert (access(fresh), fresh.origin) == ("access-1", "cache")
        assert world.endpoint.posts == ["refresh-0"]

    def test_what_a_later_request_needs_is_not_started_again(
        self, world: World, threads: LaterThreads
    ) -> None:
        """Half a minute later the same flight is still the only one."""
        grant_id = world.sign_in(remaining=-1.0)
        process = world.process(threads=threads)
        for _ in range(2):
            with pytest.raises(RotationTimeout):
                process.get(grant_id)
        assert len(threads.queued) == 1


class TestLanding:
    """A flight lands whatever happens, and says what."""

    def test_with_the_new_token_set(self, world: World, threads: LaterThreads) -> None:
        """It is cached, too."""
        grant_id = world.sign_in(remaining=-1.0)
        process = world.process(threads=threads)
        flight = process.start(grant_id)
        threads.work()
        assert isinstance(flight.result, Sighting)
        world.store.calls.clear()
        assert access(process.get(grant_id)) == "access-1"
        assert world.store.calls == []

    def test_with_what_a_lost_claim_found(self, world: World, threads: LaterThreads) -> None:
        """Another process was faster between the read and the claim."""
        grant_id = world.sign_in(remaining=-1.0)
        flight = world.process(threads=threads).start(grant_id)
        world.claim_elsewhere(grant_id)
        threads.work()
        assert isinstance(flight.result, Overtaken)
        assert flight.result.row is not None
        assert flight.result.row.standing is not None

    def test_with_an_error_of_ours(self, world: World, threads: LaterThreads) -> None:
        """Each request that waited raises one of its own."""
        grant_id = world.sign_in(remaining=-1.0)
        process = world.process(threads=threads)
        world.store.away = {"try_claim"}
        world.clock.meanwhile = [threads.work]
        with pytest.raises(StoreUnavailable) as caught:
            process.get(grant_id)
        flight = process.start(grant_id)
        threads.work()
        assert isinstance(flight.error, StoreUnavailable)
        assert flight.error is not caught.value

    @pytest.mark.parametrize("on_thread", [True, False], ids=["on a thread", "in the caller"])
    def test_with_a_defect(
        self, world: World, threads: LaterThreads, caplog: pytest.LogCaptureFixture, on_thread: bool
    ) -> None:
        """The request gets it, as it would have without threads, and does not try for ever."""
        grant_id = world.sign_in(remaining=-1.0)
        process = world.process(threads=threads if on_thread else None)
        world.store.try_claim = lambda *_, **__: 1 / 0  # type: ignore[method-assign]
        if on_thread:
            world.clock.meanwhile = [threads.work]
        with pytest.raises(ZeroDivisionError):
            process.get(grant_id)
        assert "the redemption of grant" in caplog.text
        assert process.flights.of(grant_id) is None

    def test_with_nothing_where_the_row_says_what_happened(self, world: World, threads: LaterThreads) -> None:
        """The request reads the row; what was cached is dropped, or it would start the same flight again."""
        grant_id = world.sign_in(remaining=-1.0)
        process = world.process(threads=threads)
        world.endpoint.script = [Busy(cause="503")]
        world.clock.meanwhile = [threads.work]
        with pytest.raises(ProviderUnavailable):
            process.get(grant_id)
        assert process.rotation.cache.get(grant_id, world.clock.monotonic()).seen.grant.retry_at  # type: ignore[union-attr]

    @pytest.mark.parametrize("ahead", [False, True])
    def test_when_it_could_not_even_be_handed_over(
        self, world: World, threads: LaterThreads, ahead: bool
    ) -> None:
        """What is thrown into the request (a `gevent.Timeout`) leaves no flight that never lands."""

        class Timeout(BaseException):
            pass

        def interrupted(provider: str, work: object, *, ahead: bool) -> bool:
            raise Timeout

        grant_id = world.sign_in(remaining=100.0 if ahead else -1.0)
        process = world.process(threads=threads)
        run, threads.run = threads.run, interrupted  # type: ignore[method-assign]
        with pytest.raises(Timeout):
            process.get(grant_id)
        assert process.flights.of(grant_id) is None
        threads.run = run  # type: ignore[method-assign]
        process.start(grant_id)
        threads.work()
        assert world.endpoint.posts == ["refresh-0"]


class TestNotices:
    """The observer is notified when the flight has landed."""

    def test_they_come_after_the_landing(self, world: World, threads: LaterThreads) -> None:
        """In the order in which things happened."""
        grant_id = world.sign_in(remaining=-1.0)
        process = world.process(threads=threads)
        flight = process.start(grant_id)
        landed: list[bool] = []
        world.notified.then = lambda grant: landed.append(flight.landed.wait(0))
        threads.work()
        assert (world.notified.names, landed) == (["claimed", "token_rotated"], [True, True])

    def test_they_come_after_a_failure_too(self, world: World, threads: LaterThreads) -> None:
        """The claim was taken, whatever became of it."""
        grant_id = world.sign_in(remaining=-1.0)
        world.process(threads=threads).start(grant_id)
        world.endpoint.script = [Busy(cause="503")]
        world.store.away = {"release"}
        threads.work()
        assert world.notified.names == ["claimed"]

    def test_an_observer_that_raises_costs_nobody_a_token(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It must not, and the thread goes on all the same."""
        first, second = world.sign_in(remaining=-1.0), world.sign_in(remaining=-1.0)
        clock = SystemClock()
        pool = real_threads(clock)
        process = world.process(clock=clock, threads=pool)

        def fail(grant: Grant) -> None:
            raise RuntimeError("a defect of the observer's")

        world.notified.then = fail
        assert access(process.get(first)) == "access-1"
        assert access(process.get(second)) == "access-2"
        assert pool.wait_until_idle(LONGEST)
        assert "a defect of the observer's" in caplog.text

    def test_a_receiver_that_asks_on_a_real_thread_gets_the_token(self, world: World) -> None:
        """It waits neither for the flight nor for the look of the request that waits for it."""
        grant_id = world.sign_in(remaining=-1.0)
        clock = SystemClock()
        pool = real_threads(clock)
        process = world.process(clock=clock, threads=pool, cache_seconds=0.0)
        found: list[str] = []
        world.notified.then = lambda grant: found.append(access(process.get(grant.id)))
        assert access(process.get(grant_id)) == "access-1"
        assert pool.wait_until_idle(LONGEST)
        assert found == ["access-1"] * 2
