"""When a provider is not asked any more, and when it is asked again."""

from __future__ import annotations

import pytest

from flask_tokenrotate.rotation.breaker import FAILING_GRANTS, LONGEST_PAUSE, Breaker
from flask_tokenrotate.rotation.tokens import Secret, TokenResponse
from flask_tokenrotate.rotation.verdict import (
    Busy,
    Misconfigured,
    NotSent,
    Refused,
    Rotated,
    Unknown,
    Verdict,
)
from flask_tokenrotate.testing import ManualClock

BUSY = Busy(cause="http_503")
PROBE_SECONDS = 7.0
ANSWERS = [
    Rotated(response=TokenResponse(access_token=Secret("access"))),
    Refused(error="invalid_grant"),
    Misconfigured(error="invalid_client", cure="Check it."),
]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def breaker(clock: ManualClock) -> Breaker:
    return Breaker(clock, backoff=1.0, backoff_limit=60.0, probe_seconds=PROBE_SECONDS, jitter=lambda: 0.5)


def fail(breaker: Breaker, count: int = FAILING_GRANTS, verdict: Verdict = BUSY) -> None:
    """Let ``count`` different grants fail at provider ``p``."""
    for number in range(count):
        breaker.record("p", f"grant-{number}", verdict)


class TestOpening:
    """It takes several grants in a row."""

    @pytest.mark.parametrize(
        "verdict", [BUSY, NotSent(cause="refused"), Unknown(cause="read time-out", timed_out=True)]
    )
    def test_the_fifth_failing_grant_opens_it(self, breaker: Breaker, verdict: Verdict) -> None:
        """Up to the fourth nothing changes, whatever kind of failure it is."""
        fail(breaker, FAILING_GRANTS - 1, verdict)
        assert breaker.admit("p", "other") == 0.0
        fail(breaker, FAILING_GRANTS, verdict)
        assert breaker.admit("p", "other") > 0.0

    def test_one_grant_alone_never_opens_it(self, breaker: Breaker) -> None:
        """A limit on one user is no outage."""
        for _ in range(50):
            breaker.record("p", "grant-0", BUSY)
        assert breaker.admit("p", "other") == 0.0

    @pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: type(answer).__name__)
    def test_an_answer_in_between_starts_the_count_again(self, breaker: Breaker, answer: Verdict) -> None:
        """A provider that answers one of five is not away."""
        fail(breaker, FAILING_GRANTS - 1)
        breaker.record("p", "answered", answer)
        breaker.record("p", "fifth", BUSY)
        assert breaker.admit("p", "other") == 0.0

    def test_providers_are_kept_apart(self, breaker: Breaker) -> None:
        """The outage of one is nothing to the other."""
        fail(breaker)
        assert breaker.admit("q", "other") == 0.0


class TestOpen:
    """One probe for each pause."""

    def test_one_probe_goes_through_when_the_pause_is_over(
        self, breaker: Breaker, clock: ManualClock
    ) -> None:
        """The second caller of the same moment waits for the probe's answer."""
        fail(breaker)
        clock.advance(0.999)
        assert breaker.admit("p", "early") == pytest.approx(0.001 + 0.5)
        clock.advance(0.001)
        assert breaker.admit("p", "probe") == 0.0
        assert breaker.admit("p", "second") == pytest.approx(PROBE_SECONDS + 1.0 + 0.5)

    def test_the_pause_doubles_with_each_failed_probe_up_to_its_limit(
        self, breaker: Breaker, clock: ManualClock
    ) -> None:
        """An hour's outage costs a bounded number of calls: about four a minute for each process."""
        fail(breaker)
        probes = []
        while clock.monotonic() < 3600.0:
            if breaker.admit("p", "probe") == 0.0:
                probes.append(clock.monotonic())
                breaker.record("p", "probe", BUSY)
            clock.advance(0.25)
        assert probes[:5] == [1.0, 3.0, 7.0, 15.0, 30.0]
        assert len(probes) <= 4 + 3600.0 / LONGEST_PAUSE

    def test_a_probe_that_never_comes_back_does_not_keep_it_open(
        self, breaker: Breaker, clock: ManualClock
    ) -> None:
        """It may have lost its claim, or its thread: the next one goes after the time that it had."""
        fail(breaker)
        clock.advance(1.0)
        assert breaker.admit("p", "probe") == 0.0
        clock.advance(PROBE_SECONDS + 1.0)
        assert breaker.admit("p", "next") == 0.0

    def test_calls_that_were_under_way_do_not_lengthen_the_pause(
        self, breaker: Breaker, clock: ManualClock
    ) -> None:
        """Thirty threads that fail together count as one failure."""
        fail(breaker, 30)
        clock.advance(1.0)
        assert breaker.admit("p", "probe") == 0.0

    def test_retry_after_is_waited_for(self, breaker: Breaker, clock: ManualClock) -> None:
        """What the provider asks for counts where it is longer than the pause."""
        fail(breaker, verdict=Busy(cause="http_429", retry_after=40.0))
        clock.advance(39.9)
        assert breaker.admit("p", "early") > 0.0
        clock.advance(0.1)
        assert breaker.admit("p", "probe") == 0.0

    def test_those_who_are_sent_away_do_not_come_back_together(self, clock: ManualClock) -> None:
        """What they are told to wait differs by up to a pause."""
        draws = iter([0.5, 0.0, 0.4, 0.8])
        breaker = Breaker(
            clock,
            backoff=1.0,
            backoff_limit=60.0,
            probe_seconds=PROBE_SECONDS,
            jitter=lambda: next(draws),
        )
        fail(breaker)
        assert [breaker.admit("p", "g") for _ in range(3)] == pytest.approx([1.0, 1.4, 1.8])

    @pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: type(answer).__name__)
    def test_any_answer_closes_it(self, breaker: Breaker, clock: ManualClock, answer: Verdict) -> None:
        """The provider is there; all may ask at once, and the next outage starts with a short pause."""
        fail(breaker)
        clock.advance(1.0)
        breaker.admit("p", "probe")
        breaker.record("p", "probe", answer)
        assert [breaker.admit("p", "g"), breaker.admit("p", "h")] == [0.0, 0.0]
        fail(breaker)
        assert breaker.admit("p", "g") == pytest.approx(1.0 + 0.5)

    def test_a_forked_child_starts_anew(self, breaker: Breaker) -> None:
        """What the parent's threads were at says nothing about the child's."""
        fail(breaker)
        breaker.forget()
        assert breaker.admit("p", "g") == 0.0
