"""When a provider is not asked any more, and when it is asked again."""

from __future__ import annotations

import pytest

from flask_tokenrotate.rotation.breaker import FAILING_GRANTS, LONGEST_PAUSE, Admitted, Breaker
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
RESPONSES = [
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
        assert (breaker.is_open("p"), breaker.admit("p", "other").pause) == (False, 0.0)
        fail(breaker, FAILING_GRANTS, verdict)
        assert breaker.is_open("p")
        assert breaker.admit("p", "other").pause > 0.0

    def test_one_grant_alone_never_opens_it(self, breaker: Breaker) -> None:
        """A limit on one user is no outage."""
        for _ in range(50):
            breaker.record("p", "grant-0", BUSY)
        assert breaker.admit("p", "other").pause == 0.0

    @pytest.mark.parametrize("response", RESPONSES, ids=lambda response: type(response).__name__)
    def test_a_response_in_between_starts_the_count_again(self, breaker: Breaker, response: Verdict) -> None:
        """A provider that responds to one of five is not away."""
        fail(breaker, FAILING_GRANTS - 1)
        breaker.record("p", "responded", response)
        breaker.record("p", "fifth", BUSY)
        assert breaker.admit("p", "other").pause == 0.0

    def test_providers_are_kept_apart(self, breaker: Breaker) -> None:
        """The outage of one is nothing to the other."""
        fail(breaker)
        assert breaker.admit("q", "other").pause == 0.0


class TestOpen:
    """One probe for each pause."""

    def test_one_probe_is_admitted_when_the_pause_is_over(self, breaker: Breaker, clock: ManualClock) -> None:
        """The second caller of the same moment waits for the probe's response."""
        fail(breaker)
        clock.advance(0.999)
        assert breaker.admit("p", "early").pause == pytest.approx(0.001 + 0.5)
        clock.advance(0.001)
        assert breaker.admit("p", "probe").pause == 0.0
        assert breaker.admit("p", "second").pause == pytest.approx(PROBE_SECONDS + 1.0 + 0.5)

    def test_the_pause_doubles_with_each_failed_probe_up_to_its_limit(
        self, breaker: Breaker, clock: ManualClock
    ) -> None:
        """An hour's outage costs a bounded number of calls: about four a minute for each process."""
        fail(breaker)
        probes = []
        while clock.monotonic() < 3600.0:
            if breaker.admit("p", "probe").pause == 0.0:
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
        assert breaker.admit("p", "probe").pause == 0.0
        clock.advance(PROBE_SECONDS + 1.0)
        assert breaker.admit("p", "next").pause == 0.0

    def test_calls_that_were_under_way_do_not_lengthen_the_pause(
        self, breaker: Breaker, clock: ManualClock
    ) -> None:
        """Thirty threads that fail together count as one failure."""
        fail(breaker, 30)
        clock.advance(1.0)
        assert breaker.admit("p", "probe").pause == 0.0

    def test_retry_after_is_waited_for(self, breaker: Breaker, clock: ManualClock) -> None:
        """What the provider asks for counts where it is longer than the pause."""
        fail(breaker, verdict=Busy(cause="http_429", retry_after=40.0))
        clock.advance(39.9)
        assert breaker.admit("p", "early").pause > 0.0
        clock.advance(0.1)
        assert breaker.admit("p", "probe").pause == 0.0

    def test_those_who_are_sent_away_do_not_come_back_together(self, clock: ManualClock) -> None:
        """What they have to wait differs by up to a pause."""
        draws = iter([0.5, 0.0, 0.4, 0.8])
        breaker = Breaker(
            clock,
            backoff=1.0,
            backoff_limit=60.0,
            probe_seconds=PROBE_SECONDS,
            jitter=lambda: next(draws),
        )
        fail(breaker)
        assert [breaker.admit("p", "g").pause for _ in range(3)] == pytest.approx([1.0, 1.4, 1.8])

    @pytest.mark.parametrize("response", RESPONSES, ids=lambda response: type(response).__name__)
    def test_any_response_closes_it(self, breaker: Breaker, clock: ManualClock, response: Verdict) -> None:
        """The provider is there; all may ask at once, and the next outage starts with a short pause."""
        fail(breaker)
        clock.advance(1.0)
        breaker.admit("p", "probe")
        breaker.record("p", "probe", response)
        assert [breaker.admit("p", each) for each in "gh"] == [Admitted(), Admitted()]
        fail(breaker)
        assert breaker.admit("p", "g").pause == pytest.approx(1.0 + 0.5)

    def test_a_forked_child_starts_anew(self, breaker: Breaker) -> None:
        """What the parent's threads were at says nothing about the child's."""
        fail(breaker)
        breaker.reset()
        assert breaker.admit("p", "g").pause == 0.0


class TestOverdue:
    """A call without a response counts as failed from the moment it is overdue."""

    def test_overdue_calls_open_it(self, breaker: Breaker) -> None:
        """A provider that accepts and never responds holds no more than a few requests."""
        for number in range(FAILING_GRANTS):
            assert breaker.admit("p", "other").pause == 0.0
            breaker.overdue("p", f"grant-{number}")
        assert breaker.admit("p", "other").pause > 0.0

    def test_a_call_that_is_overdue_and_then_fails_counts_once(self, breaker: Breaker) -> None:
        """Its verdict, a minute later, says nothing new."""
        for number in range(FAILING_GRANTS - 1):
            breaker.overdue("p", f"grant-{number}")
            breaker.record("p", f"grant-{number}", Unknown(cause="read time-out", timed_out=True))
        assert breaker.admit("p", "other").pause == 0.0

    def test_a_late_response_closes_it(self, breaker: Breaker) -> None:
        """The provider was slow, and is there."""
        for number in range(FAILING_GRANTS):
            breaker.overdue("p", f"grant-{number}")
        breaker.record("p", "grant-0", RESPONSES[0])
        assert breaker.admit("p", "other").pause == 0.0

    def test_a_probe_that_is_overdue_lengthens_the_pause_once(
        self, breaker: Breaker, clock: ManualClock
    ) -> None:
        """The next probe need not wait for its end, and its end does not count again."""
        fail(breaker)
        clock.advance(1.0)
        assert breaker.admit("p", "probe") == Admitted(is_probe=True)
        clock.advance(PROBE_SECONDS)
        breaker.overdue("p", "probe")
        assert breaker.admit("p", "other").pause == pytest.approx(2.0 + 2.0 * 0.5)
        clock.advance(1.0)
        breaker.record("p", "probe", Unknown(cause="read time-out", timed_out=True))
        assert breaker.admit("p", "other").pause == pytest.approx(1.0 + 2.0 * 0.5)
        clock.advance(1.0)
        assert breaker.admit("p", "next").is_probe
