"""How long a worker waits, and when it looks again."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import pytest

from flask_tokenrotate.rotation.protocol import InDoubt, Policy, Wait
from flask_tokenrotate.rotation.tokens import Claim, Grant, Secret, StandingClaim, TokenSet
from flask_tokenrotate.rotation.waiting import (
    FIRST_GUESS,
    LONGEST,
    SHORTEST,
    UNTOLD,
    RotationTimes,
    Waiting,
    pauses,
)
from flask_tokenrotate.testing import ManualClock
from flask_tokenrotate.testing.memory import MemoryWakeups


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def a_grant(clock: ManualClock) -> Grant:
    tokens = TokenSet(access_token=Secret("access"))
    return Grant(id="g", provider="p", tokens=tokens, seen_at=clock.time())


def waiting(clock: ManualClock, until: float, times: RotationTimes) -> Waiting:
    """A worker that nobody tells anything."""
    with MemoryWakeups(clock).watch("g") as watch:
        return Waiting(clock, until, times, watch)


def wait(clock: ManualClock, *, taken: float = 0.0, deadline: float = 10.0) -> Wait:
    """A claim taken ``taken`` seconds ago that stands for ``deadline`` seconds from now."""
    now = clock.time()
    claim = Claim(id="c", grant_id="g", version=1, redeems=0)
    return Wait(StandingClaim(claim=claim, holder="h", taken_at=now - taken, deadline=now + deadline))


def test_the_first_look_comes_when_the_answer_is_due() -> None:
    """A look before the winner has usually saved is a statement for nothing."""
    assert next(pauses(0.8, elapsed=0.5, told=False)) == pytest.approx(0.3)
    assert next(pauses(0.8, elapsed=2.0, told=False)) == SHORTEST


def test_whoever_is_told_looks_late() -> None:
    """The look of its own is for a notification that was lost, and not before one can have been."""
    assert next(pauses(0.8, elapsed=0.5, told=True)) == pytest.approx(1.1 + UNTOLD)


def test_later_looks_come_ever_more_rarely_up_to_a_limit() -> None:
    """A slow rotation is polled a bounded number of times."""
    later = list(islice(pauses(0.4, elapsed=0.0, told=False), 1, 12))
    assert later == sorted(later)
    assert later[0] == pytest.approx(0.1)
    assert later[-1] == LONGEST


def test_rotation_times_start_with_a_guess_and_follow_what_is_seen() -> None:
    """The first rotation counts in full, later ones move the average; providers are kept apart."""
    times = RotationTimes()
    assert times.expected("p") == FIRST_GUESS
    times.record("p", 0.8)
    assert times.expected("p") == pytest.approx(0.8 + 2 * 0.1)
    for _ in range(50):
        times.record("p", 0.3)
    assert times.expected("p") == pytest.approx(0.3, abs=0.01)
    assert times.expected("q") == FIRST_GUESS


def test_rotations_that_vary_are_expected_later() -> None:
    """Half of them take longer than the average: looking then would be too early each other time."""
    times = RotationTimes()
    for _ in range(50):
        times.record("p", 0.2)
        times.record("p", 0.4)
    assert 0.4 < times.expected("p") < 0.6


def test_what_was_found_late_does_not_make_the_next_look_later() -> None:
    """A look tells only that the rotation was done by then; believed, each look would come after the last."""
    times = RotationTimes()
    times.record("p", 0.1)
    expected = times.expected("p")
    times.found_done("p", 0.5, exact=False)
    assert times.expected("p") == expected
    times.found_done("p", 0.09, exact=False)
    assert times.expected("p") < expected
    times.found_done("p", 0.5, exact=True)
    assert times.expected("p") > expected
    times.found_done("q", 0.5, exact=False)
    assert times.expected("q") > 0.5


def test_waiting_ends_at_its_moment(clock: ManualClock) -> None:
    """It is over at the moment itself, not a tick before."""
    worker = waiting(clock, clock.monotonic() + 15.0, RotationTimes())
    clock.advance(14.999)
    assert not worker.is_over()
    clock.advance(0.001)
    assert worker.is_over()


def test_a_worker_sleeps_no_longer_than_it_may_wait(clock: ManualClock) -> None:
    """The last sleep ends when the waiting does."""
    worker = waiting(clock, clock.monotonic() + 0.05, RotationTimes())
    worker.sleep(a_grant(clock), wait(clock), Policy())
    assert clock.monotonic() == pytest.approx(0.05)


def test_a_worker_sleeps_no_longer_than_the_claim_stands(clock: ManualClock) -> None:
    """The deadline is looked at when it comes, however slow the provider usually is."""
    times = RotationTimes()
    times.record("p", 5.0)
    worker = waiting(clock, clock.monotonic() + 15.0, times)
    worker.sleep(a_grant(clock), wait(clock, deadline=0.25), Policy())
    assert clock.monotonic() == pytest.approx(0.25)


def test_a_claim_in_doubt_is_looked_at_when_it_has_settled(clock: ManualClock) -> None:
    """Nothing can happen before, so nothing is asked before."""
    worker = waiting(clock, clock.monotonic() + 15.0, RotationTimes())
    worker.sleep(a_grant(clock), InDoubt(clock.time() + 2.0), Policy())
    assert clock.monotonic() == pytest.approx(2.0)


def test_what_is_found_after_a_wait_was_waited_for(clock: ManualClock) -> None:
    """The origin of a token set tells whether its request had to wait."""
    worker = waiting(clock, clock.monotonic() + 15.0, RotationTimes())
    assert worker.origin == "row"
    worker.sleep(a_grant(clock), wait(clock), Policy())
    assert worker.origin == "waited"


def test_a_wait_after_a_doubt_looks_when_the_replay_is_due(clock: ManualClock) -> None:
    """Whoever waited for a doubt to settle waits for the replay as for any other answer."""
    worker = waiting(clock, clock.monotonic() + 15.0, RotationTimes())
    worker.sleep(a_grant(clock), InDoubt(clock.time() + 2.0), Policy())
    worker.sleep(a_grant(clock), wait(clock), Policy())
    assert clock.monotonic() == pytest.approx(2.0 + FIRST_GUESS)


def test_a_worker_learns_from_what_it_waited_for(clock: ManualClock) -> None:
    """A process that has never rotated itself knows after one wait how long it takes."""
    times = RotationTimes()
    wakeups = MemoryWakeups(clock, is_told=True)
    with wakeups.watch("g") as watch:
        worker = Waiting(clock, clock.monotonic() + 15.0, times, watch)
        decision = wait(clock)
        wakeups.wake("g")
        worker.sleep(a_grant(clock), decision, Policy())
        clock.advance(0.7)
        worker.found(replace(a_grant(clock), token_version=decision.standing.claim.version))
    assert times.expected("p") == pytest.approx(0.7 + 2 * 0.7 / 8)


def test_a_wakeup_is_heard_once(clock: ManualClock) -> None:
    """After a look the worker sleeps again, or one notification would keep it awake for good."""
    wakeups = MemoryWakeups(clock)
    with wakeups.watch("g") as watch:
        worker = Waiting(clock, clock.monotonic() + 15.0, RotationTimes(), watch)
        wakeups.wake("g")
        worker.sleep(a_grant(clock), wait(clock), Policy())
        assert clock.monotonic() == 0.0
        worker.look()
        worker.sleep(a_grant(clock), wait(clock), Policy())
        assert clock.monotonic() > 0.0


@pytest.mark.parametrize(("remaining", "told"), [(-1.0, True), (5.0, True), (100.0, False), (9000.0, False)])
def test_a_rotation_ahead_is_not_waited_for_to_be_told(
    clock: ManualClock, remaining: float, told: bool
) -> None:
    """Who waits for one looks when it is probably done: nobody says so, as hardly anybody ever waits."""
    times = RotationTimes()
    with MemoryWakeups(clock, is_told=True).watch("g") as watch:
        worker = Waiting(clock, clock.monotonic() + 15.0, times, watch)
        tokens = TokenSet(
            access_token=Secret("access"), expires_at=clock.time() + remaining, lifetime=36_000.0
        )
        worker.sleep(replace(a_grant(clock), tokens=tokens), wait(clock), Policy(min_ttl=30.0))
    expected = times.expected("p")
    assert clock.monotonic() == pytest.approx(2 * expected + UNTOLD if told else expected)
