"""What the threads of one process share, and what a request is never given."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from flask_tokenrotate.clock import SystemClock
from flask_tokenrotate.errors import ProviderUnavailable, RotationTimeout, StoreUnavailable
from flask_tokenrotate.rotation.verdict import Busy, Verdict

from .processes import LIFETIME, World, access, real_threads
from .turns import SlowProvider, Turns, TurnsThreads

BUSY = Busy(cause="503")
THREADS = 8
LONGEST = 10.0
"""Seconds until a test that hangs fails."""


@pytest.fixture
def world() -> World:
    return World()


def storm(world: World, verdict: Callable[[], Verdict], *, in_background: bool) -> list[object]:
    """Let `THREADS` threads want one grant; the provider responds when all of them wait."""
    grant_id = world.sign_in(remaining=-1.0)
    clock = SystemClock()
    process = world.process(clock=clock, threads=real_threads(clock) if in_background else None)
    looks, waiting = process.tokens._looks, threading.Semaphore(0)
    join = looks.join

    def count_and_join(grant_id: str) -> object:
        look, mine = join(grant_id)
        if not mine:
            waiting.release()
        return look, mine

    def respond_when_all_wait() -> Verdict:
        for _ in range(THREADS - 1):
            assert waiting.acquire(timeout=LONGEST)
        return verdict()

    looks.join = count_and_join  # type: ignore[method-assign, assignment]
    world.endpoint.script = [respond_when_all_wait]

    def want() -> object:
        try:
            return access(process.get(grant_id))
        except ProviderUnavailable as error:
            return error

    with ThreadPoolExecutor(THREADS) as pool:
        return [future.result(LONGEST) for future in [pool.submit(want) for _ in range(THREADS)]]


@pytest.mark.parametrize("in_background", [False, True], ids=["in the caller", "on a rotation thread"])
class TestThreadsOfOneProcess:
    """One works, the others share what it finds."""

    def test_all_threads_get_the_token_of_one_redemption(self, world: World, in_background: bool) -> None:
        """One post for eight threads."""
        assert storm(world, world.endpoint.rotated, in_background=in_background) == ["access-1"] * THREADS
        assert world.endpoint.posts == ["refresh-0"]

    def test_a_failure_is_shared_and_each_thread_has_its_own_error(
        self, world: World, in_background: bool
    ) -> None:
        """None of those who wait asks the provider in turn, and no traceback is shared."""
        errors = storm(world, lambda: BUSY, in_background=in_background)
        assert all(isinstance(error, ProviderUnavailable) for error in errors)
        assert len({id(error) for error in errors}) == THREADS
        assert world.endpoint.posts == ["refresh-0"]


def test_a_look_that_does_not_end_in_time_is_given_up(world: World) -> None:
    """Who waits for another thread's look has a deadline of its own."""
    grant_id = world.sign_in(remaining=-1.0)
    process = world.process()
    process.tokens._looks.join(grant_id)
    began = world.clock.monotonic()
    with pytest.raises(RotationTimeout):
        process.get(grant_id)
    assert world.clock.monotonic() - began == pytest.approx(world.wait_seconds)


def test_a_look_that_timed_out_is_not_waited_for_again(world: World) -> None:
    """Who waited for another thread's look does not begin to wait anew with a look of its own.

    The redemption waits for a free thread all the time, so that no claim says since when it is waited for.
    """
    clock = Turns()
    world = World(clock, SlowProvider(clock, takes=1.0, lifetime=LIFETIME))
    grant_id = world.sign_in(remaining=-1.0)
    threads = TurnsThreads(clock)
    threads.run = lambda provider, work, *, ahead: True  # type: ignore[method-assign]
    process = world.process(threads=threads)
    jobs = [clock.start(lambda: process.get(grant_id), after=after) for after in (0.0, 1.0, 2.0, 3.0)]
    clock.run()
    assert all(isinstance(job.error, RotationTimeout) for job in jobs)
    assert [job.seconds for job in jobs] == pytest.approx([world.wait_seconds] * 4)


@pytest.mark.parametrize("remaining", [20.0, -1.0], ids=["valid", "expired"])
def test_who_joins_the_look_of_a_job_stops_waiting_all_the_same(remaining: float) -> None:
    """A job's look ends when its redemption does; a request gets what there is at the end of its own time."""
    clock = Turns()
    world = World(clock, SlowProvider(clock, takes=40.0, lifetime=LIFETIME))
    grant_id = world.sign_in(remaining=remaining)
    process = world.process(threads=TurnsThreads(clock), cache_seconds=0.0)
    clock.start(lambda: process.get(grant_id, here=True))
    job = clock.start(lambda: process.get(grant_id), after=1.0)
    clock.run()
    assert job.seconds == pytest.approx(world.wait_seconds)
    if remaining > 0:
        assert access(job.result) == "access-0"
    else:
        assert isinstance(job.error, RotationTimeout)


def test_a_token_set_that_has_run_out_meanwhile_is_not_shared() -> None:
    """The process was stopped between the other thread's look and the moment at which this one woke up."""
    clock = Turns()
    world = World(clock, SlowProvider(clock, takes=0.5, lifetime=60.0))
    world.wait_seconds = 1000.0
    grant_id = world.sign_in(remaining=-1.0)
    process, other = world.process(cache_seconds=0.0), world.process(cache_seconds=0.0)

    def look_and_be_stopped() -> None:
        look, _ = process.tokens._looks.join(grant_id)
        clock.sleep(1.0)
        process.tokens._looks.take(grant_id, look, lambda: other.get(grant_id))
        clock.advance(100.0)

    clock.start(look_and_be_stopped)
    job = clock.start(lambda: process.get(grant_id), after=0.5)
    clock.run()
    assert access(job.result) == "access-2"


class TestAtLeast:
    """A request that has used a newer token set does not get an older one."""

    @pytest.mark.parametrize("at_least", [0, 1])
    def test_a_row_that_went_back_is_not_used_below_at_least(self, world: World, at_least: int) -> None:
        """A database restored from a copy gives a request no older token set than it has used already."""
        grant_id = world.sign_in(remaining=1000.0)
        if at_least == 0:
            assert world.process().get(grant_id, at_least=at_least).token_version == 0
            return
        with pytest.raises(StoreUnavailable, match="used already"):
            world.process().get(grant_id, at_least=at_least)

    def test_at_least_is_never_undercut_by_the_cache(self, world: World) -> None:
        """What is still cached may be older than what the request has used."""
        grant_id = world.sign_in(remaining=1000.0)
        process = world.process(cache_seconds=1000.0)
        process.get(grant_id)
        world.save_elsewhere(world.claim_elsewhere(grant_id))
        assert access(process.get(grant_id)) == "access-0"
        assert access(process.get(grant_id, at_least=1)) == "access-elsewhere"

    def test_what_another_thread_found_is_not_shared_below_at_least(self, world: World) -> None:
        """Its wish may have been satisfied by an older token set."""
        grant_id = world.sign_in(remaining=1000.0)
        process = world.process(cache_seconds=0.0)
        old = process.get(grant_id)
        world.save_elsewhere(world.claim_elsewhere(grant_id))
        look, _ = process.tokens._looks.join(grant_id)

        def another_thread() -> None:
            process.tokens._looks.take(grant_id, look, lambda: old)

        world.clock.meanwhile = [another_thread]
        assert access(process.get(grant_id, at_least=1)) == "access-elsewhere"
