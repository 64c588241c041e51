"""How long a worker waits, and when it looks again."""

from __future__ import annotations

from itertools import islice

import pytest

from flask_tokenrotate.rotation.protocol import InDoubt, Wait
from flask_tokenrotate.rotation.tokens import Claim, Grant, Secret, StandingClaim, TokenSet
from flask_tokenrotate.rotation.waiting import FIRST_GUESS, LONGEST, SHORTEST, AnswerTimes, Waiting, pauses
from flask_tokenrotate.testing import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def a_grant(clock: ManualClock) -> Grant:
    tokens = TokenSet(access_token=Secret("access"))
    return Grant(id="g", provider="p", tokens=tokens, seen_at=clock.time())


def wait(clock: ManualClock, *, taken: float = 0.0, deadline: float = 10.0) -> Wait:
    """A claim taken ``taken`` seconds ago that stands for ``deadline`` seconds from now."""
    now = clock.time()
    claim = Claim(id="c", grant_id="g", version=1, redeems=0)
    return Wait(StandingClaim(claim=claim, holder="h", taken_at=now - taken, deadline=now + deadline))


def test_the_first_look_comes_when_the_answer_is_due() -> None:
    """A look before the provider usually answers is a statement for nothing."""
    assert next(pauses(0.8, elapsed=0.5)) == pytest.approx(0.3)
    assert next(pauses(0.8, elapsed=2.0)) == SHORTEST


def test_later_looks_come_ever_more_rarely_up_to_a_limit() -> None:
    """A slow rotation is polled a bounded number of times."""
    later = list(islice(pauses(0.4, elapsed=0.0), 1, 12))
    assert later == sorted(later)
    assert later[0] == pytest.approx(0.1)
    assert later[-1] == LONGEST


def test_answer_times_start_with_a_guess_and_follow_what_is_seen() -> None:
    """The first answer counts in full, later ones move the average; providers are kept apart."""
    times = AnswerTimes()
    assert times.typical("p") == FIRST_GUESS
    times.record("p", 0.9)
    assert times.typical("p") == 0.9
    times.record("p", 0.3)
    assert times.typical("p") == pytest.approx(0.7)
    assert times.typical("q") == FIRST_GUESS


def test_waiting_ends_at_its_moment(clock: ManualClock) -> None:
    """It is over at the moment itself, not a tick before."""
    waiting = Waiting(clock, clock.monotonic() + 15.0, AnswerTimes())
    clock.advance(14.999)
    assert not waiting.is_over()
    clock.advance(0.001)
    assert waiting.is_over()


def test_a_worker_sleeps_no_longer_than_it_may_wait(clock: ManualClock) -> None:
    """The last sleep ends when the waiting does."""
    waiting = Waiting(clock, clock.monotonic() + 0.05, AnswerTimes())
    waiting.sleep(a_grant(clock), wait(clock))
    assert clock.monotonic() == pytest.approx(0.05)


def test_a_worker_sleeps_no_longer_than_the_claim_stands(clock: ManualClock) -> None:
    """The deadline is looked at when it comes, however slow the provider usually is."""
    times = AnswerTimes()
    times.record("p", 5.0)
    waiting = Waiting(clock, clock.monotonic() + 15.0, times)
    waiting.sleep(a_grant(clock), wait(clock, deadline=0.25))
    assert clock.monotonic() == pytest.approx(0.25)


def test_a_claim_in_doubt_is_looked_at_when_it_has_settled(clock: ManualClock) -> None:
    """Nothing can happen before, so nothing is asked before."""
    waiting = Waiting(clock, clock.monotonic() + 15.0, AnswerTimes())
    waiting.sleep(a_grant(clock), InDoubt(clock.time() + 2.0))
    assert clock.monotonic() == pytest.approx(2.0)


def test_what_is_found_after_a_wait_was_waited_for(clock: ManualClock) -> None:
    """The origin of a token set tells whether its request had to wait."""
    waiting = Waiting(clock, clock.monotonic() + 15.0, AnswerTimes())
    assert waiting.origin == "row"
    waiting.sleep(a_grant(clock), wait(clock))
    assert waiting.origin == "waited"


def test_a_wait_after_a_doubt_looks_when_the_replay_is_due(clock: ManualClock) -> None:
    """Whoever waited for a doubt to settle waits for the replay as for any other answer."""
    waiting = Waiting(clock, clock.monotonic() + 15.0, AnswerTimes())
    waiting.sleep(a_grant(clock), InDoubt(clock.time() + 2.0))
    waiting.sleep(a_grant(clock), wait(clock))
    assert clock.monotonic() == pytest.approx(2.0 + FIRST_GUESS)
